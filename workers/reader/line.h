/*
 * line.h: whose turn it is.  Tenants take turns, within a tenant its users, and what one user asked is answered in the
 * order in which it was asked.
 */
#ifndef BELAY_READER_LINE_H
#define BELAY_READER_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/digest.h"

struct line_group;

/* What waits; embedded in the waiting thing. */
struct waiter {
	struct waiter *next;		/* of the same user */
	struct line_group *user;
};

struct line {
	struct line_group **buckets;	/* owned: groups by key */
	unsigned bucket_count, group_count;
	struct line_group *turn;	/* ring of tenants; whose turn it is */
	size_t waiting;
};

void line_init(struct line *l);
void line_fini(struct line *l);		/* nothing waits any more */
/* At the end of its user's; the keys name tenant and user (and differ). */
void line_put(struct line *l, struct hash128 tenant, struct hash128 user, struct waiter *w);
/*
 * Whose turn it is: it stays where it is.  NULL: nobody waits.  The turn passes to the next tenant, and in this one to
 * the next user.
 */
struct waiter *line_next(struct line *l);
/* All that one user waits for. */
void line_each(struct line *l, struct hash128 user, void (*cb)(void *arg, struct waiter *w), void *arg);
/* It waits no more: it must be the first of its user's, as line_next() gave it. */
void line_remove(struct line *l, struct waiter *w);

#endif
