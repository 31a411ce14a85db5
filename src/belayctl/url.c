/*
 * url.c: takes the addresses apart that a user types, and says what is wrong
 * with one in words.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "belayctl/url.h"

static const struct {
	const char *prefix;
	bool tls, websocket;
	uint16_t port;
} schemes[] = {
	{ "ws://", false, true, 80 },
	{ "wss://", true, true, 443 },
	{ "http://", false, false, 80 },
	{ "https://", true, false, 443 }
};

static const char *
url_port(const char *p, size_t len, uint16_t *port)
{
	unsigned long v = 0;

	if (len == 0)
		return "nothing follows the colon after the host name";
	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)p[i]) || v > 65535)
			return "the port is not a number from 1 to 65535";
		v = v * 10 + (unsigned long)(p[i] - '0');
	}
	if (v < 1 || v > 65535)
		return "the port is not a number from 1 to 65535";
	*port = (uint16_t)v;
	return NULL;
}

static const char *
url_authority(struct url *u, const char *p, size_t len, uint16_t default_port)
{
	const char *host = p, *rest, *why = NULL;
	size_t hostlen;

	if (memchr(p, '@', len) != NULL)
		return "it holds a user name: a token is passed with --token or BELAY_TOKEN";
	if (len != 0 && p[0] == '[') {
		rest = memchr(p, ']', len);
		if (rest == NULL)
			return "the ] after the IPv6 address is missing";
		host = p + 1;
		hostlen = (size_t)(rest - host);
		rest++;
		u->ipv6 = true;
	} else {
		rest = memchr(p, ':', len);
		if (rest == NULL)
			rest = p + len;
		hostlen = (size_t)(rest - p);
	}
	if (hostlen == 0)
		return "there is no host name in it";
	if (hostlen > URL_HOST_MAX)
		return "the host name is too long";
	for (size_t i = 0; i < hostlen; i++)
		if (!isalnum((unsigned char)host[i]) && strchr(u->ipv6 ? ":.%" : "-._",
		    host[i]) == NULL)
			return "the host name holds a character that none may have";
	memcpy(u->host, host, hostlen);
	u->host[hostlen] = '\0';
	u->port = default_port;
	if (rest != p + len) {
		if (*rest != ':')
			return "something other than a port follows the address";
		why = url_port(rest + 1, (size_t)(p + len - rest - 1), &u->port);
	}
	if (why == NULL) {
		memcpy(u->authority, p, (size_t)(rest - p));
		u->authority[rest - p] = '\0';
		if (u->port != default_port) {
			struct buf b = BUF_INIT;

			buf_printf(&b, ":%u", u->port);
			memcpy(u->authority + (rest - p), b.data, b.len);
			u->authority[(size_t)(rest - p) + b.len] = '\0';
			buf_fini(&b);
		}
	}
	return why;
}

const char *
url_parse(const char *text, struct url *out)
{
	const char *p = NULL, *end, *why;
	uint16_t port = 0;
	size_t len;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		len = strlen(schemes[i].prefix);
		if (strncasecmp(text, schemes[i].prefix, len) == 0) {
			p = text + len;
			port = schemes[i].port;
			out->tls = schemes[i].tls;
			out->websocket = schemes[i].websocket;
		}
	}
	if (p == NULL)
		return "it does not begin with ws://, wss://, http:// or https://";
	end = p + strcspn(p, "/?#");
	why = url_authority(out, p, (size_t)(end - p), port);
	if (why != NULL)
		return why;
	len = strcspn(end, "#");
	for (size_t i = 0; i < len; i++)
		if (end[i] <= ' ' || end[i] >= 0x7f)
			return "it holds a space or another character that must be percent-encoded";
	if (len + 2 > sizeof(out->target))
		return "it is too long";
	if (*end != '/')
		out->target[0] = '/';
	memcpy(out->target + (*end != '/'), end, len);
	out->target[len + (*end != '/')] = '\0';
	return NULL;
}

struct slice
url_query(const char *target, const char *name)
{
	const char *p = strchr(target, '?');
	size_t len = strlen(name);

	while (p != NULL) {
		p++;
		if (strncmp(p, name, len) == 0 && p[len] == '=')
			return slice_bytes(p + len + 1, strcspn(p + len + 1, "&"));
		p = strchr(p, '&');
	}
	return SLICE_NONE;
}
