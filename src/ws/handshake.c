/*
 * handshake.c: judges and writes the opening handshake, for server and client.
 * Pure functions over borrowed text: nothing is allocated, no descriptor is
 * touched.
 */
#include <string.h>

#include "ws/handshake.h"
#include "ws/sha1.h"

#define STR(literal) ((struct ws_str){ (literal), sizeof(literal) - 1 })

/*
 * The window of our compressor, unless the peer asks for a smaller one: 39 kB of
 * state, of which little has to be cleared for each message.
 */
#define SEND_BITS 12

/* Texts. */

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool
ws_str_is(struct ws_str s, const char *want)
{
	if (s.len != strlen(want))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (lower(s.p[i]) != want[i])
			return false;
	return true;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t';
}

static struct ws_str
trim(struct ws_str s)
{
	while (s.len > 0 && is_space(s.p[0]))
		s.p++, s.len--;
	while (s.len > 0 && is_space(s.p[s.len - 1]))
		s.len--;
	return s;
}

/* RFC 9110 section 5.6.2. */
static bool
is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	    (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_token(struct ws_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_token_char(s.p[i]))
			return false;
	return s.len > 0;
}

/* The next member of a comma-separated list, whatever it is; empty ones are passed over. */
static bool
member_next(struct ws_str *list, struct ws_str *member)
{
	while (list->len > 0) {
		const char *comma = memchr(list->p, ',', list->len);
		size_t n = comma != NULL ? (size_t)(comma - list->p) : list->len;

		*member = trim((struct ws_str){ list->p, n });
		n += comma != NULL;
		list->p += n, list->len -= n;
		if (member->len > 0)
			return true;
	}
	return false;
}

bool
ws_token_next(struct ws_str *list, struct ws_str *token)
{
	if (!member_next(list, token))
		return false;
	if (!is_token(*token)) {
		*list = *token = (struct ws_str){ NULL, 0 };
		return false;
	}
	return true;
}

static bool
list_has(struct ws_str list, const char *want)
{
	struct ws_str member;

	while (member_next(&list, &member))
		if (ws_str_is(member, want))
			return true;
	return false;
}

static bool
list_is_tokens(struct ws_str list)
{
	struct ws_str token;
	unsigned n = 0;

	while (ws_token_next(&list, &token))
		n++;
	return list.p != NULL && n > 0;
}

/* Base64 (RFC 4648 section 4). */

static const char base64_digits[64] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* out: 4 characters for every 3 bytes begun, and a NUL. */
static void
base64(const uint8_t *p, size_t n, char *out)
{
	for (; n > 0; p += 3) {
		uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) |
		    (n > 2 ? p[2] : 0);

		*out++ = base64_digits[v >> 18];
		*out++ = base64_digits[v >> 12 & 63];
		*out++ = n > 1 ? base64_digits[v >> 6 & 63] : '=';
		*out++ = n > 2 ? base64_digits[v & 63] : '=';
		n -= n > 2 ? 3 : n;
	}
	*out = '\0';
}

/*
 * Whether it decodes to 16 bytes (section 4.1, item 7).  The last digit stands for two bits and four
 * spare ones, which are not looked at: in the example of that section they are not zero.
 */
static bool
is_key(struct ws_str s)
{
	if (s.len != WS_KEY_LEN || s.p[22] != '=' || s.p[23] != '=')
		return false;
	for (size_t i = 0; i < 22; i++)
		if (memchr(base64_digits, s.p[i], sizeof(base64_digits)) == NULL)
			return false;
	return true;
}

void
ws_accept_key(struct ws_str key, char accept[WS_ACCEPT_LEN + 1])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char text[WS_KEY_LEN + sizeof(guid)];
	uint8_t digest[WS_SHA1_LEN];
	size_t n = key.len < WS_KEY_LEN ? key.len : WS_KEY_LEN;

	if (n > 0)
		memcpy(text, key.p, n);
	memcpy(text + n, guid, sizeof(guid) - 1);
	ws_sha1(text, n + sizeof(guid) - 1, digest);
	base64(digest, sizeof(digest), accept);
}

/*
 * Extensions (RFC 6455 section 9.1):
 *	extension *( "," extension );  extension = token *( ";" token [ "=" value ] )
 * A value is a token, or a token in quotes.
 */

static void
skip_space(struct ws_str *s)
{
	while (s->len > 0 && is_space(s->p[0]))
		s->p++, s->len--;
}

static bool
take_char(struct ws_str *s, char c)
{
	skip_space(s);
	if (s->len == 0 || s->p[0] != c)
		return false;
	s->p++, s->len--;
	return true;
}

static bool
take_token(struct ws_str *s, struct ws_str *token)
{
	skip_space(s);
	token->p = s->p;
	token->len = 0;
	while (s->len > 0 && is_token_char(s->p[0]))
		s->p++, s->len--, token->len++;
	return token->len > 0;
}

static bool
take_value(struct ws_str *s, struct ws_str *value)
{
	if (!take_char(s, '"'))
		return take_token(s, value);
	/* Inside the quotes no space may stand, nor an escape: what they enclose is a token. */
	return s->len > 0 && is_token_char(s->p[0]) && take_token(s, value) &&
	    s->len > 0 && s->p[0] == '"' && take_char(s, '"');
}

/* The parameters of one permessage-deflate, offered or answered. */
struct deflate_offer {
	bool bad;			/* an unknown, repeated or senseless parameter */
	bool server_no_takeover, client_no_takeover;
	bool server_bits_given, client_bits_given;
	int server_bits, client_bits;	/* 0: none, or given without a value */
};

/* 8 to 15 in decimal without leading zero (RFC 7692 section 7.1.2); 0: it is not. */
static int
window_bits(struct ws_str value)
{
	if (value.len == 1 && (value.p[0] == '8' || value.p[0] == '9'))
		return value.p[0] - '0';
	if (value.len == 2 && value.p[0] == '1' && value.p[1] >= '0' && value.p[1] <= '5')
		return 10 + value.p[1] - '0';
	return 0;
}

static void
set_once(struct deflate_offer *o, bool *flag)
{
	if (*flag)
		o->bad = true;
	*flag = true;
}

/* value: p NULL when there is none. */
static void
deflate_param(struct deflate_offer *o, struct ws_str name, struct ws_str value)
{
	int bits = value.p != NULL ? window_bits(value) : 0;

	if (ws_str_is(name, "server_no_context_takeover")) {
		set_once(o, &o->server_no_takeover);
		o->bad |= value.p != NULL;
	} else if (ws_str_is(name, "client_no_context_takeover")) {
		set_once(o, &o->client_no_takeover);
		o->bad |= value.p != NULL;
	} else if (ws_str_is(name, "server_max_window_bits")) {
		set_once(o, &o->server_bits_given);
		o->server_bits = bits;
		o->bad |= bits == 0;
	} else if (ws_str_is(name, "client_max_window_bits")) {
		set_once(o, &o->client_bits_given);
		o->client_bits = bits;
		o->bad |= value.p != NULL && bits == 0;
	} else {
		o->bad = true;
	}
}

/*
 * Takes one extension off the list.  1: it is permessage-deflate, in *o; 0: it is
 * another; -1: not of the grammar.
 */
static int
take_extension(struct ws_str *s, struct deflate_offer *o)
{
	struct ws_str extension, name, value;
	bool deflate;

	memset(o, 0, sizeof(*o));
	if (!take_token(s, &extension))
		return -1;
	deflate = ws_str_is(extension, "permessage-deflate");
	while (take_char(s, ';')) {
		value.p = NULL;
		value.len = 0;
		if (!take_token(s, &name) || (take_char(s, '=') && !take_value(s, &value)))
			return -1;
		if (deflate)
			deflate_param(o, name, value);
	}
	skip_space(s);
	if (s->len > 0 && s->p[0] != ',')
		return -1;
	return deflate;
}

/* Passes over commas and spaces; false at the end of the list. */
static bool
more_extensions(struct ws_str *s)
{
	while (take_char(s, ','))
		;
	return s->len > 0;
}

/* Accepts the offer if it can be satisfied. */
static void
consider_offer(struct ws_upgrade *u, const struct deflate_offer *o)
{
	/* zlib has no raw stream with a window of 8 bits to send. */
	if (o->bad || (o->server_bits_given && o->server_bits < 9))
		return;
	u->deflate.on = true;
	u->deflate.send_bits = SEND_BITS;
	if (o->server_bits_given && o->server_bits < SEND_BITS)
		u->deflate.send_bits = (uint8_t)o->server_bits;
	u->deflate.receive_bits = o->client_bits != 0 ? (uint8_t)o->client_bits : 15;
	u->server_bits = o->server_bits_given;
	u->client_bits = o->client_bits != 0;
}

/* The offers of one Sec-WebSocket-Extensions field.  False when it is not of the grammar. */
static bool
consider_offers(struct ws_upgrade *u, struct ws_str value)
{
	struct deflate_offer o;
	unsigned n = 0;

	while (more_extensions(&value)) {
		int rc = take_extension(&value, &o);

		if (rc < 0)
			return false;
		n++;
		if (rc == 1 && u->allow_deflate && !u->deflate.on)
			consider_offer(u, &o);
	}
	return n > 0;
}

/* The server's side. */

void
ws_upgrade_init(struct ws_upgrade *u, struct ws_str method, int http_minor, bool allow_deflate)
{
	memset(u, 0, sizeof(*u));
	u->allow_deflate = allow_deflate && ws_deflate_available();
	u->is_get = method.len == 3 && memcmp(method.p, "GET", 3) == 0;
	u->http_ok = http_minor >= 1;
}

void
ws_upgrade_field(struct ws_upgrade *u, struct ws_str name, struct ws_str value)
{
	value = trim(value);
	if (ws_str_is(name, "upgrade")) {
		u->upgrade = true;
		if (list_has(value, "websocket"))
			u->upgrade_websocket = true;
	} else if (ws_str_is(name, "connection")) {
		if (list_has(value, "upgrade"))
			u->connection_upgrade = true;
	} else if (ws_str_is(name, "sec-websocket-key")) {
		u->nkeys++;
		u->key = value;
	} else if (ws_str_is(name, "sec-websocket-version")) {
		u->nversions++;
		u->version_13 = ws_str_is(value, "13");
	} else if (ws_str_is(name, "sec-websocket-protocol")) {
		if (value.len == 0)	/* some clients send the field with nothing in it */
			return;
		if (u->nprotocols == WS_LISTS_MAX || !list_is_tokens(value))
			u->bad = true;
		else
			u->protocols[u->nprotocols++] = value;
	} else if (ws_str_is(name, "sec-websocket-extensions")) {
		if (value.len > 0 && !consider_offers(u, value))
			u->bad = true;
	}
}

static int
refuse(struct ws_upgrade *u, int status, const char *why)
{
	u->deflate.on = false;
	u->why = why;
	return status;
}

int
ws_upgrade_status(struct ws_upgrade *u)
{
	if (!u->is_get)
		return refuse(u, 405, "a WebSocket is opened with GET");
	if (!u->http_ok)
		return refuse(u, 400, "a WebSocket needs HTTP/1.1");
	if (!u->upgrade_websocket)
		return refuse(u, 426, u->upgrade ? "Upgrade is not to websocket" :
		    "no Upgrade field");
	if (!u->connection_upgrade)
		return refuse(u, 400, "Connection does not name Upgrade");
	if (u->nversions > 1)
		return refuse(u, 400, "more than one Sec-WebSocket-Version");
	if (!u->version_13)
		return refuse(u, 426, "Sec-WebSocket-Version is not 13");
	if (u->nkeys != 1)
		return refuse(u, 400, u->nkeys == 0 ? "no Sec-WebSocket-Key" :
		    "more than one Sec-WebSocket-Key");
	if (!is_key(u->key))
		return refuse(u, 400, "Sec-WebSocket-Key is not 16 bytes in base64");
	if (u->bad)
		return refuse(u, 400, "malformed Sec-WebSocket field");
	ws_accept_key(u->key, u->accept);
	return 101;
}

const char *
ws_upgrade_refusal_fields(int status)
{
	if (status == 405)
		return "Allow: GET\r\n";
	if (status == 426)
		return "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
	return "";
}

/* A text being written into a given space. */
struct writer {
	char *p;
	size_t size, len;
	bool full;
};

static void
put(struct writer *w, struct ws_str s)
{
	if (w->full || s.len > w->size - w->len) {
		w->full = true;
		return;
	}
	if (s.len > 0)
		memcpy(w->p + w->len, s.p, s.len);
	w->len += s.len;
}

/* A window size: 8 to 15. */
static void
put_bits(struct writer *w, uint8_t bits)
{
	char text[2] = { '1', (char)('0' + bits % 10) };

	put(w, bits >= 10 ? (struct ws_str){ text, 2 } : (struct ws_str){ text + 1, 1 });
}

size_t
ws_upgrade_response(const struct ws_upgrade *u, struct ws_str protocol, struct ws_str extra,
    char *out, size_t size)
{
	struct writer w = { out, size, 0, false };

	put(&w, STR("HTTP/1.1 101 Switching Protocols\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: "));
	put(&w, (struct ws_str){ u->accept, WS_ACCEPT_LEN });
	put(&w, STR("\r\n"));
	if (protocol.len > 0) {
		put(&w, STR("Sec-WebSocket-Protocol: "));
		put(&w, protocol);
		put(&w, STR("\r\n"));
	}
	if (u->deflate.on) {
		/* Both sides without takeover: what lets a process share its streams. */
		put(&w, STR("Sec-WebSocket-Extensions: permessage-deflate"
		    "; server_no_context_takeover; client_no_context_takeover"));
		if (u->server_bits) {
			put(&w, STR("; server_max_window_bits="));
			put_bits(&w, u->deflate.send_bits);
		}
		if (u->client_bits) {
			put(&w, STR("; client_max_window_bits="));
			put_bits(&w, u->deflate.receive_bits);
		}
		put(&w, STR("\r\n"));
	}
	put(&w, extra);
	put(&w, STR("\r\n"));
	return w.full ? 0 : w.len;
}

/* The client's side. */

void
ws_connect_init(struct ws_connect *c, const uint8_t nonce[16], bool offer_deflate)
{
	memset(c, 0, sizeof(*c));
	base64(nonce, 16, c->key);
	c->offer_deflate = offer_deflate && ws_deflate_available();
}

size_t
ws_connect_request(const struct ws_connect *c, struct ws_str host, struct ws_str target,
    struct ws_str protocols, struct ws_str extra, char *out, size_t size)
{
	struct writer w = { out, size, 0, false };

	put(&w, STR("GET "));
	put(&w, target);
	put(&w, STR(" HTTP/1.1\r\nHost: "));
	put(&w, host);
	put(&w, STR("\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: "));
	put(&w, (struct ws_str){ c->key, WS_KEY_LEN });
	put(&w, STR("\r\n"));
	if (protocols.len > 0) {
		put(&w, STR("Sec-WebSocket-Protocol: "));
		put(&w, protocols);
		put(&w, STR("\r\n"));
	}
	if (c->offer_deflate)
		put(&w, STR("Sec-WebSocket-Extensions: permessage-deflate"
		    "; server_no_context_takeover; client_no_context_takeover\r\n"));
	put(&w, extra);
	put(&w, STR("\r\n"));
	return w.full ? 0 : w.len;
}

void
ws_connect_status(struct ws_connect *c, int status)
{
	c->status = status;
}

/* The extensions that the server answered: at most our one, with parameters that fit the offer. */
static bool
answer_fits(struct ws_connect *c, struct ws_str value)
{
	struct deflate_offer o;

	while (more_extensions(&value)) {
		if (take_extension(&value, &o) != 1 || ++c->nextensions > 1 || !c->offer_deflate)
			return false;
		/* client_max_window_bits may only answer an offer that had it. */
		if (o.bad || !o.server_no_takeover || o.client_bits_given)
			return false;
		c->deflate.on = true;
		c->deflate.send_bits = SEND_BITS;
		c->deflate.receive_bits = o.server_bits != 0 ? (uint8_t)o.server_bits : 15;
	}
	return true;
}

void
ws_connect_field(struct ws_connect *c, struct ws_str name, struct ws_str value)
{
	value = trim(value);
	if (ws_str_is(name, "upgrade")) {
		c->upgrade_websocket = ws_str_is(value, "websocket");
	} else if (ws_str_is(name, "connection")) {
		if (list_has(value, "upgrade"))
			c->connection_upgrade = true;
	} else if (ws_str_is(name, "sec-websocket-accept")) {
		char accept[WS_ACCEPT_LEN + 1];

		c->naccepts++;
		ws_accept_key((struct ws_str){ c->key, WS_KEY_LEN }, accept);
		c->accept_ok = value.len == WS_ACCEPT_LEN &&
		    memcmp(value.p, accept, WS_ACCEPT_LEN) == 0;
	} else if (ws_str_is(name, "sec-websocket-protocol")) {
		c->nprotocols++;
		c->protocol = value;
		if (!is_token(value))
			c->bad = true;
	} else if (ws_str_is(name, "sec-websocket-extensions")) {
		if (!answer_fits(c, value))
			c->bad = true;
	}
}

bool
ws_connect_ok(struct ws_connect *c)
{
	c->why = NULL;
	if (c->status != 101)
		c->why = "status is not 101";
	else if (!c->upgrade_websocket)
		c->why = "Upgrade is not websocket";
	else if (!c->connection_upgrade)
		c->why = "Connection does not name Upgrade";
	else if (c->naccepts != 1 || !c->accept_ok)
		c->why = "wrong Sec-WebSocket-Accept";
	else if (c->nprotocols > 1)
		c->why = "more than one Sec-WebSocket-Protocol";
	else if (c->bad)
		c->why = "an extension or protocol that was not offered";
	return c->why == NULL;
}
