/*
 * forwarded.c: finds the client's address in the head of a request that came through proxies.  Owns
 * nothing.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/text.h"
#include "http/forwarded.h"

/* What was read so far, from the left: who it would be if the list ended here. */
struct walk {
	const struct networks *trusted;
	uint8_t ip[16];
	bool found;			/* ip holds something */
};

bool
networks_have(const struct networks *networks, const uint8_t ip[16])
{
	for (size_t i = 0; i < networks->n; i++)
		if (network_has(&networks->v[i], ip))
			return true;
	return false;
}

static bool
is_port(struct slice text)
{
	if (text.len == 0 || text.len > 5)
		return false;
	for (size_t i = 0; i < text.len; i++)
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
	return true;
}

static int
parse_ip(const char *p, size_t len, int family, uint8_t ip[16])
{
	char text[INET6_ADDRSTRLEN];
	uint8_t v4[4];

	if (len == 0 || len >= sizeof(text) || memchr(p, '\0', len) != NULL)
		return -1;
	memcpy(text, p, len);
	text[len] = '\0';
	if (family == AF_INET6)
		return inet_pton(AF_INET6, text, ip) == 1 ? 0 : -1;
	if (inet_pton(AF_INET, text, v4) != 1)
		return -1;
	address_map_v4(ip, v4);
	return 0;
}

int
forwarded_node(struct slice text, uint8_t ip[16])
{
	const char *colon, *bracket;

	if (text.len == 0)
		return -1;
	if (text.p[0] == '[') {
		bracket = memchr(text.p, ']', text.len);
		if (bracket == NULL)
			return -1;
		size_t len = (size_t)(bracket - text.p) - 1, rest = text.len - len - 2;

		if (rest > 0 &&
		    (bracket[1] != ':' || !is_port((struct slice){ bracket + 2, rest - 1 })))
			return -1;
		return parse_ip(text.p + 1, len, AF_INET6, ip);
	}
	colon = memchr(text.p, ':', text.len);
	if (colon == NULL)
		return parse_ip(text.p, text.len, AF_INET, ip);
	if (memchr(colon + 1, ':', text.len - (size_t)(colon - text.p) - 1) != NULL)
		return parse_ip(text.p, text.len, AF_INET6, ip);
	if (!is_port((struct slice){ colon + 1, text.len - (size_t)(colon - text.p) - 1 }))
		return -1;
	return parse_ip(text.p, (size_t)(colon - text.p), AF_INET, ip);
}

/*
 * From left to right, so that nothing has to be kept: an address that isn't trusted takes the place
 * of all before it; a trusted one only fills an empty place, for behind an untrusted one it says no
 * more than who passed that on; what is no address empties the place.
 */
static void
walk_step(struct walk *w, bool valid, const uint8_t ip[16])
{
	if (!valid) {
		w->found = false;
		return;
	}
	if (w->found && networks_have(w->trusted, ip))
		return;
	memcpy(w->ip, ip, 16);
	w->found = true;
}

static void
walk_list(struct walk *w, struct slice line)
{
	for (;;) {
		const char *comma = line.len > 0 ? memchr(line.p, ',', line.len) : NULL;
		struct slice element = text_trim(
		    (struct slice){ line.p, comma != NULL ? (size_t)(comma - line.p) : line.len });
		uint8_t ip[16];

		if (element.len > 0)	/* empty ones say nothing (RFC 9110 section 5.6.1) */
			walk_step(w, forwarded_node(element, ip) == 0, ip);
		if (comma == NULL)
			return;
		line.len -= (size_t)(comma + 1 - line.p);
		line.p = comma + 1;
	}
}

/*
 * --- Forwarded: elements by comma, of pairs by semicolon, of which for= matters; values may be
 * quoted
 */

#define NODE_MAX 64			/* bytes of a value that can be an address */

static struct slice
take_token(struct slice *rest)
{
	struct slice out = { rest->p, 0 };

	while (rest->len > 0 && text_is_token_char(rest->p[0])) {
		rest->p++;
		rest->len--;
		out.len++;
	}
	return out;
}

/*
 * A token, or a quoted string with its quotes and backslashes undone; what has no room in node is
 * cut (and is no address). -1: neither.
 */
static int
take_value(struct slice *rest, char node[NODE_MAX], struct slice *out)
{
	size_t n = 0;

	if (rest->len == 0)
		return -1;
	if (rest->p[0] != '"') {
		*out = take_token(rest);
		return out->len > 0 ? 0 : -1;
	}
	for (size_t i = 1; i < rest->len; i++) {
		char c = rest->p[i];

		if (c == '"') {
			*out = (struct slice){ node, n };
			rest->p += i + 1;
			rest->len -= i + 1;
			return 0;
		}
		if (c == '\\' && ++i < rest->len)
			c = rest->p[i];
		if (n < NODE_MAX)
			node[n++] = c;
	}
	return -1;
}

/* Bytes that can't be understood: all of this line is nonsense. */
static void
walk_forwarded(struct walk *w, struct slice line)
{
	char node[NODE_MAX];
	struct slice rest = text_trim(line), name, value;
	uint8_t ip[16];
	unsigned pairs = 0, fors = 0;
	bool valid = false;

	for (;;) {
		name = take_token(&rest);
		if (name.len > 0) {
			if (rest.len == 0 || rest.p[0] != '=')
				break;
			rest.p++;
			rest.len--;
			if (take_value(&rest, node, &value) == -1)
				break;
			pairs++;
			if (http_name_eq(name, "for") && fors++ == 0)
				valid = forwarded_node(value, ip) == 0;
		}
		rest = text_trim(rest);
		if (rest.len > 0 && rest.p[0] != ';' && rest.p[0] != ',')
			break;
		if (rest.len == 0 || rest.p[0] == ',') {
			if (pairs > 0)
				walk_step(w, fors == 1 && valid, ip);
			pairs = fors = 0;
			valid = false;
			if (rest.len == 0)
				return;
		}
		rest = text_trim((struct slice){ rest.p + 1, rest.len - 1 });
	}
	walk_step(w, false, NULL);
}

void
forwarded_client(
    const struct http_head *head, const char *name, const struct networks *trusted, uint8_t ip[16])
{
	struct walk w = { .trusted = trusted };
	bool x = http_name_eq(SLICE("X-Forwarded-For"), name);

	for (unsigned i = 0; i < head->headers_n; i++) {
		if (!http_name_eq(head->headers[i].name, name))
			continue;
		if (x)
			walk_list(&w, head->headers[i].value);
		else
			walk_forwarded(&w, head->headers[i].value);
	}
	if (w.found)
		memcpy(ip, w.ip, 16);
}
