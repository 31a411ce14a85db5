/*
 * proxy.h: the header by which a load balancer says who its client is: the PROXY protocol, versions
 * 1 and 2 (haproxy, doc/proxy-protocol.txt).
 *
 * It comes once, before everything else on a connection, TLS included.  Whoever sends it can name
 * any address, so it is read from trusted senders only; that is the caller's business.
 */
#ifndef BELAY_NET_PROXY_H
#define BELAY_NET_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROXY_V1_MAX	107		/* bytes, the line's end included */
#define PROXY_HEADER_MAX \
	4096 /* bytes of a version 2 header that are taken, its extensions included */

struct proxy_client {
	/* false (LOCAL, UNKNOWN, a unix socket): the sender is to be taken for the client */
	bool known;
	uint8_t ip[16];			/* v4 mapped into v6 */
	uint16_t port;
};

/*
 * Looks at the first n bytes of a connection.  >0: the header's length, *out is filled in.  0: it
 * is not complete.  -1: it is no header, or not one for a TCP connection, or longer than what is
 * taken; told as early as it can be.
 *
 * Strict: numbers without leading zeros, one space between the words of a line, each extension
 * within the header, and the checksum right where there is one.
 */
long proxy_parse(const uint8_t *p, size_t n, struct proxy_client *out);

#endif
