/*
 * line.h: a TCP connection, with or without TLS, that never blocks.
 *
 * The caller waits with poll(2) or an event loop for what `wants` says and
 * calls again.  Name resolution alone blocks (line_resolve()).
 */
#ifndef BELAY_CTL_LINE_H
#define BELAY_CTL_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "belayctl/url.h"

#define LINE_ADDRESSES 8

struct line_addresses {
	unsigned n;
	struct {
		struct sockaddr_storage sa;
		socklen_t len;
	} at[LINE_ADDRESSES];
};

/* 0; or -1 with *why, a sentence. */
int line_resolve(const struct url *u, struct line_addresses *out, const char **why);

/* Where a line failed: what to tell the user depends on it. */
enum line_fault { LINE_OK, LINE_CONNECT, LINE_TLS, LINE_IO };

struct ssl_ctx_st;
struct ssl_st;

struct line_tls {
	struct ssl_ctx_st *ctx;		/* shared by all lines; NULL until first used */
	bool insecure;			/* certificates are not checked */
};

struct line {
	int fd;				/* -1: none */
	short wants;			/* POLLIN, POLLOUT */
	bool connected;			/* TCP and TLS stand */
	bool tcp;			/* TCP stands */
	unsigned next;			/* address to try after this one */
	const struct line_addresses *addresses;	/* borrowed */
	const struct url *url;		/* borrowed */
	struct line_tls *tls;		/* borrowed; used for wss and https */
	struct ssl_st *ssl;
	enum line_fault fault;
	int error;			/* errno of the fault, 0 when it is none */
	char why[192];			/* of the fault */
};

/* Begins to connect to the addresses in their order.  All arguments must outlive the line. */
void line_open(struct line *l, const struct url *u, const struct line_addresses *a,
    struct line_tls *tls);
void line_close(struct line *l);
void line_tls_fini(struct line_tls *tls);

/* 1: connected; 0: wait for l->wants; -1: failed, see fault and why. */
int line_step(struct line *l);

/*
 * Bytes; 0: the peer ended it; -1 with l->fault LINE_OK: wait for l->wants; -1 otherwise: failed.
 */
ssize_t line_read(struct line *l, void *p, size_t len);
ssize_t line_write(struct line *l, const void *p, size_t len);	/* never 0 */

/* Waits for l->wants until the monotonic time; false when that passed. */
bool line_wait(const struct line *l, int64_t until_mono_ms);

#endif
