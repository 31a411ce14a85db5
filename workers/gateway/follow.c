/*
 * follow.c: ids of requests that are answered more than once.  One gateway process; nothing here is
 * needed for what is told, only for the id under which it is told.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/follow.h"
#include "gateway/gateway.h"
#include "shm/ref.h"

#define BUCKETS_MIN 64u
#define SWEEP_MS 1000		/* a full table is looked through so often at most */

struct follow {
	struct follow *next;
	uint64_t ref;			/* of the connection that asked */
	int64_t until_ms;		/* monotonic; 0: the command runs */
	uint8_t command[UUID_LEN];
	uint16_t re_len;
	char re[];
};

/* The end of a UUIDv7 is random. */
static struct follow **
bucket_of(const struct follow_table *t, const uint8_t command[UUID_LEN])
{
	uint32_t hash;

	memcpy(&hash, command + UUID_LEN - sizeof(hash), sizeof(hash));
	return &t->buckets[hash & (t->bucket_count - 1)];
}

void
follow_init(struct follow_table *t)
{
	memset(t, 0, sizeof(*t));
	t->bucket_count = BUCKETS_MIN;
	t->buckets = must_alloc(t->bucket_count * sizeof(struct follow *));
}

void
follow_fini(struct follow_table *t)
{
	for (uint32_t i = 0; i < t->bucket_count; i++)
		for (struct follow *f = t->buckets[i], *next; f != NULL; f = next) {
			next = f->next;
			free(f);
		}
	free(t->buckets);
	memset(t, 0, sizeof(*t));
}

/* Without what nobody waits for any more, and with twice as many buckets up to the most. */
static void
make_room(struct gateway *g)
{
	struct follow_table *t = &g->follows, old = *t;

	t->count = 0;
	t->swept_ms = g->w->mono_ms;
	t->bucket_count = old.bucket_count < FOLLOW_MAX ? old.bucket_count * 2 : FOLLOW_MAX;
	t->buckets = must_alloc(t->bucket_count * sizeof(struct follow *));
	for (uint32_t i = 0; i < old.bucket_count; i++)
		for (struct follow *f = old.buckets[i], *next; f != NULL; f = next) {
			struct follow **at = bucket_of(t, f->command);

			next = f->next;
			if (conn_of_ref(g, f->ref) == NULL || (f->until_ms != 0 && f->until_ms <= g->w->mono_ms)) {
				free(f);
				continue;
			}
			f->next = *at;
			*at = f;
			t->count++;
		}
	free(old.buckets);
}

/* Takes an entry of the command out of its bucket: that of one connection, or (REF_NONE) of any. */
static bool
take_out(struct gateway *g, const uint8_t command[UUID_LEN], uint64_t ref)
{
	struct follow **at = bucket_of(&g->follows, command), *f;

	for (; (f = *at) != NULL; at = &f->next) {
		if (memcmp(f->command, command, UUID_LEN) != 0 || (ref != REF_NONE && f->ref != ref))
			continue;
		*at = f->next;
		free(f);
		g->follows.count--;
		return true;
	}
	return false;
}

void
follow_add(struct gateway *g, const struct conn *c, const uint8_t command[UUID_LEN], struct slice re)
{
	struct follow_table *t = &g->follows;
	uint64_t ref = conn_ref(g, c);
	struct follow *f, **at;

	(void)take_out(g, command, ref);
	if (t->count >= t->bucket_count && (t->bucket_count < FOLLOW_MAX ||
	    g->w->mono_ms - t->swept_ms >= SWEEP_MS))
		make_room(g);
	if (t->count >= FOLLOW_MAX)
		return;
	must(re.len <= UINT16_MAX);
	f = must_realloc(NULL, sizeof(*f) + re.len);
	f->ref = ref;
	f->until_ms = 0;
	memcpy(f->command, command, UUID_LEN);
	f->re_len = (uint16_t)re.len;
	memcpy(f->re, re.p, re.len);
	at = bucket_of(t, command);
	f->next = *at;
	*at = f;
	t->count++;
}

struct slice
follow_re(struct gateway *g, const struct conn *c, const uint8_t command[UUID_LEN])
{
	uint64_t ref = conn_ref(g, c);

	for (struct follow *f = *bucket_of(&g->follows, command); f != NULL; f = f->next)
		if (f->ref == ref && memcmp(f->command, command, UUID_LEN) == 0)
			return (struct slice){ f->re, f->re_len };
	return SLICE_NONE;
}

void
follow_timed_out(struct gateway *g, const uint8_t command[UUID_LEN])
{
	for (struct follow *f = *bucket_of(&g->follows, command); f != NULL; f = f->next)
		if (memcmp(f->command, command, UUID_LEN) == 0)
			f->until_ms = g->w->mono_ms + FOLLOW_LATE_MS;
}

void
follow_end(struct gateway *g, const uint8_t command[UUID_LEN])
{
	while (take_out(g, command, REF_NONE))
		;
}
