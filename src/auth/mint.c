/*
 * User tokens for tests and first steps, signed by libjwt.  Runs in belayctl
 * only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jwt.h>

#include "auth/algorithm.h"
#include "auth/jws.h"
#include "auth/mint.h"

static int
put_text(jwt_t *jwt, const char *name, const char *value)
{
	return value == NULL ? 0 : jwt_add_grant(jwt, name, value);
}

static const char *
name_or(const char *name, const char *common)
{
	return name != NULL && name[0] != '\0' ? name : common;
}

static int
mint_claims(jwt_t *jwt, const struct mint_request *request)
{
	long now_s = (long)(request->now_ms / 1000);
	int rc = 0;

	rc |= put_text(jwt, name_or(request->user_claim, "sub"), request->user);
	rc |= put_text(jwt, name_or(request->tenant_claim, "tenant_id"), request->tenant);
	rc |= put_text(jwt, name_or(request->role_claim, "role"), request->role);
	rc |= put_text(jwt, "device", request->device);
	rc |= put_text(jwt, "iss", request->issuer);
	rc |= put_text(jwt, "aud", request->audience);
	rc |= put_text(jwt, "azp", request->azp);
	rc |= jwt_add_grant_int(jwt, "iat", now_s);
	rc |= jwt_add_grant_int(jwt, "exp", now_s + (long)request->ttl_s);
	return rc;
}

char *
mint_token(const struct mint_request *request, char *err, size_t errlen)
{
	const struct algorithm *alg = algorithm_find(name_or(request->alg, "HS256"));
	char *text = NULL;
	jwt_t *jwt = NULL;

	/* An empty key makes libjwt sign with nothing. */
	if (alg == NULL || alg->kind != KEY_HMAC) {
		snprintf(err, errlen, "alg must be HS256, HS384 or HS512");
		return NULL;
	}
	if (request->secret.len == 0 || request->secret.len > JWS_MAX) {
		snprintf(err, errlen, "the secret is empty or too long");
		return NULL;
	}
	if (jwt_new(&jwt) != 0 || mint_claims(jwt, request) != 0 ||
	    (request->kid != NULL && jwt_add_header(jwt, "kid", request->kid) != 0) ||
	    jwt_set_alg(jwt, jwt_str_alg(alg->name), (const unsigned char *)request->secret.p,
	    (int)request->secret.len) != 0 || (text = jwt_encode_str(jwt)) == NULL) {
		snprintf(err, errlen, "two claims have one name, or a value is not UTF-8");
	} else if (strlen(text) > JWS_MAX) {
		snprintf(err, errlen, "the token would be longer than %d bytes", JWS_MAX);
		free(text);
		text = NULL;
	}
	jwt_free(jwt);
	return text;
}
