/*
 * traffic.c: counts of each tenant's connections, messages and requests over
 * the newest minutes.  One gateway process; they end with it.
 */
#include <string.h>

#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/party.h"
#include "gateway/traffic.h"

void
traffic_count(struct gateway *g, struct tenant *t, enum traffic_count what)
{
	if (t != NULL)
		window_row(&t->traffic.step, &t->traffic.counts[0][0], TRAFFIC_COUNTS, g->w->mono_ms)[what]++;
}

void
traffic_count_error(struct gateway *g, const struct conn *c, enum error_code code)
{
	struct tenant *t = party_tenant(c);

	if (code == ERROR_unavailable || code == ERROR_internal)
		traffic_count(g, t, TRAFFIC_FAILED);
	if (code == ERROR_unavailable)
		traffic_count(g, t, TRAFFIC_UNAVAILABLE);
}

/* Whose request it is; empty: nobody's, or one for all. */
static struct slice
tenant_of_request(const struct http *h)
{
	return slice_of(h->who.any_tenant ? h->tenant : h->who.tenant);
}

void
traffic_count_response(struct gateway *g, const struct conn *c, int status, enum error_code code)
{
	struct slice name = tenant_of_request(c->http);
	struct tenant *t;

	if (status < 400 || name.len == 0)
		return;
	t = tenant_get(g, name);
	traffic_count(g, t, status < 500 ? TRAFFIC_REFUSED : TRAFFIC_HTTP_5XX);
	if (status >= 500)
		traffic_count(g, t, TRAFFIC_FAILED);
	if (code == ERROR_unavailable)
		traffic_count(g, t, TRAFFIC_UNAVAILABLE);
	tenant_put(g, t);
}

void
traffic_add(struct gateway *g, uint64_t counts[TRAFFIC_COUNTS], struct tenant *t)
{
	window_row(&t->traffic.step, &t->traffic.counts[0][0], TRAFFIC_COUNTS, g->w->mono_ms);
	for (unsigned i = 0; i < WINDOW_STEPS; i++)
		for (unsigned k = 0; k < TRAFFIC_COUNTS; k++)
			counts[k] += t->traffic.counts[i][k];
}

/* Each process's counts over its own window. */
void
traffic_sum_add(struct traffic_sum *sum, const struct msg_user_done *m)
{
	uint64_t counts[TRAFFIC_COUNTS];

	if (m->traffic.len != sizeof(counts))
		return;
	memcpy(counts, m->traffic.p, sizeof(counts));
	sum->connections += m->connections;
	for (unsigned k = 0; k < TRAFFIC_COUNTS; k++) {
		sum->counts[k] += counts[k];
		if (m->window_ms > 0)
			sum->per_second[k] += (double)counts[k] * 1000 / (double)m->window_ms;
	}
	if (sum->window_ms == 0 || m->window_ms < sum->window_ms)
		sum->window_ms = m->window_ms;
}
