/*
 * raw_epoll.c: the floor of the measurements: the least that any server of
 * this kind could do with epoll, read(2) and write(2).
 *
 * One process and thread per --workers, level-triggered epoll, no timers, no
 * checks of any kind: a handshake is answered with a constant, a frame is
 * looked at for its length alone and its payload is not even unmasked.  Its
 * system calls are those that a real server can't avoid either: one read for
 * what arrived, one write for each socket that gets something.  It is no
 * server for anything but this.
 *
 *   echo    each frame goes back with its payload; those of one read in one write
 *   fanout  a frame from a connection to /pub goes to every one to /sub, a write each
 *   relay   a frame from /ctl/N goes to /dev/N and the other way round
 *   close   (all of them) a close frame is answered, then the socket closed
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/lib.h"

#define RAW_BUF (64 * 1024)
#define RAW_PAIRS 65536

struct raw_conn {
	int fd;
	char kind;			/* 0 before the handshake, then 'p' 's' 'c' 'd' or '-' */
	unsigned number;		/* of /ctl/N, /dev/N; or the place among subscribers */
	char *in, *out;			/* unfinished input; refused output */
	size_t in_len, out_len;
};

struct raw {
	int epoll;
	char mode;			/* 'e', 'f', 'r' */
	char in[RAW_BUF * 2], out[RAW_BUF * 2 + 16];
	struct raw_conn **subs;
	unsigned nsubs, subs_cap;
	struct raw_conn *pair[2][RAW_PAIRS];
};

static const char response[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void
raw_write(struct raw *r, struct raw_conn *c, const char *p, size_t len)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	ssize_t n = 0;

	if (c->out_len == 0)
		n = send(c->fd, p, len, MSG_NOSIGNAL);
	if (n == -1 && errno != EAGAIN)
		return;
	if (n < 0)
		n = 0;
	if ((size_t)n == len)
		return;
	if ((c->out = realloc(c->out, c->out_len + len - (size_t)n)) == NULL)
		bench_die("out of memory");
	memcpy(c->out + c->out_len, p + n, len - (size_t)n);
	c->out_len += len - (size_t)n;
	epoll_ctl(r->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void
raw_flush(struct raw *r, struct raw_conn *c)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);

	if (n <= 0)
		return;
	memmove(c->out, c->out + n, c->out_len - (size_t)n);
	c->out_len -= (size_t)n;
	if (c->out_len == 0)
		epoll_ctl(r->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void
raw_close(struct raw *r, struct raw_conn *c)
{
	close(c->fd);
	if (c->kind == 's') {
		r->subs[c->number] = r->subs[--r->nsubs];
		r->subs[c->number]->number = c->number;
	} else if (c->kind == 'c' || c->kind == 'd') {
		r->pair[c->kind == 'd'][c->number] = NULL;
	}
	free(c->in);
	free(c->out);
	free(c);
}

static void
raw_role(struct raw *r, struct raw_conn *c, const char *head)
{
	c->kind = '-';
	if (strncmp(head, "GET /pub", 8) == 0) {
		c->kind = 'p';
	} else if (strncmp(head, "GET /sub", 8) == 0) {
		if (r->nsubs == r->subs_cap) {
			r->subs_cap = r->subs_cap * 2 + 64;
			r->subs = realloc(r->subs, r->subs_cap * sizeof(*r->subs));
			if (r->subs == NULL)
				bench_die("out of memory");
		}
		c->kind = 's';
		c->number = r->nsubs;
		r->subs[r->nsubs++] = c;
	} else if (strncmp(head, "GET /ctl/", 9) == 0 || strncmp(head, "GET /dev/", 9) == 0) {
		c->number = (unsigned)atoi(head + 9) % RAW_PAIRS;
		c->kind = head[5];
		r->pair[c->kind == 'd'][c->number] = c;
	}
}

/* Header of a frame as a server sends it; returns its length. */
static size_t
raw_header(char *out, size_t len)
{
	out[0] = (char)0x81;
	if (len < 126) {
		out[1] = (char)len;
		return 2;
	}
	out[1] = 126;
	out[2] = (char)(len >> 8);
	out[3] = (char)len;
	return 4;
}

/* Returns how much of p was taken; -1 when the connection is to be closed. */
static long
raw_frames(struct raw *r, struct raw_conn *c, const char *p, size_t len)
{
	const char *start = p;
	size_t out = 0;
	bool end = false;

	while (len >= 6) {
		size_t n = (uint8_t)p[1] & 0x7f, h = 6;

		if (n == 126) {
			h = 8;
			n = (size_t)((uint8_t)p[2] << 8 | (uint8_t)p[3]);
		} else if (n == 127) {
			bench_die("a frame over 64 KiB");
		}
		if (len < h + n)
			break;
		if ((p[0] & 15) == 8) {
			static const char bye[4] = { (char)0x88, 2, 1000 >> 8, (char)(1000 & 0xff) };

			memcpy(r->out + out, bye, sizeof(bye));
			out += sizeof(bye);
			end = true;
			break;
		}
		if ((p[0] & 15) < 8) {
			struct raw_conn *peer;

			if (r->mode != 'e')
				out = 0;
			out += raw_header(r->out + out, n);
			memcpy(r->out + out, p + h, n);
			out += n;
			if (r->mode == 'f') {
				for (unsigned i = 0; i < r->nsubs; i++)
					raw_write(r, r->subs[i], r->out, out);
				out = 0;
			} else if (r->mode == 'r') {
				peer = r->pair[c->kind != 'd'][c->number];
				if (peer != NULL)
					raw_write(r, peer, r->out, out);
				out = 0;
			}
		}
		p += h + n;
		len -= h + n;
	}
	if (out != 0)
		raw_write(r, c, r->out, out);
	return end ? -1 : p - start;
}

static void
raw_read(struct raw *r, struct raw_conn *c)
{
	char *p = r->in;
	size_t len;
	ssize_t n;

	if (c->in_len != 0)
		memcpy(p, c->in, c->in_len);
	n = recv(c->fd, p + c->in_len, RAW_BUF, 0);
	if (n == -1 && errno == EAGAIN)
		return;
	if (n <= 0) {
		raw_close(r, c);
		return;
	}
	len = c->in_len + (size_t)n;
	if (c->kind == 0) {
		char *end = memmem(p, len, "\r\n\r\n", 4);

		if (end != NULL) {
			raw_role(r, c, p);
			raw_write(r, c, response, sizeof(response) - 1);
			len -= (size_t)(end + 4 - p);
			p = end + 4;
		}
	}
	if (c->kind != 0 && len != 0) {
		long used = raw_frames(r, c, p, len);

		if (used == -1) {
			raw_close(r, c);
			return;
		}
		p += used;
		len -= (size_t)used;
	}
	if (len != 0) {
		if (len > RAW_BUF || (c->in = realloc(c->in, len)) == NULL)
			bench_die("out of memory");
		memcpy(c->in, p, len);
	} else if (c->in != NULL) {
		free(c->in);
		c->in = NULL;
	}
	c->in_len = len;
}

static void
raw_accept(struct raw *r, int listener)
{
	struct raw_conn *c;
	struct epoll_event e;
	int fd, one = 1;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) != -1) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c = bench_alloc(sizeof(*c));
		c->fd = fd;
		e = (struct epoll_event){ .events = EPOLLIN, .data.ptr = c };
		if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &e) == -1)
			bench_die("epoll_ctl: %s", strerror(errno));
	}
}

static void
raw_serve(int listener, char mode)
{
	struct raw *r = bench_alloc(sizeof(*r));
	struct epoll_event events[256], e = { .events = EPOLLIN, .data.ptr = NULL };
	int n;

	r->mode = mode;
	if ((r->epoll = epoll_create1(EPOLL_CLOEXEC)) == -1 ||
	    epoll_ctl(r->epoll, EPOLL_CTL_ADD, listener, &e) == -1)
		bench_die("epoll: %s", strerror(errno));
	for (;;) {
		n = epoll_wait(r->epoll, events, 256, -1);
		for (int i = 0; i < n; i++) {
			struct raw_conn *c = events[i].data.ptr;

			if (c == NULL) {
				raw_accept(r, listener);
				continue;
			}
			if (events[i].events & EPOLLOUT)
				raw_flush(r, c);
			if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
				raw_read(r, c);
		}
	}
}

static int
raw_listen(unsigned port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) == -1 || listen(fd, 4096) == -1)
		bench_die("port %u: %s", port, strerror(errno));
	return fd;
}

int
main(int argc, char **argv)
{
	const char *mode = "echo";
	unsigned port = 3900, workers = 1;
	const struct bench_arg args[] = {
		{ "mode", BENCH_TEXT, &mode, "echo, fanout or relay (echo)" },
		{ "port", BENCH_UINT, &port, "on 127.0.0.1 (3900)" },
		{ "workers", BENCH_UINT, &workers, "processes; fanout and relay work with one (1)" },
		{ NULL, BENCH_FLAG, NULL, NULL }
	};

	bench_args(argc, argv, "raw_epoll: the floor: what no server can do without", args);
	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 1; i < workers; i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			raw_serve(raw_listen(port), mode[0]);
		}
	raw_serve(raw_listen(port), mode[0]);
	return 0;
}
