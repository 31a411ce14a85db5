/*
 * mint.h: makes user tokens from the shared secret, for `belayctl token`.
 * No server process mints.
 */
#ifndef BELAY_AUTH_MINT_H
#define BELAY_AUTH_MINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct mint_request {
	struct slice secret;
	const char *alg;		/* NULL: HS256 */
	const char *user, *tenant, *role, *device;	/* NULL: no such claim */
	/* Names of these claims, literally; NULL: sub, tenant_id, role. */
	const char *user_claim, *tenant_claim, *role_claim;
	const char *issuer, *audience, *azp, *kid;
	int64_t now_ms;
	int64_t ttl_s;			/* exp = now + ttl_s; may be negative, for tests */
};

/* The token, to be freed with free(); NULL with a sentence in err. */
char *mint_token(const struct mint_request *request, char *err, size_t errlen);

#endif
