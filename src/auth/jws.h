/*
 * jws.h: the strict front of a signed token, JWS compact form (RFC 7515
 * section 7.1): what is looked at before any key is.
 *
 * Exactly three segments of canonical base64url, so that one token has one
 * text; a header that is one JSON object without duplicate names; `crit`
 * refused; keys that a header brings along (jku, jwk, x5u, x5c) ignored.
 */
#ifndef BELAY_AUTH_JWS_H
#define BELAY_AUTH_JWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/algorithm.h"
#include "base/slice.h"

#define JWS_MAX 8192			/* bytes of a token */
#define JWS_KID_MAX 256
#define JWS_SIGNATURE_MAX 1024		/* RSA of 8,192 bits */

enum jws_fault {
	JWS_OK,
	JWS_TOO_LONG,
	JWS_SEGMENTS,			/* not three, or an empty one */
	JWS_BASE64,
	JWS_HEADER,			/* not an acceptable JSON object */
	JWS_ALG				/* not in algorithm.def, `none` included */
};

struct jws {
	struct slice signed_text;	/* header and payload with the dot between, borrowed */
	const struct algorithm *alg;
	bool has_kid;
	char kid[JWS_KID_MAX + 1];	/* compared with keys in memory, and nothing else */
	size_t signature_len, payload_len;
	uint8_t signature[JWS_SIGNATURE_MAX];
	char payload[JWS_MAX * 3 / 4];	/* decoded, not yet believed */
};

/*
 * Fills *jws, which points into token afterwards.  On a fault the fields are
 * undefined, but alg_name, when not NULL, receives the header's alg where it
 * has one (else "").
 */
enum jws_fault jws_parse(struct slice token, struct jws *jws, char alg_name[16]);

#endif
