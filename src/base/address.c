/*
 * address.c: parses addresses and networks.  Looks no name up and opens nothing.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/address.h"

static int
parse_port(struct slice text, uint16_t *port)
{
	unsigned v = 0;

	if (text.len == 0 || text.len > 5)
		return -1;
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return -1;
		v = v * 10 + (unsigned)(text.p[i] - '0');
	}
	if (v > UINT16_MAX)
		return -1;
	*port = (uint16_t)v;
	return 0;
}

static int
parse_unix(struct slice path, struct address *out, const char **why)
{
	out->kind = ADDRESS_UNIX;
	if (path.len == 0 || path.p[0] != '/') {
		*why = "the path of a unix socket must begin with /";
		return -1;
	}
	if (path.len > ADDRESS_PATH_MAX) {
		*why = "the path of a unix socket has at most 107 bytes";
		return -1;
	}
	memcpy(out->path, path.p, path.len);
	return 0;
}

int
address_parse(struct slice text, struct address *out, const char **why)
{
	const char *colon;
	struct slice host, port;
	uint8_t v6[16];

	memset(out, 0, sizeof(*out));
	if (text.len > 5 && memcmp(text.p, "unix:", 5) == 0)
		return parse_unix((struct slice){ text.p + 5, text.len - 5 }, out, why);
	out->kind = ADDRESS_TCP;
	colon = text.len > 0 ? memrchr(text.p, ':', text.len) : NULL;
	if (colon == NULL) {
		*why = "host:port, [v6]:port or unix:/path is wanted";
		return -1;
	}
	host = (struct slice){ text.p, (size_t)(colon - text.p) };
	port = (struct slice){ colon + 1, text.len - host.len - 1 };
	if (parse_port(port, &out->port) == -1) {
		*why = "the port must be a number from 0 to 65535";
		return -1;
	}
	if (host.len >= 2 && host.p[0] == '[' && host.p[host.len - 1] == ']') {
		host.p++;
		host.len -= 2;
		if (host.len > ADDRESS_HOST_MAX)
			host.len = 0;
		memcpy(out->host, host.p, host.len);
		if (inet_pton(AF_INET6, out->host, v6) != 1) {
			*why = "not an IPv6 address between the brackets";
			return -1;
		}
		return 0;
	}
	if (host.len > ADDRESS_HOST_MAX) {
		*why = "the host's name is too long";
		return -1;
	}
	for (size_t i = 0; i < host.len; i++) {
		char c = host.p[i];

		if (c == ':') {
			*why = "an IPv6 address is written in brackets: [::1]:3000";
			return -1;
		}
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    c == '.' || c == '-' || c == '_')) {
			*why = "not a host's name or address";
			return -1;
		}
	}
	if (host.len > 0)
		memcpy(out->host, host.p, host.len);
	return 0;
}

int
network_parse(struct slice text, struct network *out)
{
	uint8_t v4[4];
	char host[INET6_ADDRSTRLEN];
	const char *slash = text.len > 0 ? memchr(text.p, '/', text.len) : NULL;
	size_t len = slash != NULL ? (size_t)(slash - text.p) : text.len;
	unsigned base = 0;
	uint16_t bits = 0;

	memset(out, 0, sizeof(*out));
	if (slice_is(text, "unix")) {
		out->bits = 128;
		return 0;
	}
	if (len == 0 || len >= sizeof(host))
		return -1;
	memcpy(host, text.p, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, v4) == 1) {
		address_map_v4(out->ip, v4);
		base = 96;
	} else if (inet_pton(AF_INET6, host, out->ip) != 1)
		return -1;
	out->bits = 128;
	if (slash != NULL) {
		if (parse_port((struct slice){ slash + 1, text.len - len - 1 }, &bits) == -1 ||
		    bits > 128 - base)
			return -1;
		out->bits = base + bits;
	}
	return 0;
}

bool
network_has(const struct network *network, const uint8_t ip[16])
{
	unsigned whole = network->bits / 8, rest = network->bits % 8;

	if (memcmp(network->ip, ip, whole) != 0)
		return false;
	return rest == 0 || ((network->ip[whole] ^ ip[whole]) >> (8 - rest)) == 0;
}
