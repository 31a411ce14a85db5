/*
 * names.c: a set of texts that keeps their order, by open addressing.  Any process.
 */
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/json.h"
#include "base/must.h"
#include "base/names.h"

#define SPOTS_MIN 32u

void
names_init(struct names *names, const uint8_t key[16])
{
	memset(names, 0, sizeof(*names));
	names->key = key;
	names->spot_count = SPOTS_MIN;
	names->spots = must_alloc(names->spot_count * sizeof(*names->spots));
}

void
names_fini(struct names *names)
{
	free(names->v);
	free(names->spots);
	memset(names, 0, sizeof(*names));
}

/* Where the text is, or would be. */
static uint32_t *
spot_of(const struct names *names, struct slice text)
{
	uint64_t hash = digest_sip64(names->key, text.p, text.len);

	for (;; hash++) {
		uint32_t *spot = &names->spots[hash & (names->spot_count - 1)];

		if (*spot == 0 || slice_eq(names->v[*spot - 1], text))
			return spot;
	}
}

static void
grow(struct names *names)
{
	names->cap = names->cap == 0 ? SPOTS_MIN / 2 : names->cap * 2;
	names->v = must_realloc(names->v, names->cap * sizeof(*names->v));
	names->spot_count = names->cap * 4;
	free(names->spots);
	names->spots = must_alloc(names->spot_count * sizeof(*names->spots));
	for (uint32_t i = 0; i < names->n; i++)
		*spot_of(names, names->v[i]) = i + 1;
}

bool
names_add(struct names *names, struct slice text)
{
	if (names_has(names, text))
		return false;
	if (names->n == names->cap)
		grow(names);
	names->v[names->n++] = text;
	*spot_of(names, text) = names->n;
	return true;
}

bool
names_has(const struct names *names, struct slice text)
{
	return *spot_of(names, text) != 0;
}

void
names_add_json(struct names *names, struct slice array_json, struct buf *scratch)
{
	struct json_value array = { JSON_KIND_ARRAY, array_json }, v;
	struct json_iter it;
	struct slice text;

	buf_reserve(scratch, array_json.len);	/* decoding must not move what was decoded */
	json_iter_init(&it, array);
	while (json_array_next(&it, &v))
		if (json_text(v, scratch, &text) == 0)
			(void)names_add(names, text);
}
