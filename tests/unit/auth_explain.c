/*
 * What a person is told about a token, and libjwt's second opinion on the
 * ones that are taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jwt.h>

#include "auth/device_token.h"
#include "auth/explain.h"
#include "auth/verify.h"
#include "auth_tokens.h"
#include "base/buf.h"

#define HS "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define EXP "\"exp\":1769864400"
#define GOOD "{\"sub\":\"u1\",\"tenant_id\":\"t1\"," EXP "}"
#define BIT(name) EXPLAIN_BIT(name)

/* Frees the token. */
static void
expect(char *token, struct slice secret, const struct auth_config *config, uint64_t faults)
{
	struct buf out = BUF_INIT;
	uint64_t got = explain_token(slice_of(token), secret, config, NOW_MS, &out);
	size_t lines = 0;

	if (got != faults)
		fail_msg("%s: %llx, expected %llx: %.*s", token, (unsigned long long)got, (unsigned long long)faults,
		    (int)out.len, out.data);
	for (size_t i = 0; i < out.len; i++) {
		lines += out.data[i] == '\n';
		assert_true(out.data[i] == '\n' || (unsigned char)out.data[i] >= 0x20);
	}
	assert_true(out.len > 0 && out.data[out.len - 1] == '\n');
	assert_true(lines >= (size_t)__builtin_popcountll(faults));
	/* No signature and no secret is shown. */
	if (strlen(token) > 100)
		assert_null(memmem(out.data, out.len, token + strlen(token) - 30, 20));
	if (secret.len >= 8)
		assert_null(memmem(out.data, out.len, secret.p, secret.len));
	buf_fini(&out);
	free(token);
}

/* Claims as given, signed by the secret. */
static void
expect_claims(const char *claims, const struct auth_config *config, uint64_t faults)
{
	expect(token_hs256(claims), SLICE(SECRET), config, faults);
}

static void
test_wrapping(void **state)
{
	char *good = token_hs256(GOOD), *t;
	int dot = (int)strcspn(good, ".");

	(void)state;
	expect(text("%s", good), SLICE(SECRET), NULL, 0);
	expect(text("%s", ""), SLICE_NONE, NULL, BIT(MISSING));
	expect(text("%s", "  \n"), SLICE_NONE, NULL, BIT(MISSING) | BIT(SPACE));
	expect(text("%s", "\"\""), SLICE_NONE, NULL, BIT(MISSING) | BIT(QUOTES));
	expect(text("%s", "Bearer "), SLICE_NONE, NULL, BIT(MISSING) | BIT(BEARER));
	expect(text("%s", "undefined"), SLICE_NONE, NULL, BIT(PLACEHOLDER));
	expect(text("%s", "Bearer null"), SLICE_NONE, NULL, BIT(PLACEHOLDER) | BIT(BEARER));
	expect(text("Bearer %s", good), SLICE(SECRET), NULL, BIT(BEARER));
	expect(text("bearer%%20%s", good), SLICE(SECRET), NULL, BIT(BEARER) | BIT(URL_ENCODED));
	expect(text("Authorization%s", ""), SLICE_NONE, NULL, BIT(SEGMENTS));
	expect(text("\"%s\"", good), SLICE(SECRET), NULL, BIT(QUOTES));
	expect(text("'%s", good), SLICE(SECRET), NULL, BIT(QUOTES));
	expect(text("%s\n", good), SLICE(SECRET), NULL, BIT(SPACE));
	expect(text("%.20s\r\n  %s", good, good + 20), SLICE(SECRET), NULL, BIT(SPACE));
	expect(text("%%22%s%%22", good), SLICE(SECRET), NULL, BIT(URL_ENCODED) | BIT(QUOTES));
	expect(text("%.*s%%2E%s", dot, good, good + dot + 1), SLICE(SECRET), NULL,
	    BIT(URL_ENCODED));
	expect(text("%.*s%%252E%s", dot, good, good + dot + 1), SLICE(SECRET), NULL,
	    BIT(URL_ENCODED));
	expect(text("%s.x.y", good), SLICE_NONE, NULL, BIT(ENCRYPTED));
	expect(text("%s.x", good), SLICE_NONE, NULL, BIT(SEGMENTS));
	expect(text("%.30s", good), SLICE_NONE, NULL, BIT(SEGMENTS));
	expect(text("%s==", good), SLICE_NONE, NULL, BIT(BASE64));
	t = malloc(9001);
	memset(t, 'a', 9000);
	t[9000] = '\0';
	expect(t, SLICE_NONE, NULL, BIT(TOO_LONG));
	t = malloc(DEVICE_TOKEN_LEN + 1);
	{
		uint8_t hash[32];

		auth_device_token_new(t, hash);
		expect(text("%s", t), SLICE_NONE, NULL, 0);
		expect(text("%.46s", t), SLICE_NONE, NULL, BIT(DEVICE_FORM));
		auth_service_key_new(t, hash);
		expect(text("%s", t), SLICE_NONE, NULL, 0);
		expect(text("%sx", t), SLICE_NONE, NULL, BIT(SERVICE_FORM));
		free(t);
	}
	free(good);
}

static void
test_signature(void **state)
{
	EVP_PKEY *rsa = key_rsa(2048);
	char *decoded = b64(SECRET, 32), *padded = text("%s=", decoded);

	(void)state;
	expect(token_hs256(GOOD), SLICE_NONE, NULL, 0);
	expect(token_hs256(GOOD), SLICE("another secret"), NULL, BIT(WRONG_SECRET));
	expect(token_hs256(GOOD), SLICE(SECRET "\n"), NULL, BIT(SECRET_SPACE));
	expect(token_hs256(GOOD), SLICE("  " SECRET), NULL, BIT(SECRET_SPACE));
	expect(token_hs256(GOOD), slice_of(decoded), NULL, BIT(SECRET_BASE64));
	expect(token_hs256(GOOD), slice_of(padded), NULL, BIT(SECRET_BASE64));
	expect(token_hmac(HS, GOOD, SLICE("short"), "SHA256"), SLICE("short"), NULL, 0);
	expect(token_pkey("{\"alg\":\"RS256\",\"kid\":\"\\u0007a\"}", GOOD, rsa, "SHA256"), SLICE(SECRET), NULL,
	    BIT(ALG_MISMATCH));
	expect(token_pkey("{\"alg\":\"RS256\"}", GOOD, rsa, "SHA256"), SLICE_NONE, NULL, 0);
	expect(token_pkey("{\"alg\":\"PS256\"}", GOOD, rsa, "SHA256"), SLICE(SECRET), NULL, BIT(ALG_UNKNOWN));
	expect(token_hmac("{\"alg\":\"none\"}", GOOD, SLICE(SECRET), "SHA256"), SLICE(SECRET), NULL, BIT(ALG_NONE));
	expect(token_hmac("{\"alg\":\"HS256\",\"crit\":[]}", GOOD, SLICE(SECRET), "SHA256"), SLICE(SECRET), NULL,
	    BIT(HEADER));
	free(decoded);
	free(padded);
	EVP_PKEY_free(rsa);
}

static void
test_claims(void **state)
{
	static const char *const azp[] = { "app" };
	const struct auth_config strict = { .flat = { .issuer = "https://i", .audience = "belay", .azp = { azp, 1 } } };
	const struct auth_issuer_config block = { .issuer = "https://b" };
	const struct auth_config blocks = { .issuers = &block, .issuers_n = 1 };
	static const char *const tenants[] = { "acme-*" };
	const struct auth_config bounded = { .flat.tenants = { tenants, 1 } };

	(void)state;
	expect_claims("{\"sub\":\"u\",\"tenant_id\":\"acme-1\"," EXP "}", &bounded, 0);
	expect_claims("{\"sub\":\"u\",\"tenant_id\":\"acme\"," EXP "}", &bounded, BIT(FOREIGN_TENANT));
	expect_claims("[]", NULL, BIT(PAYLOAD));
	expect_claims("{\"sub\":\"u\"}", NULL, BIT(NO_EXP));
	expect_claims("{\"sub\":\"u\",\"exp\":\"1769864400\"}", NULL, BIT(NO_EXP));
	expect_claims("{\"sub\":\"u\",\"exp\":1769864400000}", NULL, BIT(EXP_MILLISECONDS));
	expect_claims("{\"sub\":\"u\",\"exp\":1769860000}", NULL, BIT(EXPIRED));
	expect_claims("{\"sub\":\"u\",\"exp\":1}", NULL, BIT(EXPIRED));
	expect_claims("{\"sub\":\"u\",\"exp\":-1e12}", NULL, BIT(EXPIRED));
	expect_claims("{\"sub\":\"u\",\"exp\":1769860797}", NULL, 0);
	expect_claims("{\"sub\":\"u\"," EXP ",\"nbf\":1769860900}", NULL, BIT(NOT_YET));
	expect_claims("{\"sub\":\"u\"," EXP ",\"iat\":1769960900}", NULL, BIT(SKEW));
	expect_claims("{\"name\":\"u\"," EXP "}", NULL, BIT(NO_USER));
	expect_claims("{\"sub\":\"a b\"," EXP "}", NULL, BIT(BAD_USER));
	expect_claims("{\"sub\":\"u\",\"tenant_id\":\"a b\"," EXP "}", NULL, BIT(BAD_ID));
	expect_claims("{\"device\":\"d\"," EXP "}", NULL, BIT(NO_TENANT));
	expect_claims("{\"name\":\"u\",\"exp\":1769860000,\"iat\":1769960900}", NULL,
	    BIT(NO_USER) | BIT(EXPIRED) | BIT(SKEW));
	expect_claims("{\"sub\":\"u\"," EXP "}", &strict, BIT(ISSUER));
	expect_claims("{\"sub\":\"u\",\"iss\":\"https://i\"," EXP "}", &strict, BIT(AUDIENCE));
	expect_claims("{\"sub\":\"u\",\"iss\":\"https://i\",\"aud\":\"belay\"," EXP "}", &strict, BIT(AZP));
	expect_claims("{\"sub\":\"u\",\"iss\":\"https://i\",\"aud\":\"belay\",\"azp\":\"app\"," EXP "}", &strict,
	    BIT(NO_TENANT));
	expect_claims("{\"sub\":\"u\",\"tenant_id\":\"t\",\"iss\":\"https://b\"," EXP "}", &blocks, 0);
	expect_claims("{\"sub\":\"u\",\"tenant_id\":\"t\",\"iss\":\"https://x\"," EXP "}", &blocks, BIT(ISSUER));
}

/*
 * libjwt is laxer than the front: whatever is taken here it must take too, for its own reasons.  (It knows no typ
 * at+jwt.)  Changed tokens by the thousand; nearly all are refused, and none may be taken that libjwt refuses.
 */
static void
test_second_opinion(void **state)
{
	static const char *const hash[] = { "SHA256", "SHA384", "SHA512" };
	struct auth *auth;
	char err[128], why[AUTH_WHY_LEN], *token, *header;
	struct identity id;
	unsigned taken = 0, seed = 1;
	jwt_t *jwt;
	int rc;

	(void)state;
	auth = auth_new(&(struct auth_config){ .flat.jwt_secret = SECRET, .default_tenant = "d" }, err, sizeof(err));
	assert_non_null(auth);
	for (unsigned i = 0; i < 6000; i++) {
		header = text("{\"alg\":\"HS%d\",\"typ\":\"JWT\"}", 256 + 128 * (int)(i % 3));
		token = token_hmac(header, GOOD, SLICE(SECRET), hash[i % 3]);
		free(header);
		if (i >= 3) {
			seed = seed * 1103515245 + 12345;
			token[(seed >> 8) % strlen(token)] =
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/"[(seed >> 20) % 68];
		}
		if (auth_verify(auth, slice_of(token), NOW_MS, &id, why) == AUTH_OK) {
			taken++;
			jwt = NULL;
			rc = jwt_decode(&jwt, token, (const unsigned char *)SECRET, 32);
			assert_int_equal(rc, 0);
			assert_string_equal(jwt_get_grant(jwt, "sub"), id.user);
			jwt_free(jwt);
		}
		free(token);
	}
	assert_true(taken >= 3);
	auth_free(&auth);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrapping),
		cmocka_unit_test(test_signature),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_second_opinion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
