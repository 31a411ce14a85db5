/*
 * own.c: whose token it is that a device's request brings.  One gateway process; owns nothing but what struct
 * http has of it.
 */
#include <string.h>

#include "auth/device_token.h"
#include "base/must.h"
#include "gateway/ask.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/own.h"
#include "gateway/upgrade.h"

#define OWN_MS 8000			/* for the answer: sooner than the time of a held head is over (http.c) */

static void
copy(char *out, size_t size, struct slice s)
{
	must(s.len < size);
	memcpy(out, s.p, s.len);
	out[s.len] = '\0';
}

/* The device of the request in hand, as storage said. */
static enum own_verdict
take(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	struct own *own = h->own;

	own->answered = false;
	if (own->code == ERROR_invalid_token)
		return OWN_UNKNOWN;
	if (own->code != ERROR_NONE) {
		http_respond_error(g, c, own->code, NULL, NULL);
		return OWN_LATER;
	}
	h->who.role = ROLE_DEVICE;
	copy(h->who.tenant, sizeof(h->who.tenant), slice_of(own->tenant));
	copy(h->who.user, sizeof(h->who.user), slice_of(own->device));
	return OWN_KNOWN;
}

/* Does the connection's head wait for this question? */
static bool
waits(const struct conn *c, const struct ask *a)
{
	return conn_phase(c) == CONN_HTTP && c->http->state == REQUEST_HELD && c->http->own != NULL &&
	    c->http->own->request == a->request;
}

static void
failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	(void)a;
	c->http->own->code = code;
	c->http->own->answered = true;
	http_unhold(g, c);
}

static const struct ask_ops asks = { .waits = waits, .failed = failed };

static enum own_verdict
ask_storage(struct gateway *g, struct conn *c, struct msg_device_who *m)
{
	struct own *own = c->http->own;
	struct ask *a = ask_new(g, c, &asks, SLICE_NONE);
	enum error_code code;

	a->until_ms = g->w->mono_ms + OWN_MS;
	m->ref = conn_ref(g, c);
	m->request = own->request = a->request;
	if (gateway_tell_storage(g, device_who, m) == -1) {
		code = tell_refusal();
		ask_free(g, a);
		http_respond_error(g, c, code, NULL, NULL);
	} else {
		http_hold(g, c);
	}
	return OWN_LATER;
}

enum own_verdict
own_identify(struct gateway *g, struct conn *c, const struct http_head *head, struct slice token)
{
	struct http *h = c->http;
	char device[ID_DEVICE_MAX + 1];
	struct msg_device_who m = { .tenant = slice_of(h->who.tenant), .device = slice_of(h->who.user) };

	if (h->own != NULL && h->own->answered)
		return take(g, c);
	upgrade_read_device(g, head, device);
	m.by_token = h->who.role != ROLE_DEVICE;
	if (m.by_token) {
		if (auth_device_token_hash(token, m.token_hash) == -1)
			return OWN_UNKNOWN;
		m.device = slice_of(device);
	} else if (device[0] != '\0' && strcmp(device, h->who.user) != 0) {
		return OWN_UNKNOWN;
	}
	if (h->own == NULL)
		h->own = must_alloc(sizeof(*h->own));
	h->own->by_token = m.by_token;
	memcpy(h->own->hash, m.token_hash, sizeof(h->own->hash));
	return ask_storage(g, c, &m);
}

void
own_answer(struct gateway *g, const struct msg_device_is *m)
{
	struct ask *a = ask_find(g, m->request);
	struct conn *c = a == NULL ? NULL : ask_conn(g, a);
	struct own *own;

	if (a == NULL)
		return;
	ask_free(g, a);
	if (c == NULL)
		return;
	own = c->http->own;
	own->code = (enum error_code)m->code;
	copy(own->tenant, sizeof(own->tenant), m->tenant);
	copy(own->device, sizeof(own->device), m->device);
	copy(own->owner, sizeof(own->owner), m->owner);
	own->answered = true;
	http_unhold(g, c);
}

struct slice
own_owner(const struct conn *c)
{
	return slice_of(c->http->own->owner);
}

struct slice
own_hash(const struct conn *c)
{
	const struct own *own = c->http->own;

	return own->by_token ? slice_bytes(own->hash, sizeof(own->hash)) : SLICE_NONE;
}
