/*
 * tell.h: what a gateway tells and asks storage leaves in turns (turns.h): whose a record is, what it costs, and which
 * connections are not read from while records of theirs wait.
 */
#ifndef BELAY_GATEWAY_TELL_H
#define BELAY_GATEWAY_TELL_H

#include <stdbool.h>
#include <stdint.h>

#include "msg/error.h"
#include "msg/msg.h"

struct ask;
struct conn;
struct gateway;

#define TELL_RETRY_MS 1000		/* what was refused because too much waits may be tried again then */

void tell_start(struct gateway *g);
void tell_stop(struct gateway *g);		/* what waits is posted, as far as there is room */
/* Other settings are in force. */
void tell_reload(struct gateway *g);

/*
 * The record in g->record, of this kind.  0, or -1 with errno: tell_refusal() is what the sender is to hear, and
 * g->tell_retry_ms when it may try again.
 */
int tell_storage(struct gateway *g, uint16_t kind, struct msg_whose whose);
enum error_code tell_refusal(void);

/* After each batch of mail: posts what may go by now, and those of whom nothing waits any more are read from again. */
void tell_turn(struct gateway *g);
void tell_tick(struct gateway *g);
/* A drain has no time left: all is posted. */
void tell_flush(struct gateway *g);

/* Nobody waits for its answer: it is not sent, if it was not yet. */
void tell_withdraw(struct gateway *g, const struct ask *a);
/* The session has ended: what it asked is not sent; what it said is. */
void tell_ended(struct gateway *g, struct conn *c);

#endif
