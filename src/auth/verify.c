/*
 * The one way from a token to an identity.  Each process that takes tokens
 * has one struct auth of its own: issuers with their keys and rules, service
 * keys, and the memory of verified tokens.  Never speaks to a network; what
 * it says about a refused token holds no part of it.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/crypto.h>

#include "auth/cache.h"
#include "auth/claims.h"
#include "auth/device_token.h"
#include "auth/jwks_file.h"
#include "auth/jws.h"
#include "auth/keys.h"
#include "auth/rules.h"
#include "auth/service_key.h"
#include "auth/verify.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/must.h"
#include "base/text.h"

#define DEFAULT_CACHE_ENTRIES 1024
#define DEFAULT_COOLDOWN_MS 30000

struct issuer {
	char *name;			/* owned; "" for flat options without `issuer` */
	struct claims_rules rules;
	struct keys fixed;		/* the secret and the PEM keys */
	struct keys set;		/* the JWKS */
	bool by_file, by_url;
	struct jwks_file file;		/* when by_file */
	uint8_t set_hash[SHA256_LEN];	/* of the text last installed */
	int64_t cooldown_ms;
};

/* One key that lets in. */
struct known {
	uint32_t id;
	const struct issuer *issuer;	/* NULL: a service key */
};

struct auth {
	struct issuer *issuers;		/* owned */
	size_t issuers_n;
	/* a token's iss chooses the issuer; else there is one for all */
	bool blocks;
	struct service_key *services;	/* owned */
	size_t services_n;
	struct known *known;		/* owned; sorted by id */
	size_t known_n;
	unsigned keys_version;
	struct cache cache;
	struct auth_counts counts;
	bool (*unknown_kid)(void *arg, const char *issuer);
	void *unknown_kid_arg;
};

static bool
is_set(const char *option)
{
	return option != NULL && option[0] != '\0';
}

/* At start: options to issuers. */

static bool
has_key_source(const struct auth_issuer_config *c)
{
	return is_set(c->jwt_secret) || is_set(c->jwt_secret_file) || is_set(c->jwt_public_key) ||
	    is_set(c->jwt_public_key_file) || is_set(c->jwks_file) || c->jwks_by_url;
}

/*
 * Text given, or read from the file named; 1: there is one, 0: neither is set, -1: the file can't
 * be read.
 */
static int
option_text(const char *text, const char *path, struct buf *out, char *err, size_t errlen)
{
	if (is_set(text)) {
		buf_puts(out, text);
		return 1;
	}
	if (!is_set(path))
		return 0;
	return auth_read_file(path, KEYS_TEXT_MAX, out, err, errlen) < 0 ? -1 : 1;
}

static void
buf_wipe(struct buf *b)
{
	if (b->data != NULL)
		OPENSSL_cleanse(b->data, b->cap);
	buf_fini(b);
}

/* A file written by an editor or echo(1) ends with a line break that nobody meant. */
static void
chomp(struct buf *b)
{
	if (b->len > 0 && b->data[b->len - 1] == '\n')
		b->len--;
	if (b->len > 0 && b->data[b->len - 1] == '\r')
		b->len--;
}

__attribute__((format(printf, 3, 4))) static int
fail(char *err, size_t errlen, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, errlen, fmt, ap);
	va_end(ap);
	return -1;
}

static int
issuer_add_keys(struct issuer *issuer, const struct auth_issuer_config *c, char *err, size_t errlen)
{
	struct buf text = BUF_INIT;
	char why[256];
	int has;

	if ((has = option_text(c->jwt_secret, c->jwt_secret_file, &text, why, sizeof(why))) > 0) {
		if (!is_set(c->jwt_secret))
			chomp(&text);
		has = keys_add_secret(&issuer->fixed, buf_slice(&text), c->insecure_short_secret,
		    why, sizeof(why));
	}
	buf_wipe(&text);
	if (has < 0)
		return fail(err, errlen, "%s: %s", is_set(c->jwt_secret) ? "jwt_secret" :
		    "jwt_secret_file", why);

	if ((has = option_text(c->jwt_public_key, c->jwt_public_key_file, &text, why,
	    sizeof(why))) > 0)
		has = keys_add_pem(&issuer->fixed, buf_slice(&text), why, sizeof(why));
	buf_wipe(&text);
	if (has < 0)
		return fail(err, errlen, "jwt_public_key_file: %s", why);

	if (is_set(c->jwks_file)) {
		if (jwks_file_open(&issuer->file, c->jwks_file, issuer->cooldown_ms, &issuer->set,
		    why, sizeof(why)) < 0)
			return fail(err, errlen, "jwks_file: %s", why);
		issuer->by_file = true;
	}
	issuer->by_url = c->jwks_by_url;
	if (issuer->by_file && issuer->by_url)
		return fail(err, errlen, "jwks_file and jwks_url cannot both be set");
	return 0;
}

static int
issuer_init(struct issuer *issuer, const struct auth_issuer_config *own,
    const struct auth_config *config, char *err, size_t errlen)
{
	int64_t cooldown_ms = own->jwks_cooldown_ms > 0 ? own->jwks_cooldown_ms :
	    config->flat.jwks_cooldown_ms;
	struct slice name = slice_of(own->issuer);

	memset(issuer, 0, sizeof(*issuer));
	issuer->name = must_strndup(name.p != NULL ? name.p : "", name.len);
	issuer->cooldown_ms = cooldown_ms > 0 ? cooldown_ms : DEFAULT_COOLDOWN_MS;
	rules_init(&issuer->rules, own, config);
	return issuer_add_keys(issuer, has_key_source(own) ? own : &config->flat, err, errlen);
}

static void
issuer_fini(struct issuer *issuer)
{
	free(issuer->name);
	rules_fini(&issuer->rules);
	keys_fini(&issuer->fixed);
	keys_fini(&issuer->set);
	if (issuer->by_file)
		jwks_file_close(&issuer->file);
}

static uint32_t
key_id(const struct issuer *issuer, const struct key *key)
{
	return identity_key(slice_of(issuer->name), key->print);
}

static int
known_compare(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static void
know(struct auth *auth, uint32_t id, const struct issuer *issuer)
{
	auth->known = must_realloc(auth->known, (auth->known_n + 1) * sizeof(*auth->known));
	auth->known[auth->known_n++] = (struct known){ id, issuer };
}

/* Keys came or went: what was verified by them is verified anew. */
static void
keys_changed(struct auth *auth)
{
	auth->known_n = 0;
	for (size_t i = 0; i < auth->issuers_n; i++) {
		const struct issuer *issuer = &auth->issuers[i];

		for (size_t j = 0; j < issuer->fixed.n; j++)
			know(auth, key_id(issuer, &issuer->fixed.v[j]), issuer);
		for (size_t j = 0; j < issuer->set.n; j++)
			know(auth, key_id(issuer, &issuer->set.v[j]), issuer);
	}
	for (size_t i = 0; i < auth->services_n; i++)
		know(auth, auth->services[i].identity.key, NULL);
	if (auth->known_n > 0)
		qsort(auth->known, auth->known_n, sizeof(*auth->known), known_compare);
	auth->keys_version++;
	cache_clear(&auth->cache);
}

/* Of the sets that are there already: those by URL come later. */
static bool
sets_clash(const struct auth *auth, const struct issuer *issuer)
{
	for (size_t i = 0; i < auth->issuers_n; i++)
		if (keys_clash(&issuer->set, &auth->issuers[i].set))
			return true;
	return false;
}

static int
auth_add_issuers(struct auth *auth, const struct auth_config *config, char *err, size_t errlen)
{
	size_t n = config->issuers_n > 0 ? config->issuers_n : 1;
	const struct auth_issuer_config *own;
	char why[320];

	auth->blocks = config->issuers_n > 0;
	auth->issuers = must_alloc(n * sizeof(*auth->issuers));
	for (size_t i = 0; i < n; i++) {
		own = auth->blocks ? &config->issuers[i] : &config->flat;
		if (auth->blocks && !is_set(own->issuer))
			return fail(err, errlen, "auth.issuers[%zu]: issuer is not set", i);
		for (size_t j = 0; j < i; j++)
			if (strcmp(auth->issuers[j].name, own->issuer) == 0)
				return fail(err, errlen,
				    "auth.issuers[%zu]: the same issuer as [%zu]", i, j);
		auth->issuers_n = i + 1;
		if (issuer_init(&auth->issuers[i], own, config, why, sizeof(why)) < 0)
			return auth->blocks ? fail(err, errlen, "auth.issuers[%zu]: %s", i, why) :
			    fail(err, errlen, "auth.%s", why);
		if (sets_clash(auth, &auth->issuers[i]))
			return fail(err, errlen, "%s: two different keys of one kid and algorithm",
			    auth->blocks ? "auth.issuers" : "auth.jwks_file");
	}
	return 0;
}

static int
auth_add_services(struct auth *auth, struct auth_strings entries, char *err, size_t errlen)
{
	char why[128];

	auth->services = must_alloc((entries.n + 1) * sizeof(*auth->services));
	for (size_t i = 0; i < entries.n; i++) {
		if (service_key_parse(slice_of(entries.v[i]), &auth->services[i], why,
		    sizeof(why)) < 0)
			return fail(err, errlen, "auth.service_keys[%zu]: %s", i, why);
		if (service_key_find(auth->services, i, auth->services[i].hash) != NULL)
			return fail(err, errlen, "auth.service_keys[%zu]: the same hash as one "
			    "before", i);
		auth->services_n = i + 1;
	}
	return 0;
}

struct auth *
auth_new(const struct auth_config *config, char *err, size_t errlen)
{
	struct auth *auth = must_alloc(sizeof(*auth));

	auth->unknown_kid = config->unknown_kid;
	auth->unknown_kid_arg = config->unknown_kid_arg;
	cache_init(&auth->cache, config->cache_entries > 0 ? config->cache_entries :
	    DEFAULT_CACHE_ENTRIES);
	if (is_set(config->default_tenant) && !text_is_id(slice_of(config->default_tenant),
	    ID_TENANT_MAX)) {
		fail(err, errlen, "auth.default_tenant: not a valid id");
		auth_free(&auth);
		return NULL;
	}
	if (auth_add_issuers(auth, config, err, errlen) < 0 ||
	    auth_add_services(auth, config->service_keys, err, errlen) < 0)
		auth_free(&auth);
	else
		keys_changed(auth);
	return auth;
}

void
auth_free(struct auth **auth)
{
	struct auth *a = *auth;

	*auth = NULL;
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->issuers_n; i++)
		issuer_fini(&a->issuers[i]);
	free(a->issuers);
	free(a->services);
	free(a->known);
	cache_fini(&a->cache);
	free(a);
}

/* Which key, and whether the signature is its. */

enum key_verdict { KEY_GOOD, KEY_BAD_SIGNATURE, KEY_UNKNOWN, KEY_AMBIGUOUS, KEY_WRONG_ALGORITHM,
    KEY_NONE, KEY_NOT_YET };

static bool
key_fits(const struct key *key, const struct jws *jws)
{
	return (key->algs & ALGORITHM_BIT(jws->alg->id)) != 0;
}

/* Keys of this name.  A set may hold one name twice, for two algorithms.  *used: the one that fits. */
static enum key_verdict
try_named(const struct keys *set, const struct jws *jws, const struct key **used)
{
	enum key_verdict verdict = KEY_UNKNOWN;

	for (size_t i = 0; i < set->n; i++) {
		const struct key *key = &set->v[i];

		if (key->kid == NULL || strcmp(key->kid, jws->kid) != 0)
			continue;
		if (!key_fits(key, jws)) {
			if (verdict == KEY_UNKNOWN)
				verdict = KEY_WRONG_ALGORITHM;
		} else if (key_verify(key, jws)) {
			*used = key;
			return KEY_GOOD;
		} else {
			verdict = KEY_BAD_SIGNATURE;
		}
	}
	return verdict;
}

/*
 * Without a name on one of the two sides.  The settings' own keys have none, and are tried one after
 * the other: an old one and its successor may stand in one PEM file.  Of a set, whose keys can have
 * names, one is tried only when no other fits.
 */
static enum key_verdict
try_nameless(const struct issuer *issuer, const struct jws *jws, const struct key **used)
{
	const struct key *only = NULL;
	size_t fitting = 0, tried = 0, seen = issuer->fixed.n;

	for (size_t i = 0; i < issuer->fixed.n; i++) {
		if (!key_fits(&issuer->fixed.v[i], jws))
			continue;
		if (key_verify(&issuer->fixed.v[i], jws)) {
			*used = &issuer->fixed.v[i];
			return KEY_GOOD;
		}
		tried++;
	}
	for (size_t i = 0; i < issuer->set.n; i++) {
		if (jws->has_kid && issuer->set.v[i].kid != NULL)
			continue;
		seen++;
		if (key_fits(&issuer->set.v[i], jws)) {
			fitting++;
			only = &issuer->set.v[i];
		}
	}
	if (fitting > 1)
		return KEY_AMBIGUOUS;
	*used = only;
	if (fitting == 1 && key_verify(only, jws))
		return KEY_GOOD;
	if (tried + fitting > 0)
		return KEY_BAD_SIGNATURE;
	return seen > 0 ? KEY_WRONG_ALGORITHM : KEY_UNKNOWN;
}

static enum key_verdict
issuer_try(const struct issuer *issuer, const struct jws *jws, const struct key **used)
{
	enum key_verdict named = KEY_UNKNOWN;

	if (jws->has_kid && (named = try_named(&issuer->set, jws, used)) != KEY_UNKNOWN)
		return named;
	return try_nameless(issuer, jws, used);
}

static enum key_verdict
issuer_verify(struct auth *auth, struct issuer *issuer, const struct jws *jws, int64_t now_ms,
    const struct key **used)
{
	enum key_verdict verdict = issuer_try(issuer, jws, used);
	bool named_there = false;

	if (verdict == KEY_GOOD)
		return verdict;
	if (!issuer->by_file && !issuer->by_url)
		return issuer->fixed.n > 0 ? verdict : KEY_NONE;
	for (size_t i = 0; jws->has_kid && i < issuer->set.n; i++)
		if (issuer->set.v[i].kid != NULL && strcmp(issuer->set.v[i].kid, jws->kid) == 0)
			named_there = true;
	if (named_there)
		return verdict;
	/* A key that the set does not hold may be new in it. */
	if (issuer->by_file && jwks_file_refresh(&issuer->file, now_ms, &issuer->set)) {
		keys_changed(auth);
		return issuer_try(issuer, jws, used);
	}
	if (issuer->by_url && auth->unknown_kid != NULL &&
	    auth->unknown_kid(auth->unknown_kid_arg, issuer->name))
		return KEY_NOT_YET;
	/* That some unnamed key did not fit says less than that the named one is not known. */
	return jws->has_kid && issuer->fixed.n == 0 ? KEY_UNKNOWN : verdict;
}

static const char *
key_verdict_text(enum key_verdict verdict)
{
	switch (verdict) {
	case KEY_GOOD:
		return "";
	case KEY_BAD_SIGNATURE:
		return "invalid signature";
	case KEY_UNKNOWN:
		return "unknown key id";
	case KEY_AMBIGUOUS:
		return "no key id";
	case KEY_WRONG_ALGORITHM:
		return "wrong algorithm";
	case KEY_NONE:
		return "no key configured";
	case KEY_NOT_YET:
		return "unknown key id";
	}
	must_fail("a verdict", __FILE__, __LINE__);
}

/* One token. */

static enum auth_verdict
refuse(struct auth *auth, char why[AUTH_WHY_LEN], const char *text)
{
	auth->counts.refused++;
	snprintf(why, AUTH_WHY_LEN, "%s", text);
	return AUTH_INVALID;
}

static enum auth_verdict
expired(struct auth *auth, char why[AUTH_WHY_LEN], int64_t expires_ms, int64_t now_ms)
{
	auth->counts.refused++;
	snprintf(why, AUTH_WHY_LEN, "expired %" PRId64 " s ago", (now_ms - expires_ms) / 1000);
	return AUTH_EXPIRED;
}

static struct issuer *
auth_issuer(struct auth *auth, const char *name)
{
	for (size_t i = 0; i < auth->issuers_n; i++)
		if (name != NULL && strcmp(auth->issuers[i].name, name) == 0)
			return &auth->issuers[i];
	return NULL;
}

static enum auth_verdict
verify_claims(struct auth *auth, const struct issuer *issuer, json_t *claims, int64_t now_ms,
    struct identity *out, char why[AUTH_WHY_LEN])
{
	int64_t expires_ms = 0;
	enum claims_fault fault = claims_check(claims, &issuer->rules, now_ms, out, &expires_ms);

	if (fault == CLAIMS_OK) {
		why[0] = '\0';
		return AUTH_OK;
	}
	if (fault == CLAIMS_EXPIRED)
		return expired(auth, why, expires_ms, now_ms);
	return refuse(auth, why, claims_fault_text(fault));
}

/*
 * What the payload says is looked at before the signature was checked in one case, to read `iss`
 * where that chooses whose keys count; it is then checked under that issuer like everything else.
 */
static enum auth_verdict
verify_jwt(struct auth *auth, struct slice token, int64_t now_ms, struct identity *out,
    char why[AUTH_WHY_LEN])
{
	struct issuer *issuer = &auth->issuers[0];
	const struct key *used = NULL;
	enum auth_verdict verdict;
	enum key_verdict key;
	enum jws_fault fault;
	json_t *claims = NULL;
	struct jws jws;

	if ((fault = jws_parse(token, &jws, NULL)) != JWS_OK)
		return refuse(auth, why, fault == JWS_ALG ? "wrong algorithm" : "malformed");
	if (auth->blocks) {
		if ((claims = claims_parse(slice_bytes(jws.payload, jws.payload_len))) == NULL)
			return refuse(auth, why, "malformed");
		if ((issuer = auth_issuer(auth, claims_issuer(claims))) == NULL) {
			json_decref(claims);
			return refuse(auth, why, "issuer");
		}
	}
	auth->counts.verified++;
	if ((key = issuer_verify(auth, issuer, &jws, now_ms, &used)) == KEY_NOT_YET) {
		snprintf(why, AUTH_WHY_LEN, "%s", key_verdict_text(key));
		verdict = AUTH_NOT_YET;
	} else if (key != KEY_GOOD)
		verdict = refuse(auth, why, key_verdict_text(key));
	else if (claims == NULL && (claims = claims_parse(slice_bytes(jws.payload,
	    jws.payload_len))) == NULL)
		verdict = refuse(auth, why, "malformed");
	else
		verdict = verify_claims(auth, issuer, claims, now_ms, out, why);
	if (verdict == AUTH_OK)
		out->key = key_id(issuer, used);
	json_decref(claims);
	return verdict;
}

static enum auth_verdict
verify_service(struct auth *auth, struct slice token, struct identity *out, char why[AUTH_WHY_LEN])
{
	const struct service_key *key;
	uint8_t hash[SHA256_LEN];

	if (auth_service_key_hash(token, hash) < 0)
		return refuse(auth, why, "malformed");
	if ((key = service_key_find(auth->services, auth->services_n, hash)) == NULL)
		return refuse(auth, why, "unknown service key");
	*out = key->identity;
	why[0] = '\0';
	return AUTH_OK;
}

enum auth_verdict
auth_verify(struct auth *auth, struct slice token, int64_t now_ms, struct identity *out,
    char why[AUTH_WHY_LEN])
{
	const struct identity *known;
	enum auth_verdict verdict;
	struct identity fresh;
	uint8_t hash[SHA256_LEN];

	if (token.len == 0) {
		auth->counts.refused++;
		strcpy(why, "missing");
		return AUTH_MISSING;
	}
	if (auth_service_key_is(token))
		return verify_service(auth, token, out, why);
	if (token.len > JWS_MAX)
		return refuse(auth, why, "malformed");

	digest_sha256(token, hash);
	if ((known = cache_get(&auth->cache, hash)) != NULL) {
		if (now_ms >= known->expires_ms + AUTH_LEEWAY_MS) {
			verdict = expired(auth, why, known->expires_ms, now_ms);
			cache_drop(&auth->cache, hash);
			return verdict;
		}
		auth->counts.remembered++;
		*out = *known;
		why[0] = '\0';
		return AUTH_OK;
	}
	if ((verdict = verify_jwt(auth, token, now_ms, &fresh, why)) == AUTH_OK) {
		memcpy(&fresh.token, hash, sizeof(fresh.token));
		cache_put(&auth->cache, hash, &fresh);
		*out = fresh;
	}
	return verdict;
}

/* Keys that come and change. */

bool
auth_allows(const struct auth *auth, uint32_t key, struct slice tenant, enum role role)
{
	const struct known wanted = { key, NULL }, *known;

	if (key == 0)
		return true;
	known = auth->known_n == 0 ? NULL : bsearch(&wanted, auth->known, auth->known_n,
	    sizeof(wanted), known_compare);
	return known != NULL && (known->issuer == NULL ||
	    claims_within(&known->issuer->rules, tenant, role));
}

unsigned
auth_keys_version(const struct auth *auth)
{
	return auth->keys_version;
}

int
auth_jwks_install(struct auth *auth, const char *issuer_name, struct slice text, char *err,
    size_t errlen)
{
	struct issuer *issuer = auth->blocks ? auth_issuer(auth, issuer_name) : &auth->issuers[0];
	struct keys fresh = KEYS_INIT;
	uint8_t hash[SHA256_LEN];

	if (issuer == NULL || !issuer->by_url)
		return fail(err, errlen, "no issuer of that name takes a key set by URL");
	digest_sha256(text, hash);
	if (issuer->set.n > 0 && digest_equal(hash, issuer->set_hash, sizeof(hash)))
		return 0;
	if (keys_add_jwks(&fresh, text, NULL, err, errlen) < 0)
		return -1;
	keys_fini(&issuer->set);
	issuer->set = fresh;
	memcpy(issuer->set_hash, hash, sizeof(hash));
	keys_changed(auth);
	return 0;
}

void
auth_refresh(struct auth *auth, int64_t now_ms)
{
	for (size_t i = 0; i < auth->issuers_n; i++) {
		struct issuer *issuer = &auth->issuers[i];

		if (issuer->by_file && jwks_file_refresh(&issuer->file, now_ms, &issuer->set))
			keys_changed(auth);
	}
}

struct auth_counts
auth_counts(const struct auth *auth)
{
	return auth->counts;
}
