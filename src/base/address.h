/*
 * address.h: addresses to listen on, and networks, as they are written in the settings.
 */
#ifndef BELAY_BASE_ADDRESS_H
#define BELAY_BASE_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/slice.h"

enum address_kind { ADDRESS_TCP, ADDRESS_UNIX };

#define ADDRESS_HOST_MAX 255
#define ADDRESS_PATH_MAX 107		/* of sun_path, its NUL left out */

struct address {
	enum address_kind kind;
	/* name or number, v6 without brackets; "" for all addresses of IPv4 */
	char host[ADDRESS_HOST_MAX + 1];
	uint16_t port;
	char path[ADDRESS_PATH_MAX + 1];	/* of ADDRESS_UNIX */
};

/* IPv4 addresses stand where IPv6 ones do: as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2). */
static inline void
address_map_v4(uint8_t ip[16], const void *v4)
{
	memset(ip, 0, 10);
	ip[10] = ip[11] = 0xff;
	memcpy(ip + 12, v4, 4);
}

static inline bool
address_is_v4(const uint8_t ip[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(ip, mapped, sizeof(mapped)) == 0;
}

/* "host:port", ":port", "[v6]:port", "unix:/path".  0, or -1 with *why a static text. */
int address_parse(struct slice text, struct address *out, const char **why);

/* A network: the first `bits` bits of a v6 address; v4 addresses are mapped (::ffff:a.b.c.d). */
struct network {
	uint8_t ip[16];
	unsigned bits;			/* 0 to 128 */
};

/*
 * "10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "unix" (peers on unix sockets, kept as ::/128).  -1:
 * it is none.
 */
int network_parse(struct slice text, struct network *out);
bool network_has(const struct network *network, const uint8_t ip[16]);

#endif
