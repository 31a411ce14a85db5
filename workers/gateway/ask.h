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

#include <stdint.h>

#include "base/slice.h"
#include "msg/msg.h"

struct conn;
struct gather;
struct gateway;

#define ASK_TIMEOUT_MS MSG_ANSWER_MS
#define ASK_PROBE_MS 3000		/* health does not wait as long */
#define ASK_RE_MAX 256			/* bytes: 64 characters */

enum ask_kind {
	ASK_WELCOME,			/* a device's token */
	ASK_OK,				/* a device's message: answered by ok or error */
	ASK_SUBSCRIBE,			/* a dashboard's: answered by ok with the list */
	ASK_UNSUBSCRIBE,
	ASK_RESUME,			/* a dashboard's: what it missed, then resumed or gap */
	ASK_VISITOR,			/* a dashboard's decision: answered by visitor_decided */
	ASK_COMMAND,			/* a dashboard's: answered by command_status */
	ASK_CANCEL,
	ASK_REST,			/* HTTP: status and body as they come */
	ASK_COMMAND_REST,		/* HTTP: 202 with the command */
	ASK_COMMAND_WAIT,		/* HTTP with ?wait=1: answered when the command ended */
	ASK_COMMAND_LOOK,		/* HTTP with ?wait=1: how is it now? */
	ASK_PROBE,			/* health */
	ASK_TICKET,			/* HTTP: a ticket is stored */
	ASK_GATHER,			/* HTTP: all gateways are asked (users.c) */
	ASK_METRICS,			/* HTTP: counts of storage, and then those of all gateways */
	ASK_TICKET_TAKE,		/* an upgrade's ticket: whose is it? */
	ASK_REFRESH,			/* a device's own token, once more: answered by ok */
	ASK_OWN,			/* HTTP: whose is a device's token? */
	ASK_ROTATE			/* a device's new token: answered by ok with the token */
};

struct ask {
	uint64_t request;		/* never 0 */
	uint64_t ref;			/* the client's connection */
	struct ask *next;		/* hash chain */
	struct ask *older, *newer;	/* by age */
	int64_t since_ms;		/* monotonic */
	int64_t until_ms;
	uint8_t kind;			/* enum ask_kind */
	struct gather *gather;		/* owned; ASK_GATHER */
	struct read *read;		/* owned; NULL: no reader is asked */
	uint8_t extra;			/* the kind's own */
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
struct ask *ask_new(struct gateway *g, struct conn *c, enum ask_kind kind, struct slice re);
struct ask *ask_find(struct gateway *g, uint64_t request);	/* NULL: not waited for */
static inline struct slice
ask_re(const struct ask *a)
{
	return a->re_len == 0xffff ? SLICE_NONE : (struct slice){ a->re, a->re_len };
}
void ask_free(struct gateway *g, struct ask *a);
/* Answers what waited too long with `unavailable`. */
void ask_tick(struct gateway *g);

#endif
