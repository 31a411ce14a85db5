/*
 * limits.c: the token bucket of a connection and the count of its bad
 * messages.  One gateway process; all state is in struct conn.
 */
#include "gateway/conn.h"
#include "gateway/device.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"

#define ABUSE_REST_MS	2000		/* a pause of this length ends it */

void
limits_init(struct gateway *g, struct conn *c)
{
	c->tokens = (float)g->conf->limits_message_burst;
	c->rate_ms = (uint32_t)g->w->mono_ms;
}

/* Takes one token of a bucket that fills at rate a second up to burst: 0, or the milliseconds until there is one. */
static int64_t
take_token(float *tokens, uint32_t *at_ms, uint32_t now, float rate, float burst)
{
	*tokens += rate * (float)(now - *at_ms) / 1000.0f;
	if (*tokens > burst)
		*tokens = burst;
	*at_ms = now;
	if (*tokens >= 1.0f) {
		*tokens -= 1.0f;
		return 0;
	}
	return 1 + (int64_t)((1.0f - *tokens) * 1000.0f / rate);
}

/* What a tenant's connections say together: one that is too loud is told to wait, so that it can't slow others. */
static int64_t
tenant_wait_ms(struct gateway *g, struct conn *c)
{
	struct tenant *t = c->kind == CONN_DEVICE ? c->device->tenant : c->user->tenant;
	float rate = (float)g->conf->limits_tenant_message_rate;

	return rate > 0 ? take_token(&t->tokens, &t->rate_ms, (uint32_t)g->w->mono_ms, rate, rate) : 0;
}

bool
limits_message(struct gateway *g, struct conn *c, int64_t *retry_after_ms)
{
	float rate = (float)g->conf->limits_message_rate, burst = (float)g->conf->limits_message_burst;
	uint32_t now = (uint32_t)g->w->mono_ms;

	*retry_after_ms = take_token(&c->tokens, &c->rate_ms, now, rate, burst);
	if (*retry_after_ms == 0) {
		if (c->abuse_ms != 0 && c->tokens >= rate * ABUSE_REST_MS / 1000.0f)
			c->abuse_ms = 0;
		*retry_after_ms = tenant_wait_ms(g, c);
		if (*retry_after_ms == 0)
			return true;
		gateway_count(g, TENANT_LIMITED, 1);
		return false;		/* the others' noise: no abuse of this connection */
	}
	gateway_count(g, RATE_LIMITED, 1);
	if (c->abuse_ms == 0)
		c->abuse_ms = now != 0 ? now : 1;
	else if (now - c->abuse_ms >= g->conf->limits_abuse_time_ms)
		conn_close(g, c, WS_CLOSE_RATE_LIMITED);
	return false;
}

bool
limits_tenant_room(const struct gateway *g, const struct tenant *t)
{
	return g->conf->limits_connections_per_tenant == 0 || t == NULL ||
	    t->connections < g->conf->limits_connections_per_tenant;
}

bool
limits_invalid(struct gateway *g, struct conn *c)
{
	uint32_t now = g->wheel.now;

	gateway_count(g, MESSAGES_INVALID, 1);
	if (now - c->invalid_s >= 60) {
		c->invalid_s = now;
		c->invalid_count = 0;
	}
	if (++c->invalid_count < g->conf->limits_invalid_messages)
		return true;
	conn_close(g, c, WS_CLOSE_TOO_MANY_INVALID);
	return false;
}
