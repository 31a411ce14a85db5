/*
 * verify.h: from the text of a token to an identity.
 *
 * The one entry point of this folder for the processes that take tokens.
 * It speaks to no network: a key set that is had by URL is fetched by
 * somebody else and handed in with auth_jwks_install().  A struct auth
 * belongs to one thread.
 */
#ifndef BELAY_AUTH_VERIFY_H
#define BELAY_AUTH_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/slice.h"

struct auth;

struct auth_strings {
	const char *const *v;
	size_t n;
};

/*
 * One issuer's options.  NULL and "" mean "not set" throughout.  Key sources: the
 * secret, the PEM text and the JWKS may all be set: a token is tried with keys that
 * are for its algorithm only.  A *_file is read here when its text is not given.
 */
struct auth_issuer_config {
	const char *issuer;			/* exact `iss`; not set: not checked */
	const char *audience;			/* must be in `aud`; not set: not checked */
	struct auth_strings azp;		/* `azp` must be one of these; empty: not checked */
	const char *jwt_secret;			/* for HS256, HS384, HS512 */
	/* one line break at the end is not part of the secret */
	const char *jwt_secret_file;
	bool insecure_short_secret;		/* take a secret under 32 bytes */
	/* PEM: public keys or certificates, one or several */
	const char *jwt_public_key;
	const char *jwt_public_key_file;
	const char *jwks_file;
	bool jwks_by_url;			/* keys come with auth_jwks_install() */
	struct auth_strings user_claim;		/* paths; empty: the default list */
	struct auth_strings tenant_claim;
	struct auth_strings role_claim;
	struct auth_strings tenants;		/* which it may name, `*` at the end; empty: all */
	bool whole;				/* a block that inherits nothing: what is empty in it is not checked */
	bool no_roles;				/* whom it names are plain users, whatever else it says */
	/* between two looks at jwks_file because of an unknown key; 0: 30,000 */
	int64_t jwks_cooldown_ms;
};

struct auth_config {
	/* The flat options: the only issuer, or what the blocks do not set themselves. */
	struct auth_issuer_config flat;
	/*
	 * With blocks a token whose `iss` has none is refused.  A block without any key source
	 * takes the flat ones; a block with one takes none of them.
	 */
	const struct auth_issuer_config *issuers;
	size_t issuers_n;

	const char *default_tenant;		/* NULL or "": a token without tenant is refused */
	struct auth_strings service_keys;	/* "name:tenant:sha256hex" */
	size_t cache_entries;			/* verified tokens remembered; 0: 1,024 */

	/*
	 * A token needs a key that no key set of this issuer holds ("" for the flat options without
	 * `issuer`); called only for issuers with jwks_by_url, from within auth_verify(), each
	 * time.  true: a newer set may come soon, and the verdict can wait for it.  It must only
	 * take note, and itself sees to how often is asked.
	 */
	bool (*unknown_kid)(void *arg, const char *issuer);
	void *unknown_kid_arg;
};

/*
 * Parses all keys once; the config is not referred to afterwards.  NULL with a
 * sentence in err (never with a part of a secret) when an option is at fault.
 * Without any key source every user token is refused.
 */
struct auth *auth_new(const struct auth_config *config, char *err, size_t errlen);
void auth_free(struct auth **auth);

enum auth_verdict {
	AUTH_OK,
	AUTH_MISSING,		/* an empty token */
	AUTH_INVALID,
	AUTH_EXPIRED,		/* good in every way but that exp + 5 s is over */
	AUTH_NOT_YET		/* no verdict: unknown_kid() said to wait; AUTH_INVALID for whoever can't */
};

#define AUTH_WHY_LEN 48
#define AUTH_LEEWAY_MS 5000

/*
 * A user's (or device's) JWT, or a service key.  Device tokens (bdt_) are not
 * known here: see device_token.h.  *out is set only for AUTH_OK; why is "" then
 * and else for the log: `invalid signature`, `expired 312 s ago`…; never a part
 * of the token.  now_ms is wall-clock time.
 */
enum auth_verdict auth_verify(struct auth *auth, struct slice token, int64_t now_ms,
    struct identity *out, char why[AUTH_WHY_LEN]);

/*
 * Whether what a key let in may go on: identity's key is still one of the settings or of a key set,
 * and its issuer may still name this role in this tenant.  true for the key 0.
 */
bool auth_allows(const struct auth *auth, uint32_t key, struct slice tenant, enum role role);

/* Another number after each change of the keys; never 0. */
unsigned auth_keys_version(const struct auth *auth);

/*
 * A key set that was fetched for the issuer replaces the one before; every
 * verified token is forgotten unless the text is the same.  Without blocks
 * the issuer's name is not looked at; a key set of the flat options is
 * installed for each block that has no key source of its own.  -1 with a
 * sentence in err: nothing changed.
 */
int auth_jwks_install(struct auth *auth, const char *issuer, struct slice text, char *err,
    size_t errlen);

/* Looks whether a JWKS file changed, and reads it then; to be called every auth.jwks_refresh. */
void auth_refresh(struct auth *auth, int64_t now_ms);

/*
 * How often a verdict came from the memory of verified tokens, and how often a signature was
 * checked.
 */
struct auth_counts {
	uint64_t remembered, verified, refused;
};
struct auth_counts auth_counts(const struct auth *auth);

#endif
