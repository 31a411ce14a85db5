/*
 * proxy.c: parses the PROXY protocol's header.  Runs in gateways.  Reads bytes that are given to
 * it, owns nothing.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/address.h"
#include "net/proxy.h"

/*
 * Version 2: 12 bytes of signature, then
 *	version and command, family and protocol, length of what follows (2 bytes, big endian)
 *	addresses: source, destination, source port, destination port
 *	extensions: type, length (2 bytes), value
 */
static const uint8_t signature[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49,
	0x54, 0x0a };

#define V2_FIXED	16
#define V2_INET		12		/* bytes of addresses */
#define V2_INET6	36
#define V2_UNIX		216
#define EXTENSION_CRC32C 0x03

/* --- version 1 */

/*
 * The next word of a line, copied with a NUL behind it; -1: none, or a longer one than there can
 * be.
 */
static int
next_word(const char **p, const char *end, char *out, size_t size)
{
	const char *space = memchr(*p, ' ', (size_t)(end - *p)),
		   *stop = space != NULL ? space : end;
	size_t len = (size_t)(stop - *p);

	if (len == 0 || len >= size || memchr(*p, '\0', len) != NULL)
		return -1;
	memcpy(out, *p, len);
	out[len] = '\0';
	*p = space != NULL ? space + 1 : end;
	return space != NULL && space + 1 == end ? -1 : 0;
}

static int
parse_port(const char *text, uint16_t *out)
{
	unsigned v = 0;

	if (text[0] == '0' && text[1] != '\0')
		return -1;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		v = v * 10 + (unsigned)(*text - '0');
	}
	if (v > UINT16_MAX)
		return -1;
	*out = (uint16_t)v;
	return 0;
}

static int
parse_ip(const char *text, bool v6, uint8_t ip[16])
{
	uint8_t v4[4];

	if (v6)
		return inet_pton(AF_INET6, text, ip) == 1 ? 0 : -1;
	if (inet_pton(AF_INET, text, v4) != 1)
		return -1;
	address_map_v4(ip, v4);
	return 0;
}

/* The line behind "PROXY ", without its end. */
static int
parse_line(const char *p, const char *end, struct proxy_client *out)
{
	char word[INET6_ADDRSTRLEN], port[6];
	uint8_t other[16];
	uint16_t other_port;
	bool v6;

	if (end - p >= 7 && memcmp(p, "UNKNOWN", 7) == 0)
		return end - p == 7 || p[7] == ' ' ? 0 : -1;
	if (next_word(&p, end, word, sizeof(word)) == -1 ||
	    (strcmp(word, "TCP4") != 0 && strcmp(word, "TCP6") != 0))
		return -1;
	v6 = word[3] == '6';
	if (next_word(&p, end, word, sizeof(word)) == -1 || parse_ip(word, v6, out->ip) == -1 ||
	    next_word(&p, end, word, sizeof(word)) == -1 || parse_ip(word, v6, other) == -1 ||
	    next_word(&p, end, port, sizeof(port)) == -1 || parse_port(port, &out->port) == -1 ||
	    next_word(&p, end, port, sizeof(port)) == -1 || parse_port(port, &other_port) == -1 ||
	    p != end)
		return -1;
	out->known = true;
	return 0;
}

static long
parse_v1(const uint8_t *p, size_t n, struct proxy_client *out)
{
	const char *text = (const char *)p, *end;
	size_t seen = n < PROXY_V1_MAX ? n : PROXY_V1_MAX;

	if (memcmp(text, "PROXY ", seen < 6 ? seen : 6) != 0)
		return -1;
	end = memchr(text, '\r', seen);
	if (memchr(text, '\n', end != NULL ? (size_t)(end - text) : seen) != NULL)
		return -1;
	if (end == NULL)
		return n < PROXY_V1_MAX ? 0 : -1;
	if (end + 1 == text + seen)
		return n < PROXY_V1_MAX ? 0 : -1;
	if (end[1] != '\n' || end - text < 6 || parse_line(text + 6, end, out) == -1)
		return -1;
	return end + 2 - text;
}

/* --- version 2 */

/* CRC-32C (Castagnoli) of the header, the checksum's own bytes taken as zeros. */
static uint32_t
crc32c(const uint8_t *p, size_t n, size_t hole)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < n; i++) {
		crc ^= i >= hole && i < hole + 4 ? 0 : p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
	}
	return ~crc;
}

static int
check_extensions(const uint8_t *p, size_t at, size_t n)
{
	while (at < n) {
		size_t len;

		if (n - at < 3)
			return -1;
		len = (size_t)p[at + 1] << 8 | p[at + 2];
		if (len > n - at - 3)
			return -1;
		if (p[at] == EXTENSION_CRC32C) {
			const uint8_t *v = p + at + 3;

			if (len != 4 ||
			    crc32c(p, n, at + 3) !=
				((uint32_t)v[0] << 24 | (uint32_t)v[1] << 16 | (uint32_t)v[2] << 8 |
				    v[3]))
				return -1;
		}
		at += 3 + len;
	}
	return 0;
}

/* The addresses' length, or -1 for what is not a TCP connection's. */
static int
addresses_len(uint8_t family)
{
	switch (family) {
	case 0x00:			/* not said */
		return 0;
	case 0x11:
		return V2_INET;
	case 0x21:
		return V2_INET6;
	case 0x31:
		return V2_UNIX;
	}
	return -1;
}

static long
parse_v2(const uint8_t *p, size_t n, struct proxy_client *out)
{
	size_t len;
	int addresses;
	bool local;

	if (memcmp(p, signature, n < sizeof(signature) ? n : sizeof(signature)) != 0)
		return -1;
	if (n > 12 && p[12] != 0x20 && p[12] != 0x21)
		return -1;
	if (n > 13 && addresses_len(p[13]) == -1)
		return -1;
	if (n < V2_FIXED)
		return 0;
	local = p[12] == 0x20;
	addresses = addresses_len(p[13]);
	len = (size_t)p[14] << 8 | p[15];
	if (len > PROXY_HEADER_MAX - V2_FIXED || (!local && len < (size_t)addresses))
		return -1;
	if (n < V2_FIXED + len)
		return 0;
	/* LOCAL: whatever else is said must be skipped unread (section 2.2). */
	if (local || addresses == 0) {
		if (!local && check_extensions(p, V2_FIXED, V2_FIXED + len) == -1)
			return -1;
		return (long)(V2_FIXED + len);
	}
	if (check_extensions(p, V2_FIXED + (size_t)addresses, V2_FIXED + len) == -1)
		return -1;
	p += V2_FIXED;
	if (addresses == V2_INET) {
		address_map_v4(out->ip, p);
		out->port = (uint16_t)(p[8] << 8 | p[9]);
		out->known = true;
	} else if (addresses == V2_INET6) {
		memcpy(out->ip, p, 16);
		out->port = (uint16_t)(p[32] << 8 | p[33]);
		out->known = true;
	}
	return (long)(V2_FIXED + len);
}

long
proxy_parse(const uint8_t *p, size_t n, struct proxy_client *out)
{
	memset(out, 0, sizeof(*out));
	if (n == 0)
		return 0;
	return p[0] == signature[0] ? parse_v2(p, n, out) : parse_v1(p, n, out);
}
