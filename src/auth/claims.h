/*
 * claims.h: what a token says, once its signature was found good.
 *
 * Times and parties are checked (RFC 7519 section 4.1), and the claims that
 * name user, tenant, role and device are found by configured paths.
 */
#ifndef BELAY_AUTH_CLAIMS_H
#define BELAY_AUTH_CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/slice.h"

struct json_t;

enum claims_fault {
#define CLAIMS_FAULT(name, words) CLAIMS_##name,
#include "auth/claims.def"
#undef CLAIMS_FAULT
	CLAIMS_FAULT_COUNT
};

/* The words for the log: "not yet valid", "no user id claim"… */
const char *claims_fault_text(enum claims_fault fault);

struct claims_paths {
	char **v;			/* owned */
	size_t n;
};

struct claims_rules {
	char *issuer, *audience;	/* owned; NULL: not checked */
	struct claims_paths azp;	/* empty: not checked */
	struct claims_paths user, tenant, role;
	struct claims_paths tenants;	/* which it may name, `*` at the end for any rest; empty: all */
	bool no_roles;			/* role claims are not looked at: everyone is a plain user */
	char *default_tenant;		/* owned; NULL: a tenant's claim is required */
	int64_t leeway_ms;
};

/*
 * One JSON object without duplicate names; NULL when it is not.  To be freed with json_decref().
 */
struct json_t *claims_parse(struct slice payload);

/*
 * The member a path names, NULL when there is none or it is null.  The whole path is tried as one
 * name first (`https://example.com/tenant`), then each part before a dot as the name of an object
 * that holds the rest.
 */
struct json_t *claims_find(struct json_t *claims, const char *path);

/* `iss`, only to choose whose rules apply: NULL when it is no string.  Borrowed from claims. */
const char *claims_issuer(struct json_t *claims);

/* May a token under these rules stand for this role in this tenant? */
bool claims_within(const struct claims_rules *rules, struct slice tenant, enum role role);

/*
 * Fills *out.  The first fault in the order: issuer, audience, azp, times, ids, expiry; for
 * CLAIMS_EXPIRED
 * *expires_ms is set as well.
 */
enum claims_fault claims_check(struct json_t *claims, const struct claims_rules *rules,
    int64_t now_ms, struct identity *out, int64_t *expires_ms);

#endif
