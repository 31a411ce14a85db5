/*
 * forwarded.h: who the client is, as proxies say it in a request's head: X-Forwarded-For, or
 * Forwarded (RFC 7239).
 *
 * Each proxy appends the address of who spoke to it.  Only what trusted proxies appended can be
 * believed, so the list is read from its end: the first address that is not a trusted proxy's is
 * the client's, and what stands before it is hearsay.
 */
#ifndef BELAY_HTTP_FORWARDED_H
#define BELAY_HTTP_FORWARDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "http/request.h"

struct networks {
	struct network *v;
	size_t n;
};

/* ip: v4 mapped into v6; zeros, a unix socket, are in the network "unix" alone. */
bool networks_have(const struct networks *networks, const uint8_t ip[16]);

/*
 * Reads all lines of the header.  name: "X-Forwarded-For" or "Forwarded"; ip: where the request
 * came from, a trusted proxy, and after the call who the client is (v4 mapped into v6).  An element
 * that names no address (unknown, _hidden, nonsense) ends what can be believed.  When all are
 * trusted the first of them is the client.
 */
void forwarded_client(
    const struct http_head *head, const char *name, const struct networks *trusted, uint8_t ip[16]);

/*
 * "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80" to an address, v4
 * mapped into v6. -1: it is none.
 */
int forwarded_node(struct slice text, uint8_t ip[16]);

#endif
