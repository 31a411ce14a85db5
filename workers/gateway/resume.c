/*
 * resume.c: where a dashboard begins, and what it missed; see resume.h.  One gateway process.
 *
 *	1. a part is asked for: behind which place, up to which (the newest one when it began)
 *	2. before the first part the greeting is sent, with the place; the part is sent; when it has left, 1 again
 *	3. the last part: `resumed` or `gap`, then what was held and comes behind it
 *	   or, where something held was forgotten: 1, up to the place that is the newest now
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/resume.h"
#include "gateway/session.h"
#include "ws/frame.h"

#define HELD_MAX	1024		/* publications */
#define HELD_SHARE	4		/* of limits.send_buffer: bytes held */
#define DEATHS_MAX	3
#define GREET_S		2		/* one that resumes nothing waits for its place no longer */
#define ROUNDS_MAX	100		/* times that the log is read on; then it is a gap */

struct held {
	struct frame *frame;		/* a reference */
	int64_t place;			/* 0: none */
	bool status;			/* a command's, of which the log knows the newer ones */
};

struct resuming {
	int64_t after, until;		/* places */
	enum resume_from begin;	/* of the part that is asked for */
	bool fresh;			/* it resumes nothing: it begins now */
	bool greeted;
	uint32_t count;			/* events given */
	unsigned rounds;
	unsigned deaths;		/* of readers over this part */
	bool due;			/* the next part is to be asked for when all has been sent */
	bool forgotten;			/* something held was */
	struct held *held;		/* owned */
	size_t held_count, held_cap, held_bytes;
};

static void
forget(struct resuming *r)
{
	for (size_t i = 0; i < r->held_count; i++)
		frame_put(r->held[i].frame);
	r->held_count = 0;
	r->held_bytes = 0;
}

void
resume_free(struct resuming **rp)
{
	struct resuming *r = *rp;

	if (r == NULL)
		return;
	forget(r);
	free(r->held);
	free(r);
	*rp = NULL;
}

static struct resuming *
resuming_of(const struct conn *c)
{
	return conn_phase(c) == CONN_RESUMING && !c->doomed ? c->http->resuming : NULL;
}

static bool
waits(const struct conn *c, const struct ask *a)
{
	(void)a;
	return resuming_of(c) != NULL;
}

static void
failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	(void)a;
	(void)code;
	resume_failed(g, c);
}

static void ask_part(struct gateway *g, struct conn *c);

/* Its reader died, perhaps over this part. */
static void
ask_again(struct gateway *g, struct ask *a)
{
	struct conn *c = conn_of_ref(g, a->ref);

	ask_free(g, a);
	if (c == NULL || resuming_of(c) == NULL)
		return;
	if (++c->http->resuming->deaths < DEATHS_MAX)
		ask_part(g, c);
	else
		resume_failed(g, c);
}

static const struct ask_ops asks = { .waits = waits, .failed = failed, .again = ask_again };

static void
ask_part(struct gateway *g, struct conn *c)
{
	struct resuming *r = c->http->resuming;
	struct ask *a = ask_new(g, c, &asks, SLICE_NONE);
	struct msg_resume m = {
		.ref = conn_ref(g, c), .role = c->role, .begin = (uint8_t)r->begin,
		.limit = g->conf->limits_replay, .count = r->count,
		.after = r->after, .until = r->until,
		.tenant = tenant_name(c->user->tenant), .user = user_name(c->user), .cursor = slice_of(c->http->resume)
	};

	r->due = false;
	/* The second in hand is nearly over, maybe. */
	wheel_set(&g->wheel, &g->conns, c, g->wheel.now +
	    (r->fresh && !r->greeted ? GREET_S + 1 : ASK_TIMEOUT_MS / 1000));
	reads_ask(g, a, resume, &m, true);
}

/* Accepted, and given what it missed before it takes and gives. */
static const struct conn_state resumes = {
	.phase = CONN_RESUMING, .input = http_hold_input, .timer = resume_failed, .sent = resume_sent, .full = ws_slow,
	.lost = ws_lost
};

void
resume_begin(struct gateway *g, struct conn *c)
{
	struct resuming *r = must_alloc(sizeof(*r));

	r->fresh = !c->http->resumes;
	r->begin = r->fresh ? RESUME_NOW : RESUME_CURSOR;
	c->http->resuming = r;
	conn_become(c, &resumes);
	if (!r->fresh)
		output_release(g, c);	/* the handshake leaves; with one that begins now it is for the greeting to */
	ask_part(g, c);
}

static void finish(struct gateway *g, struct conn *c, const struct msg_resume_part *m);

static void
greet(struct gateway *g, struct conn *c, struct slice cursor)
{
	c->http->resuming->greeted = true;
	session_greet(g, c, cursor);
	if (resuming_of(c) != NULL)
		output_release(g, c);
}

void
resume_failed(struct gateway *g, struct conn *c)
{
	struct resuming *r = resuming_of(c);
	struct msg_resume_part nothing = { .last = 1 };

	if (r == NULL || !r->fresh || r->greeted) {
		conn_close(g, c, WS_CLOSE_OVERLOADED);
		return;
	}
	greet(g, c, SLICE_NONE);
	if (resuming_of(c) != NULL)
		finish(g, c, &nothing);
}

/* ------------------------------------------------------------------ what is published meanwhile */

void
resume_dropped(struct conn *c)
{
	struct resuming *r = resuming_of(c);

	if (r == NULL)
		return;
	forget(r);
	r->forgotten = true;
}

void
resume_hold(struct gateway *g, struct conn *c, int64_t place, bool status, struct frame *f)
{
	struct resuming *r = resuming_of(c);

	if (r == NULL)
		return;
	if (r->held_count == HELD_MAX ||
	    r->held_bytes + frame_cost(f) > g->conf->limits_send_buffer_bytes / HELD_SHARE) {
		resume_dropped(c);
		return;
	}
	if (r->held_count == r->held_cap) {
		r->held_cap = r->held_cap > 0 ? r->held_cap * 2 : 8;
		r->held = must_realloc(r->held, r->held_cap * sizeof(*r->held));
	}
	r->held[r->held_count++] = (struct held){ frame_get(f), place, status };
	r->held_bytes += frame_cost(f);
}

/*
 * What comes behind the place that was replayed.  A command's change that is no event has no place: where something
 * published after it was replayed, so was what became of the command since.  true: something from behind that place
 * was given.
 */
static bool
give_held(struct gateway *g, struct conn *c, struct resuming *r)
{
	size_t replayed = 0;		/* up to here all was */
	bool news = false;

	for (size_t i = 0; i < r->held_count; i++)
		if (r->held[i].place != 0 && r->held[i].place <= r->until)
			replayed = i + 1;
	for (size_t i = 0; i < r->held_count && !c->doomed; i++) {
		const struct held *h = &r->held[i];

		if (h->place != 0 ? h->place <= r->until : h->status && i < replayed)
			continue;
		news = news || h->place != 0;
		output_send(g, c, h->frame);
		party_count_out(g, c);
		gateway_count(g, DELIVERIES, 1);
	}
	return news;
}

/* ------------------------------------------------------------------ parts */

static void
send_messages(struct gateway *g, struct conn *c, struct slice messages)
{
	while (messages.len > sizeof(uint32_t) && resuming_of(c) != NULL) {
		struct frame *f;
		uint32_t len;

		memcpy(&len, messages.p, sizeof(len));
		must(len <= messages.len - sizeof(len));
		f = frame_new(WS_FIN | WS_OP_TEXT, (struct slice){ messages.p + sizeof(len), len });
		output_send(g, c, f);
		frame_put(f);
		party_count_out(g, c);
		messages.p += sizeof(len) + len;
		messages.len -= sizeof(len) + len;
	}
}

static void
send_resumed(struct gateway *g, struct conn *c, uint32_t count)
{
	buf_clear(&g->payload);
	buf_puts(&g->payload, "{\"replayed\":");
	buf_put_u64(&g->payload, count);
	buf_putc(&g->payload, '}');
	conn_send(g, c, "resumed", SLICE_NONE, buf_slice(&g->payload), SLICE_NONE);
}

/* The log was read as far as it went when this began. */
static void
finish(struct gateway *g, struct conn *c, const struct msg_resume_part *m)
{
	struct resuming *r = c->http->resuming;
	int64_t until;
	bool news;

	if (m->code == ERROR_NONE && r->forgotten && ++r->rounds < ROUNDS_MAX) {
		r->forgotten = false;
		r->after = r->until;
		r->until = 0;		/* … and behind that, up to the newest of now */
		r->due = true;
		resume_sent(g, c);
		return;
	}
	if (m->code != ERROR_NONE)
		session_gap(g, c, m->dropped, m->since);
	else if (r->forgotten)
		session_gap(g, c, 1, g->w->now_ms);
	else if (!r->fresh)
		send_resumed(g, c, r->count);
	if (resuming_of(c) == NULL)
		return;
	c->http->resuming = NULL;	/* what is sent now is no longer held */
	news = give_held(g, c, r);
	until = r->fresh ? 0 : r->until;	/* what it stood behind, and is told all the same, does no harm */
	resume_free(&r);
	if (conn_phase(c) != CONN_RESUMING || c->doomed)
		return;
	if (news)
		until = 0;
	session_start(g, c, until);
}

void
resume_part(struct gateway *g, const struct msg_resume_part *m)
{
	struct ask *a = ask_find(g, m->request);
	struct conn *c = conn_of_ref(g, m->ref);
	struct resuming *r;

	if (a == NULL)
		return;
	ask_free(g, a);
	if (c == NULL || (r = resuming_of(c)) == NULL)
		return;
	if (m->code == ERROR_unavailable) {
		resume_failed(g, c);
		return;
	}
	/* A client that reads slowly may outlive its token over this. */
	if (r->greeted && c->expires_ms != 0 && g->w->now_ms >= c->expires_ms) {
		conn_close(g, c, WS_CLOSE_TOKEN_EXPIRED);
		return;
	}
	r->after = m->after;
	r->until = m->until;
	r->count = m->count;
	r->deaths = 0;
	r->begin = RESUME_ON;
	if (!r->greeted) {
		greet(g, c, m->cursor);
		if (resuming_of(c) == NULL)
			return;
	}
	send_messages(g, c, m->messages);
	if (resuming_of(c) == NULL)
		return;
	if (m->last) {
		finish(g, c, m);
	} else {
		r->due = true;
		resume_sent(g, c);
	}
}

void
resume_sent(struct gateway *g, struct conn *c)
{
	struct resuming *r = resuming_of(c);

	if (r == NULL || !r->due)
		return;
	if (output_is_behind(c))	/* as long as it takes anything at all */
		wheel_set(&g->wheel, &g->conns, c, g->wheel.now + ASK_TIMEOUT_MS / 1000);
	else
		ask_part(g, c);
}
