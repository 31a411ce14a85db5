/*
 * identity.h: who a connection or request acts for, once its token was
 * verified.
 *
 * Plain data: it may be copied, packed into records between processes and
 * kept for the life of a connection.
 */
#ifndef BELAY_AUTH_IDENTITY_H
#define BELAY_AUTH_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"

#define ID_TENANT_MAX 64
#define ID_DEVICE_MAX 64
#define ID_USER_MAX 128
#define ID_KEY_PREFIX "key:"		/* user ids of service keys, and of nobody else */

/* The values travel between processes: new ones go to the end. */
enum role {
	ROLE_USER,		/* what it owns and what is shared with it */
	ROLE_ADMIN,		/* all devices of its tenant */
	ROLE_SERVICE,		/* a back end: all devices of its tenant, or of any (any_tenant) */
	ROLE_DEVICE		/* not a person: user is the device's id */
};

struct identity {
	enum role role;
	bool any_tenant;			/* a service key for "*"; tenant is then empty */
	char tenant[ID_TENANT_MAX + 1];
	/* user's id; ROLE_DEVICE: device's id; service key: key:NAME, which no token's user is */
	char user[ID_USER_MAX + 1];
	/* as in the token, without "org:"; "user" when there is none to show */
	char role_name[33];
	int64_t expires_ms;			/* the token's exp; 0: never */
	/* Which key of the settings let it in (auth_allows()); 0: none, as for a device's own token. */
	uint32_t key;
	uint32_t token;				/* tells tokens apart: of its hash; 0: a service key, or unknown */
};

/*
 * The number that stands for a key: of its holder (an issuer, or a service key's name and tenant) and
 * of the key's print, so that a change of either makes another key of it.  Never 0.
 */
uint32_t identity_key(struct slice holder, const uint8_t print[SHA256_LEN]);

/* "user", "admin", "service", "device" */
const char *role_text(enum role role);

#endif
