/*
 * The front that every user token passes before a key is touched.  Works on
 * borrowed text and a caller's struct; allocates only what jansson needs for
 * the header.
 */
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "auth/jws.h"
#include "base/digest.h"

/* token = header . payload . signature; 0 unless there are exactly three, of which only the signature may be empty */
static int
jws_split(struct slice token, struct slice part[3])
{
	const char *p = token.p, *end = token.p + token.len, *dot;

	for (int i = 0; i < 3; i++) {
		dot = memchr(p, '.', (size_t)(end - p));
		if ((dot == NULL) != (i == 2))
			return 0;
		part[i] = slice_bytes(p, (size_t)((dot != NULL ? dot : end) - p));
		if (part[i].len == 0 && i < 2)
			return 0;
		p = dot != NULL ? dot + 1 : end;
	}
	return 1;
}

/* RFC 7515 section 4.1.9: a media type, compared without case, "application/" may be left out */
static bool
jws_typ_taken(const json_t *typ)
{
	const char *s;

	if (typ == NULL)
		return true;
	if ((s = json_string_value(typ)) == NULL)
		return false;
	if (strncasecmp(s, "application/", 12) == 0)
		s += 12;
	return strcasecmp(s, "JWT") == 0 || strcasecmp(s, "at+jwt") == 0;
}

static enum jws_fault
jws_header(const json_t *header, struct jws *jws, char *alg_name, size_t alg_name_len)
{
	const json_t *kid;
	const char *alg;

	if (!json_is_object(header) || (alg = json_string_value(json_object_get(header,
	    "alg"))) == NULL)
		return JWS_HEADER;
	if (alg_name != NULL && strlen(alg) < alg_name_len)
		strcpy(alg_name, alg);
	if (json_object_get(header, "crit") != NULL || !jws_typ_taken(json_object_get(header,
	    "typ")))
		return JWS_HEADER;
	if ((kid = json_object_get(header, "kid")) != NULL) {
		if (!json_is_string(kid) || json_string_length(kid) > JWS_KID_MAX)
			return JWS_HEADER;
		memcpy(jws->kid, json_string_value(kid), json_string_length(kid) + 1);
		jws->has_kid = true;
	}
	return (jws->alg = algorithm_find(alg)) != NULL ? JWS_OK : JWS_ALG;
}

enum jws_fault
jws_parse(struct slice token, struct jws *jws, char alg_name[16])
{
	struct slice part[3];
	enum jws_fault fault;
	json_t *header;
	long n;

	if (alg_name != NULL)
		alg_name[0] = '\0';
	if (token.len > JWS_MAX)
		return JWS_TOO_LONG;
	if (token.len == 0 || !jws_split(token, part))
		return JWS_SEGMENTS;
	jws->signed_text = slice_bytes(token.p, part[0].len + 1 + part[1].len);
	jws->has_kid = false;
	jws->kid[0] = '\0';

	if ((n = digest_base64url_decode(part[2], jws->signature, sizeof(jws->signature))) < 0)
		return JWS_BASE64;
	jws->signature_len = (size_t)n;

	/* The header's bytes are needed only here: they borrow the payload's room. */
	if ((n = digest_base64url_decode(part[0], (uint8_t *)jws->payload,
	    sizeof(jws->payload))) < 0)
		return JWS_BASE64;
	header = json_loadb(jws->payload, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	fault = jws_header(header, jws, alg_name, 16);
	json_decref(header);

	/* A part that is no base64url is told before what the header says. */
	if ((n = digest_base64url_decode(part[1], (uint8_t *)jws->payload,
	    sizeof(jws->payload))) < 0)
		return JWS_BASE64;
	jws->payload_len = (size_t)n;
	/* Unsigned, which `none` says (RFC 7515 section 6); with any other algorithm a part is missing. */
	return jws->signature_len == 0 && fault != JWS_ALG ? JWS_SEGMENTS : fault;
}
