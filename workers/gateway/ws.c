/*
 * ws.c: a client that speaks WebSocket: frames in and out, pings, the close handshake (RFC 6455).  One gateway
 * process.  What its messages mean is the session's.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "gateway/conn.h"
#include "gateway/device.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/limits.h"
#include "gateway/session.h"
#include "gateway/upgrade.h"
#include "gateway/ws.h"
#include "net/sock.h"
#include "ws/frame.h"

#define CLOSING_S 3			/* how long the peer's close frame is waited for, once ours is written */
#define CONN_RETRY_MS 5000		/* until a client that was refused may come back, where nothing says better */
#define LAST_WORDS_S 30			/* how long a peer that does not read keeps ours from being written */

/* ------------------------------------------------------------------ ends */

/* Nothing of the session is left, whatever it had come to. */
static void
end(struct gateway *g, struct conn *c, const char *cause)
{
	session_end(g, c, cause);
	http_end(g, c);
	reads_conn_gone(g, c);
}

void
ws_lost(struct gateway *g, struct conn *c)
{
	end(g, c, "connection_lost");
}

void
ws_slow(struct gateway *g, struct conn *c)
{
	gateway_count(g, SLOW_CONSUMERS, 1);
	conn_close(g, c, WS_CLOSE_SLOW_CONSUMER);
}

/* Our close frame is sent, the peer's is waited for. */
static const struct conn_state closing = {
	.phase = CONN_CLOSING, .input = ws_input, .timer = conn_drop, .sent = conn_hurry, .full = conn_drop
};

/*
 * Some libraries show a program no close code that they do not know, and 1013 is one of those: a
 * message before says why, and when to come back.
 */
static void
tell_retry(struct gateway *g, struct conn *c, enum ws_close row)
{
	struct envelope_fault fault;
	struct buf text = BUF_INIT;
	struct frame *f;
	bool busy = c->http != NULL && c->http->refusal_retry_ms > 0;

	envelope_fault_set(&fault, row == WS_CLOSE_TOO_MANY ? ERROR_too_many : ERROR_unavailable, NULL,
	    "%s", ws_close_reason(row));
	fault.retry_after_ms = busy ? c->http->refusal_retry_ms : CONN_RETRY_MS;
	envelope_error_put(&text, SLICE_NONE, &fault);
	f = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&text));
	output_send(g, c, f);
	frame_put(f);
	buf_fini(&text);
	party_count_out(g, c);
}

/* cause is what a device's disconnection is stored with. */
static void
close_with(struct gateway *g, struct conn *c, uint16_t code, struct slice reason, enum ws_close row)
{
	uint8_t bytes[WS_CLOSE_FRAME_MAX];
	char cause[32];
	struct frame *f;
	size_t n;

	if (c->doomed || conn_phase(c) == CONN_CLOSING)
		return;
	if (row == WS_CLOSE_OVERLOADED || row == WS_CLOSE_TOO_MANY) {
		tell_retry(g, c, row);
		if (c->doomed || conn_phase(c) == CONN_CLOSING)
			return;
	}
	if (row == WS_CLOSE_REPLACED)
		gateway_count(g, REPLACED, 1);
	if (g->conf->ws_close_codes == CONF_CLOSE_CODES_CLASSIC)
		code = ws_close_classic(code);
	snprintf(cause, sizeof(cause), "%s", row == WS_CLOSE_NONE ? "closed" : ws_close_name(row));
	for (char *p = cause; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	end(g, c, cause);
	conn_become(c, &closing);
	conn_pause_reading(g, c, false);	/* the peer's close frame may be behind other things */
	n = ws_close_put(bytes, code, reason.p, reason.len, NULL);
	f = frame_raw(slice_bytes(bytes, n));
	output_send(g, c, f);
	frame_put(f);
	/* conn_sent() shortens it as soon as the peer has taken all */
	wheel_set(&g->wheel, &g->conns, c, g->wheel.now + (g->w->draining ? CLOSING_S : LAST_WORDS_S));
}

void
conn_close_code(struct gateway *g, struct conn *c, uint16_t code, struct slice reason)
{
	close_with(g, c, code, reason, ws_close_of(code));
}

void
conn_close(struct gateway *g, struct conn *c, enum ws_close why)
{
	close_with(g, c, ws_close_code(why), slice_of(ws_close_reason(why)), why);
}

/* ------------------------------------------------------------------ out */

void
conn_send(struct gateway *g, struct conn *c, const char *type, struct slice re,
    struct slice payload_json, struct slice cursor)
{
	struct frame *f;

	buf_clear(&g->scratch);
	envelope_put(&g->scratch, type, re, payload_json, cursor);
	f = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&g->scratch));
	output_send(g, c, f);
	frame_put(f);
	party_count_out(g, c);
}

uint32_t
ws_heartbeat_s(const struct gateway *g)
{
	int64_t s = (g->conf->limits_heartbeat_ms + 999) / 1000;

	return s > 0 ? (uint32_t)s : 1;
}

/*
 * No answer between two pings: there is nobody any more.  But an answer may be late because what
 * stands before our ping is being read slowly.
 */
void
ws_heartbeat(struct gateway *g, struct conn *c)
{
	struct frame *f;

	/* Not heard: but is it listened to, and does it not read? */
	if (c->pinged && !c->heard && !c->waits && !net_is_read(conn_fd(c), ws_heartbeat_s(g) * INT64_C(1000))) {
		gateway_count(g, HEARTBEAT_LOST, 1);
		session_end(g, c, "heartbeat_timeout");
		conn_drop(g, c);
		return;
	}
	c->pinged = true;
	c->heard = false;
	c->ping_s = g->wheel.now + ws_heartbeat_s(g);
	if (c->writing)			/* what waits tells as much as one more ping behind it */
		return;
	c->pong_owed = true;
	f = frame_new(WS_FIN | WS_OP_PING, SLICE_NONE);
	output_send(g, c, f);
	frame_put(f);
}

/* ------------------------------------------------------------------ in */

/*
 * Control frames count like messages, and beyond the rate the connection rests and ends as with
 * those; but the newest ping is answered all the same (RFC 6455 section 5.5.2 wants an answer).
 */
static void
on_ping(struct gateway *g, struct conn *c, const struct ws_message *m)
{
	int64_t wait_ms;
	bool newest = c->kind != CONN_ECHO && !limits_message(g, c, &wait_ms);

	if (conn_phase(c) == CONN_CLOSING || c->doomed)
		return;
	if (c->kind == CONN_DEVICE)
		device_heard(g, c->device);
	output_pong(g, c, slice_bytes(m->data, m->len), newest);
}

static void
on_pong(struct gateway *g, struct conn *c)
{
	int64_t wait_ms;

	if (c->kind == CONN_DEVICE)
		device_heard(g, c->device);
	if (c->pong_owed)		/* asked for by us: it counts for nothing */
		c->pong_owed = false;
	else if (c->kind != CONN_ECHO)
		(void)limits_message(g, c, &wait_ms);
}

static void
echo(struct gateway *g, struct conn *c, const struct ws_message *m, uint8_t opcode)
{
	struct frame *f = frame_new(WS_FIN | opcode, slice_bytes(m->data, m->len));

	output_send(g, c, f);
	frame_put(f);
}

static void
on_close_frame(struct gateway *g, struct conn *c, const struct ws_message *m)
{
	uint8_t bytes[WS_CLOSE_FRAME_MAX];
	struct frame *f;
	size_t n;

	c->closed_by_peer = true;
	if (conn_phase(c) == CONN_CLOSING) {		/* the answer to ours */
		conn_drop_when_sent(g, c);
		return;
	}
	end(g, c, "closed");
	conn_become(c, &closing);
	n = ws_close_reply(bytes, m->code, NULL);
	f = frame_raw(slice_bytes(bytes, n));
	output_send(g, c, f);
	frame_put(f);
	wheel_set(&g->wheel, &g->conns, c, g->wheel.now + 3);
	conn_drop_when_sent(g, c);
}

static void
on_message(struct gateway *g, struct conn *c, enum ws_event event, const struct ws_message *m)
{
	if (conn_phase(c) == CONN_SILENT) {
		if (event == WS_EVENT_TEXT)
			session_first(g, c, slice_bytes(m->data, m->len));
		else
			upgrade_refuse(g, c, REFUSE_MISSING, "the first message is no token");
	} else if (conn_phase(c) == CONN_OPEN && c->kind == CONN_ECHO) {
		echo(g, c, m, event == WS_EVENT_TEXT ? WS_OP_TEXT : WS_OP_BINARY);
	} else if (conn_phase(c) == CONN_OPEN && event == WS_EVENT_BINARY) {
		conn_close(g, c, WS_CLOSE_UNSUPPORTED);
	} else if (conn_phase(c) == CONN_OPEN) {
		session_message(g, c, slice_bytes(m->data, m->len));
	}
}

/* With the code's own reason; behind that of 1002, which is many things, what it was. */
static void
close_faulty(struct gateway *g, struct conn *c, const struct ws_message *m)
{
	enum ws_close row = ws_close_of(m->code);
	char reason[WS_REASON_MAX + 1];

	if (row != WS_CLOSE_PROTOCOL) {
		conn_close(g, c, row != WS_CLOSE_NONE ? row : WS_CLOSE_INTERNAL);
		return;
	}
	snprintf(reason, sizeof(reason), "%s: %s", ws_close_reason(row), m->why);
	conn_close_code(g, c, m->code, slice_of(reason));
}

void
ws_input(struct gateway *g, struct conn *c, uint8_t *p, size_t n)
{
	const struct ws_limits *limits = c->kind == CONN_ECHO ? &g->echo_limits : &g->limits;
	struct ws_message m;
	enum ws_event event;
	size_t used;

	do {
		/* the first message was a token: the rest waits */
		if (conn_phase(c) == CONN_AUTH || conn_phase(c) == CONN_RESUMING) {
			if (n > 0)
				http_hold_input(g, c, p, n);
			return;
		}
		event = ws_reader_next(&c->reader, limits, p, n, &used, &m);
		p += used;
		n -= used;
		switch (event) {
		case WS_EVENT_TEXT:
		case WS_EVENT_BINARY:
			on_message(g, c, event, &m);
			break;
		case WS_EVENT_PING:
			if (conn_phase(c) != CONN_CLOSING)
				on_ping(g, c, &m);
			break;
		case WS_EVENT_CLOSE:
			on_close_frame(g, c, &m);
			break;
		case WS_EVENT_ERROR:
			/* Behind our close frame nobody is told, and the rest goes unread:
			 * a reset could overtake that frame. */
			if (conn_phase(c) != CONN_CLOSING) {
				gateway_count(g, PROTOCOL_ERRORS, 1);
				log_debug("WebSocket closed with %u: %s", (unsigned)m.code, m.why);
				close_faulty(g, c, &m);
			}
			conn_drop_when_sent(g, c);
			break;
		case WS_EVENT_PONG:
			if (conn_phase(c) != CONN_CLOSING)
				on_pong(g, c);
			break;
		case WS_EVENT_NEED_MORE:
			break;
		}
	} while (event != WS_EVENT_NEED_MORE && !c->doomed);
}
