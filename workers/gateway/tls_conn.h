/*
 * tls_conn.h: TLS on a gateway's connections: their handshakes, when they wait for what, and the
 * certificate that new ones begin with.
 *
 * OpenSSL may hold bytes that the socket no longer shows as readable, and may have to write in
 * order to read; so a TLS connection's events are handled here, not in conn.c.
 */
#ifndef BELAY_GATEWAY_TLS_CONN_H
#define BELAY_GATEWAY_TLS_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "net/tls.h"

struct conf;
struct conn;
struct gateway;

/* One connection's; owned by it. */
struct tls_conn {
	struct tls tls;
	struct conn *older, *newer;	/* of those in their handshake */
	struct conn *later;		/* next of those with bytes inside */
	uint32_t began_ms;
	short events;			/* what is waited for now */
	bool handshake, holds, ending;
};

/* A gateway's. */
struct tls_conns {
	struct tls_context *context;	/* NULL: there is no server.tls_listen */
	struct conn *oldest, *newest;	/* in their handshake */
	struct conn *later;		/* to be read again in the next turn */
	unsigned handshakes;
	unsigned steps;			/* of handshakes, that this turn may still do */
	unsigned churn;			/* handshakes and ends since memory was given back */
	int64_t trim_ms;		/* monotonic: when it may be given back next */
};

/*
 * Can TLS be had with these settings?  -1 with a sentence.  Where it can and why is not empty, that
 * is a warning.
 */
int tls_conn_check(const struct conf *conf, char *why, size_t len);
/* Takes up the settings' certificate.  -1: the one in force stays; a line was logged. */
int tls_conn_load(struct gateway *g);
void tls_conn_fini(struct gateway *g);

/* Are too many handshakes in hand, and is none of them slow enough to be given up for a new one? */
bool tls_conn_full(const struct gateway *g);
/* What the client sends from now on is TLS.  -1: there is no room. */
int tls_conn_begin(struct gateway *g, struct conn *c);
/* Frees c->tls, after a word to the peer where one is owed; harmless when there is none. */
void tls_conn_free(struct gateway *g, struct conn *c);

/* As output.c writes to a socket; see tls_write(). */
ssize_t tls_conn_write(struct conn *c, const void *p, size_t n);
/* Ends our half of the connection. */
void tls_conn_end(struct gateway *g, struct conn *c);

/* What to wait for, of EV_READ and EV_WRITE. */
short tls_conn_events(const struct conn *c);
void tls_conn_event(struct gateway *g, struct conn *c, short what);
/* Reading goes on after a pause: bytes inside raise no event. */
void tls_conn_resume(struct gateway *g, struct conn *c);
/* At the end of each turn. */
void tls_conn_turn(struct gateway *g);
/* Gives memory back to the system after many handshakes or ends. */
void tls_conn_tick(struct gateway *g);

#endif
