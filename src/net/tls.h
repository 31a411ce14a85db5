/*
 * tls.h: TLS on clients' connections (OpenSSL), the server's side.
 *
 * A context holds a certificate with its key; sessions refer to the context that they began with,
 * so a new one can take its place while old connections go on.  Nothing here waits, waits for
 * events or closes the socket.
 *
 * TLS 1.2 and 1.3; resumption by tickets, whose keys follow from a secret and the clock: whoever
 * has the same secret can resume another process's sessions, and nothing is remembered for it.  No
 * renegotiation, no early data.
 */
#ifndef BELAY_NET_TLS_H
#define BELAY_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/slice.h"

#define TLS_SECRET_LEN	32
#define TLS_RECORD_MAX	16384		/* bytes of one record's payload (RFC 8446 section 5.1) */

struct tls_context;

/*
 * certificate_pem: the server's certificate, then those that lead to its root; key_pem: its private
 * key, not encrypted. secret: TLS_SECRET_LEN bytes that the tickets' keys are made from, copied;
 * NULL: no resumption (for a mere check). NULL with a sentence in err: not PEM, too weak, or key
 * and certificate are not a pair.
 */
struct tls_context *tls_context_new(struct slice certificate_pem, struct slice key_pem,
    const uint8_t *secret, char *err, size_t errlen);
/* Gives it up and clears the pointer; sessions that began with it are not concerned. */
void tls_context_free(struct tls_context **context);
/* When the certificate ends, seconds since 1970. */
int64_t tls_context_not_after(const struct tls_context *context);

/* One connection's session, embedded in the caller's own struct. */
struct tls {
	void *ssl;
	bool open;			/* the handshake is over; never goes back */
	bool broken;			/* a fault ended it: no close_notify is owed */
	bool spoke_http;		/* … namely a request in the clear, at the beginning */
	bool read_wants_write;		/* tls_read() said EAGAIN: it must write first */
	bool write_wants_read;		/* tls_write() said EAGAIN: it must read first */
	const char *fault;		/* OpenSSL's word for it, static; or NULL */
};

/* 0, or -1 when out of memory.  The descriptor stays the caller's. */
int tls_init(struct tls *t, struct tls_context *context, int fd);
void tls_fini(struct tls *t);

/*
 * As net_read() and net_write() of sock.h; the first calls of tls_read() are the handshake.  EAGAIN: the
 * socket must become readable or, with read_wants_write, writable.  EPROTO: the peer broke the
 * protocol (see fault).  0: the peer has ended its side; without a close_notify it is broken, too.
 * (OpenSSL 3.0 also breaks a session whose peer asks for new keys while a record is refused by
 * tls_write(); no known client does.)
 */
ssize_t tls_read(struct tls *t, void *into, size_t cap);
/*
 * Not before the handshake is over.  Takes at most one record's worth.  After EAGAIN the next call
 * must offer the same bytes again, at any address, and may offer more behind them.
 */
ssize_t tls_write(struct tls *t, const void *from, size_t len);
/* Does tls_read() have more to look at, though the socket may not be readable? */
bool tls_holds(const struct tls *t);
/*
 * Sends close_notify: 0 it is sent or can't be; -1 with EAGAIN: call again when the socket is
 * writable.
 */
int tls_end(struct tls *t);

bool tls_resumed(const struct tls *t);
/* "TLSv1.3", "TLSv1.2". */
const char *tls_version(const struct tls *t);

#endif
