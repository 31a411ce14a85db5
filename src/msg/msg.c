/*
 * msg.c: packs and unpacks the records between processes, by a table that
 * msg.def expands to.  Any process; owns nothing.
 *
 * A record is its numbers in order, then each string's length (32 bits) and
 * bytes, as the fields are listed.  Unpacking checks every length and must
 * end at the record's last byte.
 */
#include <stddef.h>
#include <string.h>

#include "base/must.h"
#include "msg/msg.h"

enum field_kind { FIELD_U8, FIELD_U32, FIELD_64, FIELD_UUID, FIELD_HASH, FIELD_STR };

struct field {
	uint16_t offset;
	uint8_t kind;
};

static const uint8_t field_size[] = { [FIELD_U8] = 1, [FIELD_U32] = 4, [FIELD_64] = 8,
    [FIELD_UUID] = 16, [FIELD_HASH] = 32 };

static void
pack(struct buf *out, const void *m, const struct field *fields, size_t count)
{
	const char *base = m;

	for (size_t i = 0; i < count; i++) {
		const char *at = base + fields[i].offset;

		if (fields[i].kind == FIELD_STR) {
			struct slice s;
			uint32_t len;

			memcpy(&s, at, sizeof(s));
			must(s.len <= UINT32_MAX);
			len = (uint32_t)s.len;
			buf_put(out, &len, sizeof(len));
			buf_put(out, s.p, s.len);
		} else {
			buf_put(out, at, field_size[fields[i].kind]);
		}
	}
}

static int
unpack(void *m, const uint8_t *p, size_t len, const struct field *fields, size_t count)
{
	char *base = m;
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		char *at = base + fields[i].offset;

		if (fields[i].kind == FIELD_STR) {
			struct slice s;
			uint32_t n;

			if (len - used < sizeof(n))
				return -1;
			memcpy(&n, p + used, sizeof(n));
			used += sizeof(n);
			if (len - used < n)
				return -1;
			s = slice_bytes(p + used, n);
			memcpy(at, &s, sizeof(s));
			used += n;
		} else {
			size_t n = field_size[fields[i].kind];

			if (len - used < n)
				return -1;
			memcpy(at, p + used, n);
			used += n;
		}
	}
	return used == len ? 0 : -1;
}

/* THIS is the record's struct, a typedef local to each function below. */
#define HERE(f, kind) { offsetof(THIS, f), kind },
#define U8(f)	HERE(f, FIELD_U8)
#define U32(f)	HERE(f, FIELD_U32)
#define U64(f)	HERE(f, FIELD_64)
#define I64(f)	HERE(f, FIELD_64)
#define REF(f)	HERE(f, FIELD_64)
#define UUID(f)	HERE(f, FIELD_UUID)
#define HASH(f)	HERE(f, FIELD_HASH)
#define STR(f)	HERE(f, FIELD_STR)

#define MSG(name, sender, receiver, reply, what, fields) \
	void \
	msg_pack_##name(struct buf *out, const struct msg_##name *m) \
	{ \
		typedef struct msg_##name THIS; \
		static const struct field table[] = { fields }; \
		pack(out, m, table, sizeof(table) / sizeof(table[0])); \
	} \
	int \
	msg_unpack_##name(struct msg_##name *m, const uint8_t *p, size_t len) \
	{ \
		typedef struct msg_##name THIS; \
		static const struct field table[] = { fields }; \
		return unpack(m, p, len, table, sizeof(table) / sizeof(table[0])); \
	}
#include "msg/msg.def"
#undef MSG
#undef U8
#undef U32
#undef U64
#undef I64
#undef REF
#undef UUID
#undef HASH
#undef STR

/* The compiler knows which of these are equal. */
#define IS(f, name) (strcmp(#f, name) == 0)
#define U8(f)
#define U32(f)
#define I64(f)
#define UUID(f)
#define HASH(f)
#define U64(f)	if (IS(f, "request")) whose.request = m->f;
#define REF(f)	if (IS(f, "ref")) whose.ref = m->f;
#define STR(f)	if (IS(f, "tenant")) whose.tenant = m->f; if (IS(f, "user")) whose.user = m->f;
#define MSG(name, sender, receiver, reply, what, fields) \
	struct msg_whose \
	msg_whose_##name(const struct msg_##name *m) \
	{ \
		struct msg_whose whose = { 0, 0, { NULL, 0 }, { NULL, 0 } }; \
		(void)m; \
		fields \
		return whose; \
	}
#include "msg/msg.def"
#undef MSG

const char *
msg_kind_name(unsigned kind)
{
	static const char *const names[MSG_KIND_COUNT] = {
		[MSG_none] = "none",
#define MSG(name, sender, receiver, reply, what, fields) [MSG_##name] = #name,
#include "msg/msg.def"
#undef MSG
	};

	return kind < MSG_KIND_COUNT ? names[kind] : "unknown";
}
