/*
 * client.c: the client's side of a WebSocket connection over a line, with the
 * codec of src/ws.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "belayctl/client.h"
#include "belayctl/web.h"
#include "ws/frame.h"

static const struct ws_limits client_limits = {
	.max_message = CLIENT_MESSAGE_MAX, .max_fragments = 4096, .client = true, .inflate = NULL
};

static void
client_end(struct client *c, const char *why)
{
	c->state = CLIENT_ENDED;
	if (c->why[0] == '\0')
		snprintf(c->why, sizeof(c->why), "%s", why);
}

void
client_open(struct client *c, const struct client_options *o)
{
	struct buf fields = BUF_INIT;
	uint8_t nonce[16];
	size_t size, n;

	memset(c, 0, sizeof(*c));
	c->code = WS_CODE_ABNORMAL;
	line_open(&c->line, o->url, o->addresses, o->tls);
	digest_random(nonce, sizeof(nonce));
	ws_connect_init(&c->connect, nonce, false);
	ws_reader_init(&c->reader, false);
	if (o->token != NULL)
		buf_printf(&fields, "Authorization: Bearer %s\r\n", o->token);
	if (o->device != NULL)
		buf_printf(&fields, "X-Device-Id: %s\r\n", o->device);
	if (o->origin != NULL)
		buf_printf(&fields, "Origin: %s\r\n", o->origin);
	buf_puts(&fields, "User-Agent: belayctl\r\n");
	size = 1024 + strlen(o->url->authority) + strlen(o->url->target) + fields.len;
	n = ws_connect_request(&c->connect,
	    (struct ws_str){ o->url->authority, strlen(o->url->authority) },
	    (struct ws_str){ o->url->target, strlen(o->url->target) },
	    (struct ws_str){ "", 0 }, (struct ws_str){ fields.data, fields.len },
	    buf_reserve(&c->out, size), size);
	c->out.len += n;
	explicit_bzero(fields.data, fields.len);
	buf_fini(&fields);
	if (n == 0)
		client_end(c, "the request is too long");
}

void
client_close(struct client *c)
{
	line_close(&c->line);
	ws_reader_fini(&c->reader);
	buf_fini(&c->in);
	buf_fini(&c->out);
	c->in_off = 0;
	c->state = CLIENT_ENDED;
}

void
client_flush(struct client *c)
{
	ssize_t n;

	while (c->out.len != 0 && c->line.connected) {
		n = line_write(&c->line, c->out.data, c->out.len);
		if (n < 0) {
			if (c->line.fault != LINE_OK)
				client_end(c, c->line.why);
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
}

static void
client_frame(struct client *c, uint8_t opcode, struct slice payload)
{
	uint8_t header[WS_HEADER_MAX], mask[4];
	size_t n;
	char *p;

	if (c->state != CLIENT_TALKING || c->closing)
		return;
	digest_random(mask, sizeof(mask));
	n = ws_header_put(header, WS_FIN | opcode, payload.len, mask);
	buf_put(&c->out, header, n);
	if (payload.len == 0)
		return;
	p = buf_reserve(&c->out, payload.len);
	memcpy(p, payload.p, payload.len);
	ws_mask((uint8_t *)p, payload.len, mask, 0);
	c->out.len += payload.len;
}

void
client_send(struct client *c, struct slice text)
{
	client_frame(c, WS_OP_TEXT, text);
	if (c->state == CLIENT_TALKING)
		client_flush(c);
}

void
client_bye(struct client *c, uint16_t code, const char *reason)
{
	uint8_t frame[WS_CLOSE_FRAME_MAX], mask[4];

	if (c->state != CLIENT_TALKING || c->closing)
		return;
	digest_random(mask, sizeof(mask));
	buf_put(&c->out, frame, ws_close_put(frame, code, reason, strlen(reason), mask));
	c->closing = true;
	client_flush(c);
}

static struct ws_str
str_of(struct slice s)
{
	return (struct ws_str){ s.p, s.len };
}

/* Returns true when there is something to report. */
static bool
client_upgrade(struct client *c)
{
	struct web_head h;
	long n = c->in.len != 0 ? web_head_parse(c->in.data, c->in.len, &h) : 0;

	if (n == 0)
		return false;
	if (n == -1) {
		c->not_http = true;
		client_end(c, "what answers there does not speak HTTP");
		return true;
	}
	c->status = h.status;
	c->date_ms = web_date(web_head_field(&h, "Date"));
	ws_connect_status(&c->connect, h.status);
	for (unsigned i = 0; i < h.nfields; i++)
		ws_connect_field(&c->connect, str_of(h.field[i].name), str_of(h.field[i].value));
	if (!ws_connect_ok(&c->connect)) {
		if (h.status != 101)
			snprintf(c->why, sizeof(c->why), "the server answered with HTTP status %d",
			    h.status);
		client_end(c, c->connect.why != NULL ? c->connect.why : "the handshake failed");
		return true;
	}
	c->in_off = (size_t)n;
	c->state = c->reached = CLIENT_TALKING;
	return true;
}

static void
client_peer_closed(struct client *c, const struct ws_message *m)
{
	uint8_t frame[WS_CLOSE_FRAME_MAX], mask[4];
	size_t len = m->len < WS_REASON_MAX ? m->len : WS_REASON_MAX;

	c->code = m->code;
	memcpy(c->reason, m->data, len);
	c->reason[len] = '\0';
	snprintf(c->why, sizeof(c->why), "closed by the server: %u %s", c->code, c->reason);
	if (!c->closing) {
		digest_random(mask, sizeof(mask));
		buf_put(&c->out, frame, ws_close_reply(frame, m->code, mask));
		c->closing = true;
	}
	c->ending = true;
	client_flush(c);
}

/* One event out of the bytes at hand; CLIENT_WAIT when they are used up. */
static enum client_event
client_parse(struct client *c, struct slice *message)
{
	struct ws_message m;
	enum ws_event ev;
	size_t used;

	for (;;) {
		ev = ws_reader_next(&c->reader, &client_limits, (uint8_t *)c->in.data + c->in_off,
		    c->in.len - c->in_off, &used, &m);
		c->in_off += used;
		switch (ev) {
		case WS_EVENT_NEED_MORE:
			buf_clear(&c->in);
			c->in_off = 0;
			return CLIENT_WAIT;
		case WS_EVENT_TEXT:
			*message = slice_bytes(m.data, m.len);
			return CLIENT_MESSAGE;
		case WS_EVENT_PING:
			client_frame(c, WS_OP_PONG, slice_bytes(m.data, m.len));
			client_flush(c);
			break;
		case WS_EVENT_PONG:
			break;
		case WS_EVENT_BINARY:
			client_bye(c, WS_CODE_UNSUPPORTED, "Binary not accepted");
			break;
		case WS_EVENT_CLOSE:
			client_peer_closed(c, &m);
			break;
		case WS_EVENT_ERROR:
			snprintf(c->why, sizeof(c->why), "the server broke the protocol: %s",
			    m.why != NULL ? m.why : "");
			client_bye(c, m.code, "");
			c->ending = true;
			break;
		}
	}
}

static void
client_read(struct client *c)
{
	ssize_t n = line_read(&c->line, buf_reserve(&c->in, 65536), 65536);

	if (n > 0)
		c->in.len += (size_t)n;
	else if (n == 0)
		client_end(c, c->state == CLIENT_UPGRADING ?
		    "the server ended the connection in the handshake" :
		    "the connection ended without a close frame");
	else if (c->line.fault != LINE_OK)
		client_end(c, c->line.why);
}

enum client_event
client_next(struct client *c, struct slice *message)
{
	enum client_event ev;
	size_t had;
	int rc;

	if (c->state == CLIENT_CONNECTING) {
		rc = line_step(&c->line);
		if (rc == 0)
			return CLIENT_WAIT;
		if (rc == -1)
			client_end(c, c->line.why);
		else
			c->state = c->reached = CLIENT_UPGRADING;
	}
	while (c->state != CLIENT_ENDED) {
		if (c->state == CLIENT_TALKING && (ev = client_parse(c, message)) != CLIENT_WAIT)
			return ev;
		client_flush(c);
		if (c->state == CLIENT_ENDED)
			break;
		if (c->ending && c->out.len == 0) {
			client_end(c, "closed");
			break;
		}
		had = c->in.len;
		client_read(c);
		if (c->state == CLIENT_ENDED)
			break;
		if (c->in.len == had) {
			if (c->out.len != 0)
				c->line.wants |= POLLOUT;
			return CLIENT_WAIT;
		}
		if (c->state == CLIENT_UPGRADING && client_upgrade(c) && c->state == CLIENT_TALKING)
			return CLIENT_OPEN;
	}
	return CLIENT_END;
}

/* Full jitter: anywhere from a tenth of the ceiling up to it. */
static int64_t
back_off(int64_t base_ms, int64_t max_ms, unsigned attempt)
{
	int64_t ceiling = base_ms;
	uint32_t r;

	for (unsigned i = 0; i < attempt && ceiling < max_ms; i++)
		ceiling *= 2;
	if (ceiling > max_ms)
		ceiling = max_ms;
	digest_random(&r, sizeof(r));
	return ceiling / 10 + (int64_t)(r % (uint32_t)(ceiling - ceiling / 10 + 1));
}

int64_t
client_retry_ms(const struct client *c, unsigned attempt, int64_t after_ms)
{
	if (c->reached == CLIENT_TALKING) {
		switch (c->code) {
		case WS_CODE_RESTART:
			return after_ms >= 0 ? after_ms : back_off(2000, 30000, attempt);
		case WS_CODE_OVERLOADED:
			return back_off(5000, 120000, attempt);
		case WS_CODE_RATE_LIMITED:
			return back_off(30000, 300000, attempt);
		case WS_CODE_PROTOCOL: case WS_CODE_UNSUPPORTED: case WS_CODE_BAD_UTF8:
		case WS_CODE_TOO_BIG: case WS_CODE_MISSING_TOKEN:
		case WS_CODE_FEED_NO_TOKEN: case WS_CODE_FEED_BAD_TOKEN: case WS_CODE_NO_ACCESS:
		case WS_CODE_REPLACED: case WS_CODE_KICKED: case WS_CODE_REVOKED:
			return -1;
		default:
			return back_off(500, 30000, attempt);
		}
	}
	/* An HTTP status that will be the same next time. */
	if (c->status >= 400 && c->status < 500 && c->status != 408 && c->status != 429)
		return -1;
	return back_off(500, 30000, attempt);
}
