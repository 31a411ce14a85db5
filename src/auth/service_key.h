/*
 * service_key.h: the keys of back ends, as configured:
 * "name:tenant:sha256hex", tenant "*" for all.
 */
#ifndef BELAY_AUTH_SERVICE_KEY_H
#define BELAY_AUTH_SERVICE_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/digest.h"
#include "base/slice.h"

#define SERVICE_KEY_NAME_MAX 64

struct service_key {
	uint8_t hash[SHA256_LEN];
	struct identity identity;
};

/*
 * One entry of auth.service_keys.  The name ends at the first colon and the hash begins after the
 * last, since a tenant's id may hold colons.  -1 with a sentence in err.
 */
int service_key_parse(struct slice text, struct service_key *out, char *err, size_t errlen);

/* All keys are looked at, whichever fits: the time taken tells nothing.  NULL: none fits. */
const struct service_key *service_key_find(const struct service_key *keys, size_t n,
    const uint8_t hash[SHA256_LEN]);

#endif
