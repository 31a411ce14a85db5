/*
 * ticket.c: tickets are made for users by REST, and taken once by an upgrade.
 * One gateway process; storage remembers them.
 */
#include <string.h>

#include "gateway/api.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/ticket.h"
#include "gateway/upgrade.h"

#define TICKET_MS	30000
#define TICKET_PREFIX	"btk_"
#define TICKET_LEN	(sizeof(TICKET_PREFIX) - 1 + 43)
#define TICKET_BYTES	32

/* Storage has it. */
static void
stored(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	if (m->code == ERROR_NONE)
		http_respond_json(g, c, 200, buf_slice(&c->http->body));
	else
		api_answer(g, c, a, m);
}

static const struct ask_ops stores = { .waits = api_waits, .answer = stored, .failed = api_failed };
static const struct ask_ops takes = { .waits = upgrade_waits, .failed = upgrade_ask_failed };

void
ticket_request(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	int64_t until = g->w->now_ms + TICKET_MS;
	uint8_t bytes[TICKET_BYTES];
	struct msg_ticket_put m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .lasts_ms = TICKET_MS,
		.expires = h->who.expires_ms, .role = (uint8_t)h->who.role,
		.any_tenant = h->who.any_tenant,
		.tenant = slice_of(h->who.tenant), .user = slice_of(h->who.user),
		.role_name = slice_of(h->who.role_name)
	};

	digest_random(bytes, sizeof(bytes));
	memcpy(bytes, &h->who.key, sizeof(h->who.key));
	/* The request has no body: its buffer keeps the answer until storage has the ticket. */
	buf_clear(&h->body);
	buf_puts(&h->body, "{\"ticket\":\"" TICKET_PREFIX);
	digest_base64url_put(&h->body, bytes, sizeof(bytes));
	digest_sha256((struct slice){ h->body.data + sizeof("{\"ticket\":\"") - 1, TICKET_LEN },
	    m.ticket_hash);
	buf_puts(&h->body, "\",\"expiresAt\":");
	buf_put_json_time(&h->body, h->who.expires_ms != 0 && h->who.expires_ms < until ? h->who.expires_ms : until);
	buf_putc(&h->body, '}');
	API_ASK(g, c, &stores, ticket_put, &m);
}

void
ticket_present(struct gateway *g, struct conn *c, struct slice ticket)
{
	struct msg_ticket_take m = { .ref = conn_ref(g, c) };
	struct slice encoded = { ticket.p + sizeof(TICKET_PREFIX) - 1, 43 };
	uint8_t bytes[TICKET_BYTES];
	struct ask *a;

	if (ticket.len != TICKET_LEN || memcmp(ticket.p, TICKET_PREFIX,
	    sizeof(TICKET_PREFIX) - 1) != 0 ||
	    digest_base64url_decode(encoded, bytes, sizeof(bytes)) != TICKET_BYTES) {
		upgrade_refuse(g, c, REFUSE_INVALID, "malformed ticket");
		return;
	}
	memcpy(&c->key, bytes, sizeof(c->key));
	digest_sha256(ticket, m.ticket_hash);
	a = ask_new(g, c, &takes, SLICE_NONE);
	m.request = a->request;
	wheel_set(&g->wheel, &g->conns, c, g->wheel.now + 10);
	if (gateway_tell_storage(g, ticket_take, &m) == -1)
		ask_failed(g, a, tell_refusal());
}

void
ticket_taken(struct gateway *g, const struct msg_ticket_taken *m)
{
	struct ask *a = ask_find(g, m->request);
	struct conn *c = conn_of_ref(g, m->ref);
	struct identity who = {
		.role = (enum role)m->role, .any_tenant = m->any_tenant, .expires_ms = m->expires
	};

	if (a == NULL)
		return;
	ask_free(g, a);
	if (c == NULL || conn_phase(c) != CONN_AUTH)
		return;
	if (m->code == ERROR_unavailable) {
		conn_close(g, c, WS_CLOSE_OVERLOADED);
		return;
	}
	who.key = c->key;
	if (m->code != ERROR_NONE || m->tenant.len > ID_TENANT_MAX || m->user.len > ID_USER_MAX ||
	    m->role_name.len >= sizeof(who.role_name)) {
		upgrade_refuse(g, c, REFUSE_INVALID, "no such ticket, or it was used or is too "
		    "old");
		return;
	}
	if (m->expires != 0 && g->w->now_ms >= m->expires + AUTH_LEEWAY_MS) {
		upgrade_refuse(g, c, REFUSE_INVALID, "the token behind the ticket has expired");
		return;
	}
	memcpy(who.tenant, m->tenant.p, m->tenant.len);
	memcpy(who.user, m->user.p, m->user.len);
	memcpy(who.role_name, m->role_name.p, m->role_name.len);
	if (!auth_allows(g->auth, who.key, m->tenant, who.role)) {
		upgrade_refuse(g, c, REFUSE_INVALID, "the key behind the ticket was removed");
		return;
	}
	upgrade_open_user(g, c, &who);
}
