/*
 * api.h: what HTTP requests mean, and how answers of storage reach those who asked.
 */
#ifndef BELAY_GATEWAY_API_H
#define BELAY_GATEWAY_API_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/uuid.h"
#include "http/request.h"
#include "msg/error.h"
#include "msg/msg.h"

struct ask;
struct conn;
struct gateway;
struct traffic_sum;

/* The head of a request is there: may this client ask it at all?  false: it was answered. */
bool api_authorize(struct gateway *g, struct conn *c, const struct http_head *head);
/* The request is there whole: answers it, or asks storage. */
void api_request(struct gateway *g, struct conn *c);

/* Storage's answers. */
void answer_reply(struct gateway *g, const struct msg_store_reply *m);
void answer_failed(struct gateway *g, struct ask *a, enum error_code code);	/* frees a */
/*
 * A command that an HTTP request asked for, as it stands now.  a: the question, for the first
 * answer; NULL later.
 */
void answer_command(struct gateway *g, struct conn *c, const struct ask *a,
    struct slice command_json);

/* What a command's object says of itself: its id (false: it says none), and whether it has ended. */
enum command_end { COMMAND_RUNS, COMMAND_ENDED, COMMAND_TIMED_OUT };
enum command_end answer_command_end(struct slice command_json);
bool answer_command_id(struct slice command_json, uint8_t id[UUID_LEN]);

/* ?wait=1: asks storage how the command is whose end the request in hand waits for. */
void api_look_at_command(struct gateway *g, struct conn *c);

/* api_health.c */
void api_health(struct gateway *g, struct conn *c);
/* fault: why the store takes no writes, in words; NULL: it does. */
void api_health_ready(struct gateway *g, struct conn *c, const char *fault);
/* whole: with the counts that are of no one tenant. */
void api_health_detailed(struct gateway *g, struct conn *c, const char *fault, int64_t store_ms,
    bool whole);
/* What storage counted is the body of the request in hand. */
void api_health_metrics(struct gateway *g, struct conn *c, const struct traffic_sum *traffic);
void api_metrics(struct gateway *g, struct conn *c);

#endif
