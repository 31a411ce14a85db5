/*
 * client.h: one WebSocket connection to belayd, driven by its caller: it never
 * blocks and calls nobody back.
 *
 *	client_open(&c, &options);
 *	for (;;) {
 *		ev = client_next(&c, &m);
 *		if (ev == CLIENT_WAIT)
 *			... wait until c.line.fd is ready for c.line.wants ...
 *		else if (ev == CLIENT_END)
 *			... client_close(&c); c.status, c.code, c.why say how it ended ...
 *	}
 *
 * Pings and close frames are answered here.
 */
#ifndef BELAY_CTL_CLIENT_H
#define BELAY_CTL_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "belayctl/line.h"
#include "belayctl/url.h"
#include "ws/close.h"
#include "ws/handshake.h"
#include "ws/reader.h"

#define CLIENT_MESSAGE_MAX (4 * 1024 * 1024)

struct client_options {
	const struct url *url;			/* all borrowed, for the connection's life */
	const struct line_addresses *addresses;
	struct line_tls *tls;
	const char *token;			/* in the Authorization field; NULL: none */
	const char *device;			/* X-Device-Id; NULL: none */
	const char *origin;			/* NULL: none */
};

enum client_event { CLIENT_WAIT, CLIENT_OPEN, CLIENT_MESSAGE, CLIENT_END };

/* How far it came: what to make of an end depends on it. */
enum client_state { CLIENT_CONNECTING, CLIENT_UPGRADING, CLIENT_TALKING, CLIENT_ENDED };

struct client {
	enum client_state state;
	enum client_state reached;		/* the furthest */
	struct line line;
	struct ws_connect connect;
	struct ws_reader reader;
	struct buf in;				/* owned: received, not yet looked at */
	size_t in_off;
	struct buf out;				/* owned: not yet sent */
	bool closing;				/* our close frame was put into out */
	bool ending;				/* end as soon as out is sent */

	/* How it ended. */
	int status;				/* of the HTTP answer; 0: none came */
	bool not_http;				/* what answered does not speak HTTP */
	int64_t date_ms;			/* the answer's Date */
	/* of the server's close frame; WS_CODE_ABNORMAL: none came */
	uint16_t code;
	char reason[WS_REASON_MAX + 1];
	char why[192];				/* in words */
};

void client_open(struct client *c, const struct client_options *o);
/* Frees everything; the facts of the end stay. */
void client_close(struct client *c);

/* The message is valid until the next call. */
enum client_event client_next(struct client *c, struct slice *message);

/* Queues a text message; nothing is done unless the connection is open. */
void client_send(struct client *c, struct slice text);
/* Begins the close handshake. */
void client_bye(struct client *c, uint16_t code, const char *reason);
/* Writes what it can now (client_next() does it too). */
void client_flush(struct client *c);

/*
 * How long to wait before connecting again, in ms, after an end like this (belay-protocol(7)); -1:
 * not at all.  attempt: 0 after a connection that was open, else how many failed in a row.
 * after_ms: from the server's `reconnect` message, -1 without one.
 */
int64_t client_retry_ms(const struct client *c, unsigned attempt, int64_t after_ms);

#endif
