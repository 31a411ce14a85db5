/*
 * http.c: the HTTP phase of a connection.  One gateway process; what a request
 * means is decided in api.c and upgrade.c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "gateway/api.h"
#include "gateway/api_command.h"
#include "gateway/conn.h"
#include "gateway/cors.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/resume.h"
#include "gateway/peer.h"
#include "gateway/traffic.h"
#include "gateway/upgrade.h"
#include "http/response.h"
#include "http/uri.h"
#include "ws/frame.h"

#define IN_MAX		65536		/* pipelined bytes kept while a request is in hand */
#define IDLE_S		75		/* between requests */
#define BODY_S		30		/* for a body, after its head */
#define LOOK_MIN_S	1		/* between looks at a command whose end is waited for, doubled … */
#define LOOK_MAX_S	8
#define TOO_MANY_RETRY_MS 5000
#define ENDED_READ_S	2		/* that a reader has to answer somebody who sends no more */
#define LATE_RETRY_MS	1000
#define HOLD_S		10		/* for a verdict that is waited for; it comes sooner */

uint32_t
http_handshake_s(const struct gateway *g)
{
	return (uint32_t)((g->conf->limits_handshake_time_ms + 999) / 1000);
}

static void
set_due(struct gateway *g, struct conn *c, uint32_t seconds)
{
	/* The second in hand is nearly over, maybe: nobody gets less than the time that was set. */
	c->http->due_s = g->wheel.now + seconds + 1;
	wheel_set(&g->wheel, &g->conns, c, c->http->due_s);
}

void
http_end(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;

	(void)g;
	if (h == NULL)
		return;
	buf_fini(&h->in);
	buf_fini(&h->body);
	buf_fini(&h->query);
	buf_fini(&h->idempotency_key);
	buf_fini(&h->cors);
	buf_fini(&h->auth_id);
	resume_free(&h->resuming);
	free(h->own);
	free(h);
	c->http = NULL;
}

static void
request_reset(struct http *h)
{
	h->state = REQUEST_HEAD;
	memset(&h->who, 0, sizeof(h->who));
	h->tenant[0] = '\0';
	h->waiting = h->as_it_is = false;
	h->look = 0;
	buf_fini(&h->body);
	buf_fini(&h->query);
	buf_fini(&h->idempotency_key);
	buf_fini(&h->cors);
}

static struct http_response
response_frame(struct gateway *g, struct http *h, int status)
{
	static struct http_date date;	/* the process's: it makes the text once a second */

	return (struct http_response){
		.status = status,
		.date = http_date(&date, g->w->now_ms),
		.keep_alive_s = IDLE_S,
		.close = !h->keep_alive || g->w->draining,
		.http10 = h->http10,
		.head_only = h->head_only,
		.extra = buf_slice(&h->cors)
	};
}

static void continue_parsing(struct gateway *g, struct conn *c);

static void
count_response(struct gateway *g, struct conn *c, int status, enum error_code code)
{
	traffic_count_response(g, c, status, code);
	if (status >= 500)
		gateway_count(g, HTTP_5XX, 1);
	else if (status >= 400)
		gateway_count(g, HTTP_4XX, 1);
	else			/* there are no redirections */
		gateway_count(g, HTTP_2XX, 1);
}

/* The response is in g->scratch. */
static void
send_response(struct gateway *g, struct conn *c, const struct http_response *r, enum error_code code)
{
	struct http *h = c->http;
	struct frame *f = frame_raw(buf_slice(&g->scratch));

	count_response(g, c, r->status, code);
	output_send(g, c, f);
	frame_put(f);
	if (r->close) {
		h->keep_alive = false;
		h->state = REQUEST_OVER;
		h->waiting = false;
		set_due(g, c, http_handshake_s(g));
		conn_drop_when_sent(g, c);
		return;
	}
	request_reset(h);
	h->answered = true;
	set_due(g, c, IDLE_S);
	if (!h->parsing)
		continue_parsing(g, c);
}

void
http_respond(struct gateway *g, struct conn *c, int status, struct slice content_type,
    struct slice body)
{
	struct http_response r = response_frame(g, c->http, status);

	r.content_type = content_type;
	r.body = body;
	buf_clear(&g->scratch);
	http_response_put(&g->scratch, &r);
	send_response(g, c, &r, ERROR_NONE);
}

void
http_respond_json(struct gateway *g, struct conn *c, int status, struct slice body)
{
	http_respond(g, c, status, SLICE_NONE, body);
}

static void
respond_error(struct gateway *g, struct conn *c, int status, enum error_code code,
    const char *message, const char *field, int64_t retry_after_ms)
{
	struct http_response r = response_frame(g, c->http, status);

	r.retry_after_ms = retry_after_ms;
	if (status == 405)
		r.allow = slice_of(c->http->match.allow);
	buf_clear(&g->scratch);
	http_error_put(&g->scratch, &r, status, error_name(code),
	    slice_of(message != NULL ? message : error_text(code)), slice_of(field));
	send_response(g, c, &r, code);
}

void
http_respond_error(struct gateway *g, struct conn *c, enum error_code code, const char *message,
    const char *field)
{
	respond_error(g, c, error_status(code), code, message, field,
	    code == ERROR_unavailable ? 1000 : code == ERROR_rate_limited ? g->tell_retry_ms :
	    code == ERROR_too_many ? TOO_MANY_RETRY_MS : 0);
}

void
http_respond_retry(struct gateway *g, struct conn *c, enum error_code code, int64_t retry_after_ms)
{
	respond_error(g, c, error_status(code), code, NULL, NULL, retry_after_ms);
}

void
http_refuse_too_fast(struct gateway *g, struct conn *c, int64_t retry_after_ms)
{
	struct http *h = c->http;

	h->refusal = 0;
	http_respond_retry(g, c, ERROR_rate_limited, retry_after_ms);
	if (!c->hushed || c->doomed || conn_phase(c) != CONN_HTTP || h->state != REQUEST_HEAD)
		return;
	h->state = REQUEST_RESTING;
	conn_pause_reading(g, c, true);
}

bool
http_respond_too_fast(struct gateway *g, struct conn *c, const struct http_head *head,
    int64_t retry_after_ms)
{
	c->http->refusal = 429;
	c->http->refusal_retry_ms = retry_after_ms;
	if (c->http->has_body && !head->expect_continue)
		return true;
	http_refuse_too_fast(g, c, retry_after_ms);
	return false;
}

/* What may be done here; whether the asker may is not told. */
static void
respond_options(struct gateway *g, struct conn *c, const struct http_head *head, struct slice allow)
{
	struct http *h = c->http;
	struct http_response r;

	if (!c->admin && cors_allowed(g, head))
		cors_preflight_put(&h->cors, head, allow);
	r = response_frame(g, h, 204);
	r.allow = allow;
	buf_clear(&g->scratch);
	http_response_put(&g->scratch, &r);
	send_response(g, c, &r, ERROR_NONE);
}

/* The bytes can't be made sense of, or may not be read on: answer and close. */
static void
refuse(struct gateway *g, struct conn *c, int status)
{
	c->http->keep_alive = false;
	respond_error(g, c, status, error_of_status(status), NULL, NULL, 0);
}

void
http_revoke(struct gateway *g, struct conn *c)
{
	refuse(g, c, 401);
}

void
http_refuse_early(struct gateway *g, struct conn *c, int status, int64_t retry_after_ms)
{
	c->http->keep_alive = false;
	respond_error(g, c, status, status == 429 ? ERROR_rate_limited : ERROR_unavailable, NULL,
	    NULL, retry_after_ms);
}

/*
 * A head is complete: decide whose request it is and what it wants, before its body is read.
 * false: it was answered.
 */
static bool
take_head(struct gateway *g, struct conn *c, const struct http_head *head)
{
	struct http *h = c->http;
	int status;

	h->keep_alive = head->keep_alive && !c->guest;
	h->http10 = head->minor == 0;
	h->head_only = head->method == HTTP_HEAD;
	h->has_body = head->chunked || head->content_length > 0;
	h->state = REQUEST_BODY;
	if (!c->admin)
		cors_put(&h->cors, g, c, head);
	status = http_route(head->method, head->path, &h->match);
	if (status == 0 && h->match.info->access == ROUTE_SOCKET)
		status = 404;		/* /echo where it is not served; the others never come here */
	if (h->match.allow[0] != '\0')
		strcat(h->match.allow, ", OPTIONS");
	if (h->has_body && status != 0)
		h->keep_alive = false;		/* its body is not read */
	if (head->method == HTTP_OPTIONS && (status == 405 || slice_is(head->path, "*"))) {
		respond_options(g, c, head, status == 405 ? slice_of(h->match.allow) :
		    SLICE("GET, HEAD, POST, PUT, DELETE, OPTIONS"));
		return false;
	}
	if (status != 0) {
		respond_error(g, c, status, status == 400 ? ERROR_bad_request :
		    status == 405 ? ERROR_method_not_allowed : ERROR_not_found, NULL, NULL, 0);
		return false;
	}
	buf_put_slice(&h->query, head->query);
	buf_put_slice(&h->idempotency_key, http_header(head, "Idempotency-Key"));
	/* If it is refused its body is not read, and nothing can follow it. */
	h->keep_alive = head->keep_alive && !h->has_body && !c->guest;
	if (!api_authorize(g, c, head))
		return false;
	h->keep_alive = head->keep_alive && !c->guest;
	status = http_body_init(&h->framing, head, g->conf->limits_message_size_bytes);
	if (status != 0) {
		refuse(g, c, -status);
		return false;
	}
	if (h->has_body && head->expect_continue && !http_body_done(&h->framing)) {
		struct frame *f = frame_raw(SLICE(HTTP_CONTINUE));

		output_send(g, c, f);
		frame_put(f);
	}
	set_due(g, c, BODY_S);
	return true;
}

static bool
is_socket_route(const struct http_head *head, struct gateway *g)
{
	return slice_is(head->path, "/ws") || slice_is(head->path, "/") ||
	    (g->conf->server_echo && slice_is(head->path, "/echo"));
}

/* A load balancer that asks must not take a server that is full for one that is ill. */
static bool
is_health(const struct http_head *head)
{
	struct route_match match;

	return http_route(head->method, head->path, &match) == 0 && (match.route == ROUTE_health ||
	    match.route == ROUTE_api_health || match.route == ROUTE_health_ready);
}

/*
 * Uses up what it can of the bytes; what is left must be kept.  The connection may be gone, or a
 * WebSocket.
 */
static size_t
parse(struct gateway *g, struct conn *c, const char *p, size_t n)
{
	struct http *h = c->http;
	size_t used = 0;

	while (!c->doomed && conn_phase(c) == CONN_HTTP &&
	    (h->state == REQUEST_HEAD || h->state == REQUEST_BODY) && !output_is_behind(c)) {
		if (h->state == REQUEST_HEAD) {
			struct http_head head;
			long len = http_head_parse(p + used, n - used, g->conf->limits_head_size_bytes, &head);

			if (len == 0)
				break;
			if (len < 0) {
				gateway_count(g, HTTP_BAD_HEAD, 1);
				refuse(g, c, (int)-len);
				return n;
			}
			used += (size_t)len;
			if (c->by_proxy)
				peer_take_head(g, c, &head);
			if (c->guest && h->health_too && is_health(&head)) {
				h->refusal = 0;
			} else if (c->guest && !is_socket_route(&head, g)) {
				http_refuse_early(g, c, h->refusal, h->refusal_retry_ms);
				return n;
			}
			if (c->late && !c->admin && !is_health(&head)) {
				http_refuse_early(g, c, 503, LATE_RETRY_MS);
				return n;
			}
			if (!c->admin && is_socket_route(&head, g)) {
				upgrade_request(g, c, &head, (struct slice){ p + used, n - used });
				if (c->doomed || conn_phase(c) != CONN_HTTP)
					return n;
				continue;
			}
			if (!take_head(g, c, &head)) {
				if (!c->doomed && conn_phase(c) == CONN_HTTP && h->state == REQUEST_HELD)
					used -= (size_t)len;
				continue;
			}
		}
		if (!http_body_done(&h->framing)) {
			long len = http_body_feed(&h->framing, p + used, n - used, &h->body);

			if (len < 0) {
				refuse(g, c, (int)-len);
				return n;
			}
			used += (size_t)len;
			if (!http_body_done(&h->framing))
				break;
		}
		if (h->refusal != 0) {
			http_refuse_too_fast(g, c, h->refusal_retry_ms);
			continue;
		}
		h->state = REQUEST_ASKED;
		set_due(g, c, BODY_S + http_handshake_s(g) + ASK_TIMEOUT_MS / 1000);
		api_request(g, c);
	}
	return used;
}

static void
run(struct gateway *g, struct conn *c, const char *p, size_t n)
{
	struct http *h = c->http;
	size_t used;

	if (h->in.len > 0) {
		struct buf all = h->in;		/* parsing may end HTTP, and so free h->in */

		buf_put(&all, p, n);
		h->in = (struct buf)BUF_INIT;
		h->parsing = true;
		used = parse(g, c, all.data, all.len);
		if (!c->doomed && conn_phase(c) == CONN_HTTP) {
			h->parsing = false;
			buf_consume(&all, used);
			if (all.len > 0)
				h->in = all;
			else
				buf_fini(&all);
		} else {
			buf_fini(&all);
		}
	} else {
		h->parsing = true;
		used = parse(g, c, p, n);
		if (!c->doomed && conn_phase(c) == CONN_HTTP) {
			h->parsing = false;
			if (used < n)
				buf_put(&h->in, p + used, n - used);
		}
	}
	if (!c->doomed && conn_phase(c) == CONN_HTTP && h->in.len > IN_MAX)
		conn_pause_reading(g, c, true);
}

static void
input(struct gateway *g, struct conn *c, uint8_t *p, size_t n)
{
	struct http *h = c->http;

	if (c->drop_when_sent)
		/* answered for the last time; what still comes is not read */
		return;
	if (h->state != REQUEST_HEAD && h->state != REQUEST_BODY) {
		buf_put(&h->in, p, n);
		if (h->in.len > IN_MAX)
			conn_pause_reading(g, c, true);
		return;
	}
	run(g, c, (const char *)p, n);
}

/* A FIN.  true: something that the client asked for is still to be answered; false: nothing, or not all of it came. */
static bool
ended(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;

	switch (h->state) {
	case REQUEST_HELD:
	case REQUEST_RESTING:
	case REQUEST_ASKED:		/* its end is read again when the request was answered */
		/* One that left altogether looks the same: it is not read for much longer. */
		if (c->reads && !h->waiting)
			set_due(g, c, ENDED_READ_S);
		break;
	case REQUEST_HEAD:
	case REQUEST_BODY:
	case REQUEST_OVER:
		if (c->out == NULL)
			return false;
		if (h->in.len == 0)
			conn_drop_when_sent(g, c);
		break;
	}
	conn_pause_reading(g, c, true);
	return true;
}

/* An answer left outside of parse(): on with what was pipelined. */
static void
continue_parsing(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;

	conn_pause_reading(g, c, false);
	if (!c->doomed && h->in.len > 0)
		run(g, c, "", 0);
}

/* The answers have been written: on with requests that waited for that. */
static void
sent(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;

	if (h->in.len > 0 && (h->state == REQUEST_HEAD || h->state == REQUEST_BODY))
		continue_parsing(g, c);
}

void
http_hold(struct gateway *g, struct conn *c)
{
	request_reset(c->http);
	c->http->state = REQUEST_HELD;
	set_due(g, c, HOLD_S);
}

void
http_unhold(struct gateway *g, struct conn *c)
{
	if (c->http->state != REQUEST_HELD)
		return;
	c->http->state = REQUEST_HEAD;
	set_due(g, c, http_handshake_s(g));
	continue_parsing(g, c);
}

void
http_go_on(struct gateway *g, struct conn *c)
{
	if (c->http->state != REQUEST_RESTING)
		return;
	c->http->state = REQUEST_HEAD;
	continue_parsing(g, c);
}

void
http_hold_input(struct gateway *g, struct conn *c, uint8_t *p, size_t n)
{
	buf_put(&c->http->in, p, n);
	if (c->http->in.len > IN_MAX)
		conn_pause_reading(g, c, true);
}

void
http_wait(struct gateway *g, struct conn *c, const uint8_t command[UUID_LEN])
{
	struct http *h = c->http;

	h->waiting = true;
	memcpy(h->command, command, sizeof(h->command));
	h->look_s = LOOK_MIN_S;
	set_due(g, c, h->look_s);
}

void
http_wait_no_more(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;

	h->as_it_is = true;
	if (h->look == 0)
		api_look_at_command(g, c);
}

static void
timer(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;

	if (h->due_s > g->wheel.now && !h->waiting) {
		wheel_set(&g->wheel, &g->conns, c, h->due_s);
		return;
	}
	if (h->waiting) {
		api_look_at_command(g, c);
		h->look_s = h->look_s * 2 < LOOK_MAX_S ? h->look_s * 2 : LOOK_MAX_S;
		set_due(g, c, h->look_s);
		return;
	}
	if (c->writing && c->heard) {	/* it takes its answer slowly */
		c->heard = false;
		set_due(g, c, IDLE_S);
		return;
	}
	if ((h->state == REQUEST_BODY || h->in.len > 0) && h->state != REQUEST_OVER && !c->awaits_proxy && !c->writing)
		refuse(g, c, 408);
	else
		conn_drop(g, c);
}

static void
lost(struct gateway *g, struct conn *c)
{
	http_end(g, c);
	reads_conn_gone(g, c);
}

static const struct conn_state speaks = {
	.phase = CONN_HTTP, .input = input, .ended = ended, .timer = timer, .sent = sent, .lost = lost
};

void
http_begin(struct gateway *g, struct conn *c)
{
	conn_become(c, &speaks);
	c->http = must_alloc(sizeof(*c->http));
	set_due(g, c, http_handshake_s(g));
}
