/*
 * ask.h: what was asked of storage or a reader and is not answered yet.
 *
 * The asker keeps each question until the answer comes or its time is over
 * (ASK_TIMEOUT_MS).  Storage's mailbox outlives storage, so nothing is asked
 * of it twice; what readers are asked twice is in reads.h.  An answer nobody
 * waits for any more is dropped.
 */
#ifndef BELAY_GATEWAY_ASK_H
#define BELAY_GATEWAY_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "msg/error.h"
#include "msg/msg.h"

struct ask;
struct conn;
struct gateway;

#define ASK_TIMEOUT_MS MSG_ANSWER_MS
#define ASK_PROBE_MS 3000		/* health does not wait as long */
#define ASK_RE_MAX 256			/* bytes: 64 characters */

/*
 * What becomes of a question, as its asker has it: one table for each kind, beside the code that asks.
 * Nothing is called when the asker has gone, or does not wait any more; the question is freed after.
 */
struct ask_ops {
	bool (*waits)(const struct conn *c, const struct ask *a);
	/* NULL: another record answers, and who takes it frees the question. */
	void (*answer)(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m);
	/* No answer comes: ERROR_unavailable, or too_many where readers have enough to do for this user or tenant. */
	void (*failed)(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code);
	/* Whoever was asked is asked again: its process died.  NULL: the same record is handed over once more. */
	void (*again)(struct gateway *g, struct ask *a);
	void (*free)(struct ask *a);	/* frees a->own; NULL: there is nothing to free */
};

struct ask {
	uint64_t request;		/* never 0 */
	uint64_t ref;			/* the client's connection */
	struct ask *next;		/* hash chain */
	struct ask *older, *newer;	/* by age */
	int64_t since_ms;		/* monotonic */
	int64_t until_ms;
	const struct ask_ops *ops;
	void *own;			/* the kind's: ops->free() */
	struct read *read;		/* owned; NULL: no reader is asked */
	uint16_t re_len;		/* 0xffff: none */
	char re[];
};

struct ask_table {
	struct ask **buckets;
	uint32_t bucket_count, count;
	struct ask *oldest, *newest;
	uint64_t last_request;
};

void ask_init(struct ask_table *t, uint64_t first);
void ask_fini(struct ask_table *t);
/* Remembers a question; its number goes into the record's `request`.  re may be none. */
struct ask *ask_new(struct gateway *g, struct conn *c, const struct ask_ops *ops, struct slice re);
struct ask *ask_find(struct gateway *g, uint64_t request);	/* NULL: not waited for */
static inline struct slice
ask_re(const struct ask *a)
{
	return a->re_len == 0xffff ? SLICE_NONE : (struct slice){ a->re, a->re_len };
}
/* The connection that asked, if it still waits; NULL: it has gone, or does not. */
struct conn *ask_conn(struct gateway *g, const struct ask *a);
void ask_free(struct gateway *g, struct ask *a);
/* A reply of storage or a reader: its question is answered. */
void ask_answer(struct gateway *g, const struct msg_store_reply *m);
/* No answer comes; frees a. */
void ask_failed(struct gateway *g, struct ask *a, enum error_code code);
/* Answers what waited too long with `unavailable`. */
void ask_tick(struct gateway *g);

#endif
