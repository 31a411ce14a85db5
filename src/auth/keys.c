/*
 * Keys from a secret, PEM text or a JWKS document, and the check of one
 * signature with one key.  Runs at start, when a key set changes, and (the
 * check) for each token that is not remembered.  Never reads a file and never
 * prints key material.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "auth/keys.h"
#include "base/must.h"

static void
key_fini(struct key *key)
{
	free(key->kid);
	EVP_PKEY_free(key->pkey);
	if (key->secret != NULL)
		OPENSSL_cleanse(key->secret, key->secret_len);
	free(key->secret);
	memset(key, 0, sizeof(*key));
}

void
keys_fini(struct keys *keys)
{
	for (size_t i = 0; i < keys->n; i++)
		key_fini(&keys->v[i]);
	free(keys->v);
	*keys = (struct keys)KEYS_INIT;
}

static void
key_print(struct key *key)
{
	uint8_t *der = NULL;
	int len;

	if (key->secret != NULL) {
		digest_sha256(slice_bytes(key->secret, key->secret_len), key->print);
		return;
	}
	len = i2d_PUBKEY(key->pkey, &der);
	must(len > 0);
	digest_sha256(slice_bytes(der, (size_t)len), key->print);
	OPENSSL_free(der);
}

/* Takes over what key owns. */
static void
keys_push(struct keys *keys, struct key *key)
{
	key_print(key);
	keys->v = must_realloc(keys->v, (keys->n + 1) * sizeof(*keys->v));
	keys->v[keys->n++] = *key;
}

static void
keys_truncate(struct keys *keys, size_t n)
{
	while (keys->n > n)
		key_fini(&keys->v[--keys->n]);
}

/* A secret. */

int
keys_add_secret(struct keys *keys, struct slice secret, bool short_ok, char *err, size_t errlen)
{
	struct key key = { .kind = KEY_HMAC, .algs = algorithm_of_kind(KEY_HMAC) };

	if (secret.len == 0) {
		snprintf(err, errlen, "the secret is empty");
		return -1;
	}
	/*
	 * A public key used as a secret is one that everybody has.  short_ok does not lift this:
	 * there is no test set-up that needs it.
	 */
	if (memmem(secret.p, secret.len, "-----BEGIN ", 11) != NULL) {
		snprintf(err, errlen, "the secret is PEM text: a key of that form belongs into "
		    "jwt_public_key_file");
		return -1;
	}
	if (secret.len < KEYS_SECRET_MIN && !short_ok) {
		snprintf(err, errlen, "the secret has %zu bytes: at least %d are needed (RFC 7518 "
		    "section 3.2)", secret.len, KEYS_SECRET_MIN);
		return -1;
	}
	if (secret.len > JWS_MAX) {
		snprintf(err, errlen, "the secret is longer than %d bytes", JWS_MAX);
		return -1;
	}
	key.secret = must_alloc(secret.len);
	memcpy(key.secret, secret.p, secret.len);
	key.secret_len = secret.len;
	keys_push(keys, &key);
	return 0;
}

/* Public keys. */

/* What an EVP_PKEY can be used for; 0 with the kind, or -1 with a sentence. */
static int
key_kind_of(EVP_PKEY *pkey, enum key_kind *kind, char *err, size_t errlen)
{
	char group[64];
	int bits;

	if (EVP_PKEY_is_a(pkey, "RSA")) {
		bits = EVP_PKEY_get_bits(pkey);
		if (bits < KEYS_RSA_BITS_MIN || bits > KEYS_RSA_BITS_MAX) {
			snprintf(err, errlen, "an RSA key of %d bits: %d to %d are taken", bits,
			    KEYS_RSA_BITS_MIN, KEYS_RSA_BITS_MAX);
			return -1;
		}
		*kind = KEY_RSA;
		return 0;
	}
	if (EVP_PKEY_is_a(pkey, "EC") && EVP_PKEY_get_group_name(pkey, group, sizeof(group),
	    NULL) == 1) {
		if (strcmp(group, SN_X9_62_prime256v1) == 0) {
			*kind = KEY_EC_256;
			return 0;
		}
		if (strcmp(group, SN_secp384r1) == 0) {
			*kind = KEY_EC_384;
			return 0;
		}
		snprintf(err, errlen, "an EC key on the curve %s: P-256 and P-384 are taken",
		    group);
		return -1;
	}
	snprintf(err, errlen, "a key that is neither RSA nor EC");
	return -1;
}

static EVP_PKEY *
pem_block_pkey(const char *name, const unsigned char *data, long len)
{
	const unsigned char *p = data;
	EVP_PKEY *pkey = NULL;
	X509 *x509;

	if (strcmp(name, PEM_STRING_PUBLIC) == 0)
		return d2i_PUBKEY(NULL, &p, len);
	if (strcmp(name, PEM_STRING_RSA_PUBLIC) == 0)
		return d2i_PublicKey(EVP_PKEY_RSA, NULL, &p, len);
	if (strcmp(name, PEM_STRING_X509) == 0 && (x509 = d2i_X509(NULL, &p, len)) != NULL) {
		pkey = X509_get_pubkey(x509);
		X509_free(x509);
	}
	return pkey;
}

static int
keys_add_pem_block(struct keys *keys, const char *name, const unsigned char *data, long len,
    char *err, size_t errlen)
{
	struct key key = { .kind = KEY_RSA };

	if (strstr(name, "PRIVATE KEY") != NULL) {
		snprintf(err, errlen, "it holds a private key: only the public one belongs here");
		return -1;
	}
	if ((key.pkey = pem_block_pkey(name, data, len)) == NULL) {
		snprintf(err, errlen, "a block that is neither a public key nor a certificate");
		return -1;
	}
	if (key_kind_of(key.pkey, &key.kind, err, errlen) < 0) {
		EVP_PKEY_free(key.pkey);
		return -1;
	}
	if (keys->n >= KEYS_MAX) {
		EVP_PKEY_free(key.pkey);
		snprintf(err, errlen, "more than %d keys", KEYS_MAX);
		return -1;
	}
	key.algs = algorithm_of_kind(key.kind);
	keys_push(keys, &key);
	return 0;
}

int
keys_add_pem(struct keys *keys, struct slice pem, char *err, size_t errlen)
{
	size_t before = keys->n;
	unsigned char *data = NULL;
	char *name = NULL, *header = NULL;
	long len;
	BIO *bio;
	int rc = 0;

	if (pem.len > KEYS_TEXT_MAX) {
		snprintf(err, errlen, "longer than %d bytes", KEYS_TEXT_MAX);
		return -1;
	}
	bio = BIO_new_mem_buf(pem.p != NULL ? pem.p : "", (int)pem.len);
	must(bio != NULL);
	while (rc == 0 && PEM_read_bio(bio, &name, &header, &data, &len) == 1) {
		rc = keys_add_pem_block(keys, name, data, len, err, errlen);
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(data);
	}
	BIO_free(bio);
	if (rc == 0 && keys->n == before) {
		snprintf(err, errlen, "it holds no PEM block");
		rc = -1;
	} else if (rc == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
		snprintf(err, errlen, "a damaged PEM block");
		rc = -1;
	}
	if (rc < 0)
		keys_truncate(keys, before);
	ERR_clear_error();
	return rc;
}

/* JSON Web Keys. */

/* A base64url member as bytes; its length, or 0 when it is not there or not such. */
static size_t
jwk_bytes(const json_t *jwk, const char *name, uint8_t *out, size_t cap)
{
	const json_t *value = json_object_get(jwk, name);
	long n;

	if (!json_is_string(value) || json_string_length(value) > (cap * 4 + 2) / 3)
		return 0;
	n = digest_base64url_decode(slice_bytes(json_string_value(value),
	    json_string_length(value)), out, cap);
	return n > 0 ? (size_t)n : 0;
}

static EVP_PKEY *
pkey_from_params(const char *type, OSSL_PARAM *params)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;

	if (ctx == NULL || params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

/* RFC 7518 section 6.3.1 */
static EVP_PKEY *
jwk_rsa(const json_t *jwk)
{
	uint8_t n[KEYS_RSA_BITS_MAX / 8 + 1], e[8];
	size_t n_len = jwk_bytes(jwk, "n", n, sizeof(n)), e_len = jwk_bytes(jwk, "e", e, sizeof(e));
	OSSL_PARAM_BLD *build;
	OSSL_PARAM *params;
	BIGNUM *bn_n, *bn_e;
	EVP_PKEY *pkey = NULL;

	if (n_len == 0 || e_len == 0)
		return NULL;
	bn_n = BN_bin2bn(n, (int)n_len, NULL);
	bn_e = BN_bin2bn(e, (int)e_len, NULL);
	build = OSSL_PARAM_BLD_new();
	must(bn_n != NULL && bn_e != NULL && build != NULL);
	/*
	 * An even exponent or modulus is no RSA key; an exponent of one makes every signature good.
	 */
	if (BN_is_odd(bn_n) && BN_is_odd(bn_e) && !BN_is_one(bn_e) &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, bn_n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, bn_e) == 1) {
		params = OSSL_PARAM_BLD_to_param(build);
		pkey = pkey_from_params("RSA", params);
		OSSL_PARAM_free(params);
	}
	OSSL_PARAM_BLD_free(build);
	BN_free(bn_n);
	BN_free(bn_e);
	return pkey;
}

/*
 * RFC 7518 section 6.2.1: coordinates have the full length; a point off the curve is refused by
 * libcrypto.
 */
static EVP_PKEY *
jwk_ec(const json_t *jwk)
{
	static const struct {
		const char *crv, *group;
		size_t len;
	} curves[] = {
		{ "P-256", SN_X9_62_prime256v1, 32 },
		{ "P-384", SN_secp384r1, 48 },
	};
	const char *crv = json_string_value(json_object_get(jwk, "crv"));
	uint8_t point[1 + 2 * 48];
	OSSL_PARAM params[3];
	size_t len;

	for (size_t i = 0; crv != NULL && i < sizeof(curves) / sizeof(curves[0]); i++) {
		if (strcmp(crv, curves[i].crv) != 0)
			continue;
		len = curves[i].len;
		point[0] = POINT_CONVERSION_UNCOMPRESSED;
		if (jwk_bytes(jwk, "x", point + 1, len) != len ||
		    jwk_bytes(jwk, "y", point + 1 + len, len) != len)
			return NULL;
		params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME,
		    (char *)(uintptr_t)curves[i].group, 0);
		params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point,
		    1 + 2 * len);
		params[2] = OSSL_PARAM_construct_end();
		return pkey_from_params("EC", params);
	}
	return NULL;
}

/* RFC 7517 sections 4.2 and 4.3: nothing said, or said to be for signatures */
static bool
jwk_is_for_verifying(const json_t *jwk)
{
	const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops"),
	    *op;
	size_t i;

	if (use != NULL && (!json_is_string(use) || strcmp(json_string_value(use), "sig") != 0))
		return false;
	if (ops == NULL)
		return true;
	json_array_foreach(ops, i, op)
		if (json_is_string(op) && strcmp(json_string_value(op), "verify") == 0)
			return true;
	return false;
}

/* `alg`, where it is there, leaves one algorithm of those the kind is for; none: 0. */
static uint32_t
jwk_algs(const json_t *jwk, enum key_kind kind)
{
	const json_t *name = json_object_get(jwk, "alg");
	const struct algorithm *alg;

	if (name == NULL)
		return algorithm_of_kind(kind);
	if (!json_is_string(name) || (alg = algorithm_find(json_string_value(name))) == NULL ||
	    alg->kind != kind)
		return 0;
	return ALGORITHM_BIT(alg->id);
}

static bool
jwk_key(const json_t *jwk, struct key *key)
{
	const char *kty = json_string_value(json_object_get(jwk, "kty"));
	const json_t *kid = json_object_get(jwk, "kid");
	char ignored[80];

	memset(key, 0, sizeof(*key));
	if (kty == NULL || !jwk_is_for_verifying(jwk) || json_object_get(jwk, "d") != NULL)
		return false;
	if (kid != NULL && (!json_is_string(kid) || json_string_length(kid) > JWS_KID_MAX))
		return false;
	if (strcmp(kty, "RSA") == 0)
		key->pkey = jwk_rsa(jwk);
	else if (strcmp(kty, "EC") == 0)
		key->pkey = jwk_ec(jwk);
	if (key->pkey == NULL)
		return false;
	if (key_kind_of(key->pkey, &key->kind, ignored, sizeof(ignored)) < 0 ||
	    (key->algs = jwk_algs(jwk, key->kind)) == 0) {
		key_fini(key);
		return false;
	}
	if (kid != NULL)
		key->kid = must_strndup(json_string_value(kid), json_string_length(kid));
	return true;
}

/* The document with its *list of keys, or NULL with a sentence. */
static json_t *
jwks_load(struct slice text, size_t max, json_t **list, char *err, size_t errlen)
{
	json_t *document;
	json_error_t where;

	if (text.len > max) {
		snprintf(err, errlen, "longer than %zu bytes", max);
		return NULL;
	}
	document = json_loadb(text.p != NULL ? text.p : "", text.len, JSON_REJECT_DUPLICATES,
	    &where);
	if (document == NULL) {
		snprintf(err, errlen, "line %d: not JSON", where.line);
		return NULL;
	}
	*list = json_object_get(document, "keys");
	if (!json_is_array(*list)) {
		snprintf(err, errlen, "not a JWKS document: no array \"keys\"");
		json_decref(document);
		return NULL;
	}
	return document;
}

int
keys_add_jwks(struct keys *keys, struct slice text, size_t *skipped, char *err, size_t errlen)
{
	size_t before = keys->n, passed_over = 0, i;
	json_t *document, *list, *jwk;
	struct key key;
	int rc = -1;

	if ((document = jwks_load(text, KEYS_TEXT_MAX, &list, err, errlen)) == NULL)
		return -1;
	json_array_foreach(list, i, jwk) {
		if (keys->n - before < KEYS_MAX && jwk_key(jwk, &key))
			keys_push(keys, &key);
		else
			passed_over++;
	}
	if (keys->n == before) {
		snprintf(err, errlen, "no key in it can be used (of %zu)", passed_over);
		goto out;
	}
	rc = 0;
out:
	json_decref(document);
	ERR_clear_error();
	if (skipped != NULL)
		*skipped = passed_over;
	return rc;
}

/* The members that jwk_key() reads; `use` and `key_ops` have had their say. */
static void
jwk_put(struct buf *out, const json_t *jwk)
{
	static const char *const members[] = { "kty", "kid", "alg", "n", "e", "crv", "x", "y" };
	bool first = true;

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		const json_t *value = json_object_get(jwk, members[i]);

		/*
		 * Of these only what the kind needs was looked at: the rest may be of any length.
		 */
		if (!json_is_string(value) || (strcmp(json_string_value(json_object_get(jwk,
		    "kty")), "RSA") == 0 ?
		    i >= 5 : i == 3 || i == 4))
			continue;
		buf_puts(out, first ? "{\"" : ",\"");
		buf_puts(out, members[i]);
		buf_puts(out, "\":");
		buf_put_json_string(out, slice_bytes(json_string_value(value),
		    json_string_length(value)));
		first = false;
	}
	buf_putc(out, '}');
}

int
keys_compact_jwks(struct slice text, struct buf *out, size_t *taken, size_t *skipped, char *err,
    size_t errlen)
{
	size_t before = out->len, i;
	json_t *document, *list, *jwk;
	struct key key;

	*taken = *skipped = 0;
	if ((document = jwks_load(text, KEYS_FETCHED_MAX, &list, err, errlen)) == NULL)
		return -1;
	buf_puts(out, "{\"keys\":[");
	json_array_foreach(list, i, jwk) {
		if (*taken == KEYS_MAX || !jwk_key(jwk, &key)) {
			++*skipped;
			continue;
		}
		key_fini(&key);
		if (++*taken > 1)
			buf_putc(out, ',');
		jwk_put(out, jwk);
	}
	buf_puts(out, "]}");
	json_decref(document);
	ERR_clear_error();
	if (*taken > 0)
		return 0;
	out->len = before;
	snprintf(err, errlen, "no key in it can be used (of %zu)", *skipped);
	return -1;
}

static bool
key_clashes(const struct key *a, const struct key *b)
{
	return a->kid != NULL && b->kid != NULL && (a->algs & b->algs) != 0 &&
	    strcmp(a->kid, b->kid) == 0 && memcmp(a->print, b->print, sizeof(a->print)) != 0;
}

bool
keys_clash(const struct keys *a, const struct keys *b)
{
	for (size_t i = 0; i < a->n; i++)
		for (size_t j = 0; j < b->n; j++)
			if (key_clashes(&a->v[i], &b->v[j]))
				return true;
	return false;
}

/* The check of a signature. */

static int
verify_mac(const struct key *key, const struct jws *jws, const EVP_MD *md)
{
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned int len;

	must(key->secret_len > 0);
	if (HMAC(md, key->secret, (int)key->secret_len, (const uint8_t *)jws->signed_text.p,
	    jws->signed_text.len, mac, &len) == NULL)
		return 0;
	return jws->signature_len == len && digest_equal(mac, jws->signature, len);
}

/*
 * r || s, each of the coordinate's length (RFC 7518 section 3.4), as the DER that libcrypto takes;
 * 0: not such.
 */
static size_t
ecdsa_to_der(const struct jws *jws, uint8_t *der, size_t cap)
{
	size_t coordinate = jws->alg->coordinate;
	ECDSA_SIG *sig;
	BIGNUM *r, *s;
	uint8_t *p = der;
	int len;

	if (jws->signature_len != 2 * coordinate)
		return 0;
	sig = ECDSA_SIG_new();
	r = BN_bin2bn(jws->signature, (int)coordinate, NULL);
	s = BN_bin2bn(jws->signature + coordinate, (int)coordinate, NULL);
	must(sig != NULL && r != NULL && s != NULL);
	must(ECDSA_SIG_set0(sig, r, s) == 1);
	len = i2d_ECDSA_SIG(sig, NULL);
	must(len > 0 && (size_t)len <= cap);
	len = i2d_ECDSA_SIG(sig, &p);
	ECDSA_SIG_free(sig);
	return (size_t)len;
}

static int
verify_public(const struct key *key, const struct jws *jws, const EVP_MD *md)
{
	uint8_t der[2 * 48 + 16];
	const uint8_t *signature = jws->signature;
	size_t len = jws->signature_len;
	EVP_MD_CTX *ctx;
	int good;

	if (jws->alg->coordinate != 0) {
		if ((len = ecdsa_to_der(jws, der, sizeof(der))) == 0)
			return 0;
		signature = der;
	} else if (len != (size_t)EVP_PKEY_get_size(key->pkey)) {
		return 0;
	}
	ctx = EVP_MD_CTX_new();
	must(ctx != NULL);
	good = EVP_DigestVerifyInit(ctx, NULL, md, NULL, key->pkey) == 1 &&
	    EVP_DigestVerify(ctx, signature, len, (const uint8_t *)jws->signed_text.p,
	    jws->signed_text.len) == 1;
	EVP_MD_CTX_free(ctx);
	if (!good)
		ERR_clear_error();
	return good;
}

int
key_verify(const struct key *key, const struct jws *jws)
{
	must(key->kind == jws->alg->kind && (key->algs & ALGORITHM_BIT(jws->alg->id)) != 0);
	switch (jws->alg->verifier) {
	case VERIFY_MAC:
		return verify_mac(key, jws, jws->alg->hash());
	case VERIFY_PUBLIC:
		return verify_public(key, jws, jws->alg->hash());
	}
	return 0;
}
