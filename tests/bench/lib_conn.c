/*
 * lib_conn.c: many WebSocket client connections on one epoll descriptor.
 *
 * It trusts the server more than a client should: it reads frame headers for
 * their lengths, answers pings, and leaves judgement to the tests.  The
 * handshake's key is constant, so that a server without SHA-1 can answer it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/lib.h"

static const char mask_key[4] = { 0x37, (char)0xfa, 0x21, 0x3d };

void
bench_loop_init(struct bench_loop *l, const char *address, const struct bench_handler *h,
    unsigned sources, unsigned first_source)
{
	char host[64];
	const char *colon = strrchr(address, ':');
	size_t len = colon != NULL ? (size_t)(colon - address) : 0;

	memset(l, 0, sizeof(*l));
	if (len == 0 || len >= sizeof(host))
		bench_die("an address looks like 127.0.0.1:3000, not \"%s\"", address);
	memcpy(host, address, len);
	host[len] = '\0';
	l->server.sin_family = AF_INET;
	l->server.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, host, &l->server.sin_addr) != 1)
		bench_die("\"%s\" is not an IPv4 address", host);
	snprintf(l->host, sizeof(l->host), "%s", address);
	l->handler = h;
	l->sources = sources;
	l->next_source = first_source;
	l->buf = bench_alloc(BENCH_BUF_SIZE);
	if ((l->epoll = epoll_create1(EPOLL_CLOEXEC)) == -1)
		bench_die("epoll_create1: %s", strerror(errno));
}

static void
conn_watch(struct bench_conn *c, int op, bool write)
{
	struct epoll_event e = { .events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c };

	if (epoll_ctl(c->loop->epoll, op, c->fd, &e) == -1)
		bench_die("epoll_ctl: %s", strerror(errno));
	c->want_write = write;
}

static void
conn_drop(struct bench_conn *c)
{
	if (c->state == BENCH_CLOSED)
		return;
	close(c->fd);
	c->fd = -1;
	c->state = BENCH_CLOSED;
	free(c->in);
	free(c->out);
	free(c->request);
	c->in = c->out = c->request = NULL;
	c->in_len = c->in_cap = c->out_off = c->out_len = c->out_cap = 0;
}

static void
conn_end(struct bench_conn *c, int code, const char *text, size_t len)
{
	char copy[128];

	if (len > sizeof(copy))
		len = sizeof(copy);
	memcpy(copy, text, len);
	conn_drop(c);
	c->loop->handler->closed(c, code, copy, len);
}

static void
conn_fail(struct bench_conn *c, int err)
{
	const char *text = err != 0 ? strerror(err) : "end of stream";

	conn_end(c, -err, text, strlen(text));
}

void
bench_conn_open(struct bench_loop *l, struct bench_conn *c, const char *target, const char *fields)
{
	static const char form[] =
	    "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n";
	struct sockaddr_in from = { .sin_family = AF_INET };
	size_t size = sizeof(form) + strlen(target) + strlen(l->host) + strlen(fields);
	int one = 1;

	c->loop = l;
	c->opened_at = bench_now();
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd == -1)
		bench_die("socket: %s", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (l->sources != 0) {
		from.sin_addr.s_addr = htonl(0x7f000002u + l->next_source++ % l->sources);
		/* The port is chosen at connect(), when both ends are known. */
		setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(c->fd, (struct sockaddr *)&from, sizeof(from)) == -1)
			bench_die("bind: %s", strerror(errno));
	}
	c->request = bench_alloc(size);
	snprintf(c->request, size, form, target, l->host, fields);
	c->state = BENCH_CONNECTING;
	if (connect(c->fd, (struct sockaddr *)&l->server, sizeof(l->server)) == -1 && errno != EINPROGRESS)
		bench_die("%s: %s", l->host, strerror(errno));
	conn_watch(c, EPOLL_CTL_ADD, true);
}

void
bench_conn_write(struct bench_conn *c, const void *p, size_t len)
{
	const char *from = p;
	ssize_t n;

	if (c->state == BENCH_CLOSED)
		return;
	if (c->out_len == 0) {
		n = write(c->fd, from, len);
		if (n == -1 && errno != EAGAIN)
			return;		/* the read side will tell */
		if (n > 0) {
			from += n;
			len -= (size_t)n;
		}
		if (len == 0)
			return;
	}
	if (c->out_off != 0) {
		memmove(c->out, c->out + c->out_off, c->out_len - c->out_off);
		c->out_len -= c->out_off;
		c->out_off = 0;
	}
	if (c->out_len + len > c->out_cap) {
		c->out_cap = (uint32_t)(c->out_len + len) * 2;
		if ((c->out = realloc(c->out, c->out_cap)) == NULL)
			bench_die("out of memory");
	}
	memcpy(c->out + c->out_len, from, len);
	c->out_len += (uint32_t)len;
	if (!c->want_write)
		conn_watch(c, EPOLL_CTL_MOD, true);
}

static void
conn_flush(struct bench_conn *c)
{
	ssize_t n;

	if (c->out_len != 0) {
		n = write(c->fd, c->out + c->out_off, c->out_len - c->out_off);
		if (n > 0)
			c->out_off += (uint32_t)n;
		else if (n == -1 && errno == EAGAIN)
			return;
		if (c->out_off < c->out_len && n >= 0)
			return;
		free(c->out);
		c->out = NULL;
		c->out_off = c->out_len = c->out_cap = 0;
	}
	conn_watch(c, EPOLL_CTL_MOD, false);
}

static size_t
frame_put(char *out, int first, const char *payload, size_t len)
{
	size_t h = 2;

	out[0] = (char)first;
	if (len < 126) {
		out[1] = (char)(0x80 | len);
	} else if (len < 65536) {
		out[1] = (char)(0x80 | 126);
		out[2] = (char)(len >> 8);
		out[3] = (char)len;
		h = 4;
	} else {
		out[1] = (char)(0x80 | 127);
		for (int i = 0; i < 8; i++)
			out[2 + i] = (char)((uint64_t)len >> (56 - 8 * i));
		h = 10;
	}
	memcpy(out + h, mask_key, 4);
	h += 4;
	for (size_t i = 0; i < len; i++)
		out[h + i] = (char)(payload[i] ^ mask_key[i & 3]);
	return h + len;
}

size_t
bench_frame(char *out, const char *payload, size_t len)
{
	return frame_put(out, 0x81, payload, len);
}

void
bench_conn_text(struct bench_conn *c, const char *text, size_t len)
{
	char small[2048], *out = small;

	if (len + 14 > sizeof(small))
		out = bench_alloc(len + 14);
	bench_conn_write(c, out, bench_frame(out, text, len));
	if (out != small)
		free(out);
}

void
bench_conn_send_close(struct bench_conn *c)
{
	static const char normal[2] = { 1000 >> 8, (char)(1000 & 0xff) };
	char out[16];

	bench_conn_write(c, out, frame_put(out, 0x88, normal, 2));
}

/* Returns false when the connection is no more. */
static bool
conn_frame(struct bench_conn *c, int opcode, const char *p, size_t len)
{
	char pong[160];

	switch (opcode) {
	case 8:
		conn_end(c, len >= 2 ? (uint8_t)p[0] << 8 | (uint8_t)p[1] : 1005,
		    len >= 2 ? p + 2 : p, len >= 2 ? len - 2 : 0);
		return false;
	case 9:
		c->loop->pings++;
		bench_conn_write(c, pong, frame_put(pong, 0x8a, p, len <= 125 ? len : 0));
		break;
	case 10:
		break;
	default:
		c->loop->handler->message(c, p, len);
	}
	return c->state != BENCH_CLOSED;
}

/* Takes whole frames from p; returns how many bytes they had, -1 when the connection is no more. */
static long
conn_frames(struct bench_conn *c, const char *p, size_t len)
{
	const char *start = p;

	while (len >= 2) {
		uint64_t n = (uint8_t)p[1] & 0x7f;
		size_t h = 2;

		if (n == 126) {
			h = 4;
			if (len < h)
				break;
			n = (uint64_t)(uint8_t)p[2] << 8 | (uint8_t)p[3];
		} else if (n == 127) {
			h = 10;
			if (len < h)
				break;
			n = 0;
			for (int i = 0; i < 8; i++)
				n = n << 8 | (uint8_t)p[2 + i];
			if (n > BENCH_BUF_SIZE * 64ull)
				bench_die("the server announced a frame of %llu bytes",
				    (unsigned long long)n);
		}
		if (len - h < n)
			break;
		if (!conn_frame(c, p[0] & 15, p + h, n))
			return -1;
		p += h + n;
		len -= h + n;
	}
	return p - start;
}

/* Returns the length of the response head, 0 when it is not whole, -1 when the connection is no more. */
static long
conn_response(struct bench_conn *c, const char *p, size_t len)
{
	const char *end = memmem(p, len, "\r\n\r\n", 4), *eol;

	if (end == NULL)
		return 0;
	if (len < 13 || memcmp(p, "HTTP/1.1 101 ", 13) != 0) {
		eol = memmem(p, len, "\r\n", 2);
		conn_end(c, len > 12 ? atoi(p + 9) : 0, p, (size_t)(eol - p));
		return -1;
	}
	c->state = BENCH_OPEN;
	free(c->request);
	c->request = NULL;
	if (c->loop->handler->opened != NULL)
		c->loop->handler->opened(c);
	return c->state != BENCH_CLOSED ? end + 4 - p : -1;
}

static void
conn_take(struct bench_conn *c, const char *p, size_t len)
{
	long n = 0;

	if (c->state == BENCH_UPGRADING) {
		n = conn_response(c, p, len);
		if (n == -1)
			return;
		p += n;
		len -= (size_t)n;
	}
	if (c->state == BENCH_OPEN) {
		n = conn_frames(c, p, len);
		if (n == -1)
			return;
		p += n;
		len -= (size_t)n;
	}
	if (len == 0) {
		free(c->in);
		c->in = NULL;
		c->in_len = c->in_cap = 0;
	} else {
		if (len > c->in_cap) {
			char *in = bench_alloc(len * 2);

			memcpy(in, p, len);
			free(c->in);
			c->in = in;
			c->in_cap = (uint32_t)len * 2;
		} else {
			memmove(c->in, p, len);
		}
		c->in_len = (uint32_t)len;
	}
	if (c->loop->handler->drained != NULL)
		c->loop->handler->drained(c);
}

static void
conn_read(struct bench_conn *c)
{
	struct bench_loop *l = c->loop;
	char *p = l->buf;
	ssize_t n;

	if (c->in_len > BENCH_BUF_SIZE / 2)
		bench_die("a frame larger than the buffer");
	memcpy(p, c->in != NULL ? c->in : p, c->in_len);
	n = read(c->fd, p + c->in_len, BENCH_BUF_SIZE - c->in_len);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_fail(c, n == -1 ? errno : 0);
		return;
	}
	l->bytes_in += (uint64_t)n;
	conn_take(c, p, c->in_len + (size_t)n);
}

static void
conn_connected(struct bench_conn *c)
{
	socklen_t len = sizeof(int);
	int err = 0;

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err != 0) {
		conn_fail(c, err);
		return;
	}
	c->state = BENCH_UPGRADING;
	conn_watch(c, EPOLL_CTL_MOD, false);
	bench_conn_write(c, c->request, strlen(c->request));
}

int
bench_loop_step(struct bench_loop *l, uint64_t wait_ns)
{
	struct timespec ts = { (time_t)(wait_ns / BENCH_SECOND), (long)(wait_ns % BENCH_SECOND) };
	struct epoll_event events[256];
	int n = epoll_pwait2(l->epoll, events, 256, &ts, NULL);

	for (int i = 0; i < n; i++) {
		struct bench_conn *c = events[i].data.ptr;

		/* A callback for another connection may have closed this one. */
		if (c->state == BENCH_CONNECTING) {
			if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
				conn_connected(c);
			continue;
		}
		if (c->state != BENCH_CLOSED && (events[i].events & EPOLLOUT))
			conn_flush(c);
		if (c->state != BENCH_CLOSED && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
			conn_read(c);
	}
	return n;
}
