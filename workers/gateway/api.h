/*
 * api.h: what HTTP requests mean: who may ask, and what all files of REST need.
 */
#ifndef BELAY_GATEWAY_API_H
#define BELAY_GATEWAY_API_H

#include <stdbool.h>

#include "http/request.h"
#include "msg/envelope.h"
#include "msg/error.h"
#include "msg/msg.h"

struct ask;
struct conn;
struct gateway;

/* The head of a request is there: may this client ask it at all?  false: it was answered. */
bool api_authorize(struct gateway *g, struct conn *c, const struct http_head *head);
/* The request is there whole: answers it, or asks storage. */
void api_request(struct gateway *g, struct conn *c);

/*
 * The tenant that the request is for; a service key of all tenants names it in the query or the body.  false: it was
 * answered.
 */
bool api_tenant(struct gateway *g, struct conn *c, struct slice *tenant);
/* The tenant that counts are asked of; empty: a service key of all tenants names none, and sees the sum of all. */
bool api_tenant_or_all(struct gateway *g, struct conn *c, struct slice *tenant);
bool api_sees_instance(struct gateway *g, const struct conn *c);
/* Answers with what is wrong with the body. */
void api_bad_body(struct gateway *g, struct conn *c, const struct envelope_fault *fault);

/* What questions on behalf of a request have in common: ask.h. */
bool api_waits(const struct conn *c, const struct ask *a);
void api_answer(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m);
void api_failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code);
/* Asks storage with a struct msg_NAME on behalf of the request in hand, or answers that it can't be asked. */
#define API_ASK(g, c, ops, name, m) do { \
	struct ask *ask_ = ask_new((g), (c), (ops), SLICE_NONE); \
	(m)->request = ask_->request; \
	if (gateway_tell_storage((g), name, (m)) == -1) \
		ask_failed((g), ask_, tell_refusal()); \
} while (0)

#endif
