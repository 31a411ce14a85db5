/*
 * refusals.h: the log's lines about peers whose token was refused, or who had none.
 *
 * Anybody can make such a line, as fast as the network lets him.  So in 10 seconds a gateway process
 * writes at most REFUSALS_EACH for one address (an IPv4 address, or 64 bits of an IPv6 one) and
 * REFUSALS_ALL in all, and then says how many it left out.
 */
#ifndef BELAY_GATEWAY_REFUSALS_H
#define BELAY_GATEWAY_REFUSALS_H

#include <netinet/in.h>
#include <stdint.h>

struct conn;
struct gateway;

#define REFUSALS_EACH	10
#define REFUSALS_ALL	200

/* All that is kept, in one gateway process; all zero: nothing. */
struct refusals {
	int64_t since_ms;		/* monotonic, of these 10 seconds; 0: nothing was refused lately */
	uint32_t lines;			/* written */
	uint32_t others;		/* left out, of addresses that are not told */
	struct {			/* by a hash of the address, and some places behind that */
		uint64_t address;	/* that hash; 0: free */
		uint32_t lines, left_out;
		char peer[INET6_ADDRSTRLEN];
	} by[256];
};

/* why: a sentence without any part of a token. */
void refusals_log(struct gateway *g, const struct conn *c, const char *why);
void refusals_tick(struct gateway *g);
void refusals_end(struct gateway *g);		/* the process leaves: tells what was left out */

#endif
