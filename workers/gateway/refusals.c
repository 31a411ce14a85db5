/*
 * refusals.c: why peers were refused, a bounded number of lines.  One gateway process.
 *
 * The table is of a fixed size.  What finds no place in it, or comes after REFUSALS_ALL lines, is
 * counted together.
 */
#include <string.h>

#include "base/log.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/peer.h"
#include "gateway/refusals.h"

#define WINDOW_MS	10000
#define PLACES		(sizeof(((struct refusals *)0)->by) / sizeof(((struct refusals *)0)->by[0]))
#define PROBES		8

/* The place of an address, taken for it if need be; PLACES: there is none. */
static size_t
place_of(struct refusals *r, uint64_t address, const struct conn *c)
{
	for (size_t i = 0; i < PROBES; i++) {
		size_t at = (address + i) % PLACES;

		if (r->by[at].address == address)
			return at;
		if (r->by[at].address == 0) {
			r->by[at].address = address;
			conn_peer(c, r->by[at].peer);
			return at;
		}
	}
	return PLACES;
}

void
refusals_log(struct gateway *g, const struct conn *c, const char *why)
{
	struct refusals *r = &g->refusals;
	char peer[INET6_ADDRSTRLEN];
	size_t at;

	if (log_threshold < LOG_LEVEL_INFO)
		return;
	if (r->since_ms == 0)
		r->since_ms = g->w->mono_ms;
	at = place_of(r, peer_address_hash(g, c->address), c);
	if (at < PLACES && r->by[at].lines == REFUSALS_EACH) {
		r->by[at].left_out++;
	} else if (at == PLACES || r->lines == REFUSALS_ALL) {
		r->others++;
	} else {
		r->by[at].lines++;
		r->lines++;
		conn_peer(c, peer);
		log_info("%s refused: %s", peer, why);
		return;
	}
	gateway_count(g, LOG_LEFT_OUT, 1);
}

void
refusals_end(struct gateway *g)
{
	struct refusals *r = &g->refusals;
	int64_t lasted_ms = g->w->mono_ms - r->since_ms;

	if (r->since_ms == 0)
		return;
	for (size_t i = 0; i < PLACES; i++)
		if (r->by[i].left_out > 0)
			log_info("%s refused %u more times in %lld ms, which was not logged one by one",
			    r->by[i].peer, r->by[i].left_out, (long long)lasted_ms);
	if (r->others > 0)
		log_info("other addresses refused %u times in %lld ms, which was not logged one by one",
		    r->others, (long long)lasted_ms);
	memset(r, 0, sizeof(*r));
}

void
refusals_tick(struct gateway *g)
{
	if (g->refusals.since_ms != 0 && g->w->mono_ms - g->refusals.since_ms >= WINDOW_MS)
		refusals_end(g);
}
