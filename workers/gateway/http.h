/*
 * http.h: the HTTP phase of a connection: requests in, responses out, one at a
 * time and in order; what was pipelined waits.
 */
#ifndef BELAY_GATEWAY_HTTP_H
#define BELAY_GATEWAY_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/buf.h"
#include "base/uuid.h"
#include "http/body.h"
#include "http/request.h"
#include "http/route.h"
#include "msg/error.h"

struct conn;
struct gateway;
struct own;

#define HTTP_RESUME_MAX 40		/* characters of a cursor */

struct http {
	struct buf in;			/* what came and is not used yet */
	struct buf body;		/* of the request in hand */
	struct http_body framing;
	uint32_t due_s;			/* when the request in hand must be complete */

	/* The request in hand. */
	enum http_state { REQUEST_HEAD, REQUEST_HELD, REQUEST_RESTING, REQUEST_BODY,
	    REQUEST_ASKED,
	    REQUEST_OVER		/* the last one was answered: nothing more is read, or waited for */
	} state;
	bool keep_alive, http10, head_only, has_body, parsing;
	struct route_match match;
	struct identity who;
	struct buf query;		/* raw */
	struct buf idempotency_key;
	struct buf cors;		/* header lines for the page that asks */
	struct own *own;		/* owned; a device that asks by its own token: own.h; NULL: none did yet */
	int refusal;			/* a status that is decided, and when to try again */
	int64_t refusal_retry_ms;
	bool health_too;		/* a guest is told how the server is, before it goes */
	bool answered;			/* an earlier request on this connection */
	uint8_t peer[16];		/* who speaks to us, perhaps a trusted proxy: peer.c */

	/* ?wait=1: the command whose end is waited for. */
	bool waiting;
	uint8_t command[UUID_LEN];
	uint32_t look_s;		/* time between two looks at it */
	uint64_t look;			/* the question about it that is not answered yet, or 0 */
	bool as_it_is;			/* nothing more is waited for: the process leaves */

	/* After the upgrade, until the session is open. */
	char device[ID_DEVICE_MAX + 1];	/* as the client names itself; may be empty */
	char tenant[ID_TENANT_MAX + 1];	/* ?tenantId= */
	bool resumes;				/* ?resume= was there … */
	char resume[HTTP_RESUME_MAX + 1];	/* … and named this */
	struct resuming *resuming;		/* owned; in phase RESUMING: resume.c */
	bool auth_named;		/* ?auth=message: the first message had an id … */
	struct buf auth_id;		/* … which is answered */
};

/* limits.handshake_time in whole seconds, rounded up. */
uint32_t http_handshake_s(const struct gateway *g);

/* At accept: the first request must be complete within limits.handshake_time. */
void http_begin(struct gateway *g, struct conn *c);
/* Frees what HTTP holds; harmless when there is nothing. */
void http_end(struct gateway *g, struct conn *c);

/* Keeps bytes that came after an upgrade until the session is open; bounded. */
void http_hold_input(struct gateway *g, struct conn *c, uint8_t *p, size_t n);
/* The request in hand is answered when this command ends. */
void http_wait(struct gateway *g, struct conn *c, const uint8_t command[UUID_LEN]);
/* … or now, as it is: 202 where it has not ended. */
void http_wait_no_more(struct gateway *g, struct conn *c);

/*
 * The request whose head is in hand waits for its token's verdict; it is read again, from its head,
 * by http_unhold().
 */
void http_hold(struct gateway *g, struct conn *c);
void http_unhold(struct gateway *g, struct conn *c);

/*
 * Answers the request in hand, whose head is `head`, with 429: when its body has come, so that the
 * connection lasts (true), or at once (false).  Where limits.c hushed the connection the next request
 * waits, however many have come, until http_go_on().
 */
bool http_respond_too_fast(struct gateway *g, struct conn *c, const struct http_head *head,
    int64_t retry_after_ms);
/* The same for a request whose body is here: at once. */
void http_refuse_too_fast(struct gateway *g, struct conn *c, int64_t retry_after_ms);
void http_go_on(struct gateway *g, struct conn *c);

/* The key that let the request in hand in is not in force any more: 401, and the end. */
void http_revoke(struct gateway *g, struct conn *c);

/* Whatever it asks for: 503 or 429, and the end. */
void http_refuse_early(struct gateway *g, struct conn *c, int status, int64_t retry_after_ms);
/* Answers the request in hand; goes on with the next one. */
void http_respond(struct gateway *g, struct conn *c, int status, struct slice content_type,
    struct slice body);
void http_respond_json(struct gateway *g, struct conn *c, int status, struct slice body);
void http_respond_error(struct gateway *g, struct conn *c, enum error_code code,
    const char *message, const char *field);
void http_respond_retry(struct gateway *g, struct conn *c, enum error_code code,
    int64_t retry_after_ms);

#endif
