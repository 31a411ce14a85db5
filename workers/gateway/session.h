/*
 * session.h: the life of an accepted WebSocket connection: opening, what comes in, time, and the
 * end.
 */
#ifndef BELAY_GATEWAY_SESSION_H
#define BELAY_GATEWAY_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/slice.h"
#include "msg/error.h"

struct ask;
struct conn;
struct gateway;
struct msg_device_welcome;
struct msg_store_reply;

/* Greets a user and has it hear what it may; closes it when that can't be had. */
void session_open_user(struct gateway *g, struct conn *c, const struct identity *who);
void session_open_device(struct gateway *g, struct conn *c, const struct msg_device_welcome *m);
/* The greeting; the connection is a user's in phase RESUMING.  cursor: where it stands; empty: nobody knows. */
void session_greet(struct gateway *g, struct conn *c, struct slice cursor);
/* An accepted user's connection takes and gives from now on.  replayed: up to this place; 0: nothing was. */
void session_start(struct gateway *g, struct conn *c, int64_t replayed);
void session_open_echo(struct gateway *g, struct conn *c);

/*
 * The token that the connection lives by: until expires_ms (wall clock, 0: for ever); key and token as in struct
 * identity.  Its end is told once before it comes, even where the same token is presented again.
 */
void session_token(struct gateway *g, struct conn *c, int64_t expires_ms, uint32_t key, uint32_t token);

/* A text message of an open session. */
void session_message(struct gateway *g, struct conn *c, struct slice text);
/* The first one of a connection with ?auth=message. */
void session_first(struct gateway *g, struct conn *c, struct slice text);
/* Works out the next due second anew (after a refresh, at opening). */
void session_rearm(struct gateway *g, struct conn *c);

/*
 * Nothing more is delivered to it and nothing taken from it: listeners are left, storage hears that
 * the device is gone. The connection itself stays.  Harmless when there is no session.
 */
void session_end(struct gateway *g, struct conn *c, const char *reason);

/* Sends the error message of the protocol; field and message may be NULL. */
void session_error(struct gateway *g, struct conn *c, struct slice re, enum error_code code,
    const char *field, const char *message);

/* The same with retryAfterMs. */
void session_error_later(struct gateway *g, struct conn *c, struct slice re, enum error_code code,
    int64_t retry_after_ms);

/* So many messages were not sent to it, since then (wall clock). */
void session_gap(struct gateway *g, struct conn *c, int64_t dropped, int64_t since);

/* Its role, or what plain members may view, may have changed: it is given what it may hear from now on, and no more. */
void session_rights_changed(struct gateway *g, struct conn *c);
/* Answers the message in hand with the server's time: pong, heartbeat_ack. */
void session_answer_at(struct gateway *g, struct conn *c, const char *type);
/*
 * Asks storage with a struct msg_NAME on behalf of the message in hand; the answer goes to its id.  Where no
 * more of it may wait the client hears `rate_limited` at once.
 */
#define SESSION_ASK(g, c, ops, name, m) do { \
	struct ask *ask_ = ask_new((g), (c), (ops), (g)->envelope.id); \
	(m)->request = ask_->request; \
	if (gateway_tell_storage((g), name, (m)) == -1) \
		ask_failed((g), ask_, tell_refusal()); \
} while (0)

/* The same of a reader. */
#define SESSION_READ(g, c, ops, name, m) \
	reads_ask((g), ask_new((g), (c), (ops), (g)->envelope.id), name, (m), false)

/* What questions on behalf of a message have in common: ask.h. */
bool session_waits(const struct conn *c, const struct ask *a);
void session_ask_failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code);
/* true: the reply is a refusal, and the client was told. */
bool session_refused(struct gateway *g, struct conn *c, struct slice re, const struct msg_store_reply *m);

/* {"type":"auth"} on an open connection: a new token in place.  A device token is asked about first. */
void session_refresh(struct gateway *g, struct conn *c, struct slice re, struct slice token);

#endif
