/*
 * handshake.h: the opening handshake, both sides (RFC 6455 sections 4.1 to 4.4, RFC 7692
 * section 5).
 *
 * The HTTP head is parsed elsewhere; this file is shown the request line's or
 * status line's facts and each header field in its order, judges, and keeps
 * pointers into the field values: they must stay until the answer is written.
 * Host, Origin, authorisation and the path are not looked at.
 *
 * Server: ws_upgrade_init(), ws_upgrade_field() for each, ws_upgrade_status(),
 * then ws_upgrade_response().  Client: ws_connect_request(), then
 * ws_connect_init(), ws_connect_field() for each, ws_connect_ok().
 */
#ifndef BELAY_WS_HANDSHAKE_H
#define BELAY_WS_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ws/deflate.h"

struct ws_str {
	const char *p;		/* borrowed */
	size_t len;
};

#define WS_ACCEPT_LEN	28	/* base64 of a SHA-1 */
#define WS_KEY_LEN	24	/* base64 of 16 bytes */
#define WS_LISTS_MAX	4	/* Sec-WebSocket-Protocol fields looked at */

struct ws_upgrade {
	/* Results. */
	char accept[WS_ACCEPT_LEN + 1];
	struct ws_deflate_params deflate;	/* the first offer that can be satisfied */
	bool client_bits;		/* answer with client_max_window_bits */
	bool server_bits;		/* answer with server_max_window_bits */
	struct ws_str protocols[WS_LISTS_MAX];	/* fields as they came; see ws_token_next() */
	unsigned nprotocols;
	const char *why;		/* of a status other than 101: a constant string */

	/* Collected. */
	bool allow_deflate, is_get, http_ok;
	bool upgrade, upgrade_websocket, connection_upgrade;
	bool version_13, bad;
	unsigned nkeys, nversions;
	struct ws_str key;
};

/* method is compared as it is; http_minor is that of HTTP/1.x. */
void ws_upgrade_init(struct ws_upgrade *u, struct ws_str method, int http_minor,
    bool allow_deflate);
void ws_upgrade_field(struct ws_upgrade *u, struct ws_str name, struct ws_str value);

/*
 * 101 and accept, deflate, protocols are set; or the HTTP status of the refusal,
 * with why: 400 malformed, 405 not GET (send "Allow: GET"), 426 no Upgrade to
 * websocket or another version (send "Upgrade: websocket" and
 * "Sec-WebSocket-Version: 13").
 */
int ws_upgrade_status(struct ws_upgrade *u);

/* The header fields, each with CRLF, which a refusal with this status must carry; "" for none. */
const char *ws_upgrade_refusal_fields(int status);

/*
 * Writes the whole 101 response.  protocol: the one chosen of the client's list,
 * len 0 for none; extra: further header fields, each with CRLF, or empty.
 * Returns its length, 0 when size is too small.
 */
size_t ws_upgrade_response(const struct ws_upgrade *u, struct ws_str protocol, struct ws_str extra,
    char *out, size_t size);

/*
 * The next token of a comma-separated list (RFC 9110 section 5.6.1); empty members
 * are passed over.  False at the end of the list, and at a member that is no token:
 * then list->p is NULL.
 */
bool ws_token_next(struct ws_str *list, struct ws_str *token);

/* A header field's value or token against a lower-case literal, letters without case. */
bool ws_str_is(struct ws_str s, const char *lower);

/* Section 4.2.2 step 5.4: accept of key; writes WS_ACCEPT_LEN characters and a NUL. */
void ws_accept_key(struct ws_str key, char accept[WS_ACCEPT_LEN + 1]);

/* The client's side. */
struct ws_connect {
	char key[WS_KEY_LEN + 1];
	bool offer_deflate;

	/* Results. */
	/* selected; len 0: none.  Whether it was offered is for the caller */
	struct ws_str protocol;
	struct ws_deflate_params deflate;
	const char *why;

	/* Collected. */
	int status;
	bool upgrade_websocket, connection_upgrade, accept_ok, bad;
	unsigned naccepts, nprotocols, nextensions;
};

/* nonce: 16 random bytes, new for each connection. */
void ws_connect_init(struct ws_connect *c, const uint8_t nonce[16], bool offer_deflate);

/*
 * Writes the request.  target is the path with query; protocols a list or empty; extra: further
 * fields, each with CRLF, or empty.  Returns its length, 0 when size is too small.
 */
size_t ws_connect_request(const struct ws_connect *c, struct ws_str host, struct ws_str target,
    struct ws_str protocols, struct ws_str extra, char *out, size_t size);

/* The answer as it is parsed: its status, then each field.  Nothing is kept of the slices. */
void ws_connect_status(struct ws_connect *c, int status);
void ws_connect_field(struct ws_connect *c, struct ws_str name, struct ws_str value);

/* Whether the server's answer opens the connection (section 4.1); false sets why. */
bool ws_connect_ok(struct ws_connect *c);

#endif
