/*
 * From token to identity: every way in, and every way to be refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "auth/device_token.h"
#include "auth/keys.h"
#include "auth/mint.h"
#include "auth/verify.h"
#include "auth_tokens.h"
#include "base/buf.h"
#include "base/digest.h"

#define HS "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define EXP "\"exp\":1769864400"			/* NOW_S + 3600 */
#define GOOD "{\"sub\":\"u1\",\"tenant_id\":\"t1\"," EXP "}"
#define STRINGS(...) { (const char *const[]){ __VA_ARGS__ }, \
	sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *) }

static struct auth *
auth_or_fail(const struct auth_config *config)
{
	char err[512] = "";
	struct auth *auth = auth_new(config, err, sizeof(err));

	if (auth == NULL)
		fail_msg("auth_new: %s", err);
	return auth;
}

static struct auth *
auth_secret(void)
{
	return auth_or_fail(&(struct auth_config){ .flat.jwt_secret = SECRET, .default_tenant = "default" });
}

/* Verifies and frees the token; the words in *why are kept until the next call. */
static enum auth_verdict
verify_at(struct auth *auth, char *token, int64_t now_ms, struct identity *id, const char **why)
{
	static char words[AUTH_WHY_LEN];
	struct identity ignored;
	enum auth_verdict verdict;
	/* A copy of the exact size, so that a sanitizer sees a read past its end. */
	char *exact = malloc(strlen(token) + 1);
	size_t len = strlen(token);

	memcpy(exact, token, len);
	exact = realloc(exact, len > 0 ? len : 1);
	memset(words, '?', sizeof(words));
	verdict = auth_verify(auth, slice_bytes(exact, len), now_ms, id != NULL ? id : &ignored, words);
	free(exact);
	free(token);
	assert_non_null(memchr(words, '\0', sizeof(words)));
	if (why != NULL)
		*why = words;
	return verdict;
}

static void
expect_at(struct auth *auth, char *token, int64_t now_ms, enum auth_verdict verdict, const char *why)
{
	const char *words;
	enum auth_verdict got = verify_at(auth, token, now_ms, NULL, &words);

	if (got != verdict || strcmp(words, why) != 0)
		fail_msg("got %d \"%s\", expected %d \"%s\"", got, words, verdict, why);
}

static void
expect(struct auth *auth, char *token, enum auth_verdict verdict, const char *why)
{
	expect_at(auth, token, NOW_MS, verdict, why);
}

static void
test_form(void **state)
{
	/* Each signed by the secret where it has three parts: only the form is wrong. */
	static const struct {
		const char *header, *payload, *why;
	} rows[] = {
		{ HS, GOOD, "" },
		{ "{\"alg\":\"HS256\"}", GOOD, "" },
		{ "{\"typ\":\"at+jwt\",\"alg\":\"HS256\"}", GOOD, "" },
		{ "{\"typ\":\"jwt\",\"alg\":\"HS256\"}", GOOD, "" },
		{ "{\"typ\":\"application/at+JWT\",\"alg\":\"HS256\"}", GOOD, "" },
		{ "{\"alg\":\"HS256\",\"jku\":\"https://evil.example/\",\"x5u\":\"https://evil.example/\",\"jwk"
		    "\":{\"kty\":\"oct\"},\"x5c\":[\"\"]}", GOOD, "" },
		{ "{\"alg\":\"HS256\",\"kid\":\"../../../../dev/null\"}", GOOD, "" },
		{ "{\"alg\":\"HS256\",\"kid\":\"' OR 1=1 --\"}", GOOD, "" },
		{ "{\"alg\":\"HS256\",\"kid\":\"\"}", GOOD, "" },
		{ "{\"alg\":\"HS256\",\"kid\":7}", GOOD, "malformed" },
		{ "{\"alg\":\"HS256\",\"kid\":null}", GOOD, "malformed" },
		{ "{\"typ\":\"JWE\",\"alg\":\"HS256\"}", GOOD, "malformed" },
		{ "{\"typ\":1,\"alg\":\"HS256\"}", GOOD, "malformed" },
		{ "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", GOOD, "malformed" },
		{ "{\"alg\":\"none\",\"alg\":\"HS256\"}", GOOD, "malformed" },
		{ "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", GOOD, "malformed" },
		{ "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", GOOD, "malformed" },
		{ "{\"alg\":\"HS256\"} x", GOOD, "malformed" },
		{ "{\"alg\":[\"HS256\"]}", GOOD, "malformed" },
		{ "{\"typ\":\"JWT\"}", GOOD, "malformed" },
		{ "[\"HS256\"]", GOOD, "malformed" },
		{ "\"HS256\"", GOOD, "malformed" },
		{ "x", GOOD, "malformed" },
		{ "{\"alg\":\"none\"}", GOOD, "wrong algorithm" },
		{ "{\"alg\":\"None\"}", GOOD, "wrong algorithm" },
		{ "{\"alg\":\"\"}", GOOD, "wrong algorithm" },
		{ "{\"alg\":\"hs256\"}", GOOD, "wrong algorithm" },
		{ "{\"alg\":\"HS256 \"}", GOOD, "wrong algorithm" },
		{ "{\"alg\":\"RS256\"}", GOOD, "wrong algorithm" },
		{ "{\"alg\":\"ES256\"}", GOOD, "wrong algorithm" },
		{ "{\"alg\":\"PS256\"}", GOOD, "wrong algorithm" },
		{ "{\"alg\":\"HS512\"}", GOOD, "invalid signature" },
		{ HS, "", "malformed" },
		{ HS, "[]", "malformed" },
		{ HS, "null", "malformed" },
		{ HS, "{}{}", "malformed" },
		{ HS, "{\"sub\":\"u1\",\"sub\":\"u2\"," EXP "}", "malformed" },
		{ HS, "{\"sub\":\"u\\u0000\"," EXP "}", "malformed" },
		{ HS, "{\"sub\":\"u\xff\"," EXP "}", "malformed" },
		{ HS, "{\"sub\":\"u\",\"x\":1e999," EXP "}", "malformed" },
	};
	struct auth *auth = auth_secret();

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *token = token_hmac(rows[i].header, rows[i].payload, SLICE(SECRET), "SHA256");
		const char *words;
		enum auth_verdict got = verify_at(auth, token, NOW_MS, NULL, &words);

		if (got != (rows[i].why[0] != '\0' ? AUTH_INVALID : AUTH_OK) || strcmp(words, rows[i].why) != 0)
			fail_msg("%s %s: %d \"%s\"", rows[i].header, rows[i].payload, got, words);
	}
	auth_free(&auth);
	assert_null(auth);
}

static void
test_text(void **state)
{
	struct auth *auth = auth_secret();
	char *good = token_hs256(GOOD), *dot = strrchr(good, '.'), *t;
	struct slice head = slice_bytes(good, (size_t)(dot - good));
	int h = (int)head.len;
	char why[AUTH_WHY_LEN];
	struct identity id;

	(void)state;
	assert_int_equal(auth_verify(auth, SLICE_NONE, NOW_MS, &id, why), AUTH_MISSING);
	expect(auth, text("%s", good), AUTH_OK, "");
	/* Every prefix, each byte changed, one more byte anywhere. */
	for (size_t i = 1; i < strlen(good); i++) {
		assert_int_equal(verify_at(auth, text("%.*s", (int)i, good), NOW_MS, NULL, NULL), AUTH_INVALID);
		t = text("%s", good);
		t[i] = t[i] == 'A' ? 'B' : 'A';
		assert_int_equal(verify_at(auth, t, NOW_MS, NULL, NULL), AUTH_INVALID);
		for (const char *junk = "! =.\n%+/\x7f\x80"; *junk != '\0'; junk++)
			assert_int_equal(verify_at(auth, text("%.*s%c%s", (int)i, good, *junk, good + i),
			    NOW_MS, NULL,
			    NULL), AUTH_INVALID);
	}
	expect(auth, text("%s=", good), AUTH_INVALID, "malformed");
	expect(auth, text(" %s", good), AUTH_INVALID, "malformed");
	expect(auth, text("%s\n", good), AUTH_INVALID, "malformed");
	expect(auth, text("%s.", good), AUTH_INVALID, "malformed");
	expect(auth, text(".%s", good), AUTH_INVALID, "malformed");
	expect(auth, text("%s.x", good), AUTH_INVALID, "malformed");
	expect(auth, text("%.*s.", h, head.p), AUTH_INVALID, "malformed");
	expect(auth, text("%.*s..", h, head.p), AUTH_INVALID, "malformed");
	expect(auth, text("Bearer %s", good), AUTH_INVALID, "malformed");
	expect(auth, text(".."), AUTH_INVALID, "malformed");
	expect(auth, text("x"), AUTH_INVALID, "malformed");
	expect(auth, text("bdt_x"), AUTH_INVALID, "malformed");
	/* The last character's spare bits: another text for the same signature. */
	t = text("%s", good);
	t[strlen(t) - 1]++;
	expect(auth, t, AUTH_INVALID, "malformed");
	free(good);

	/* alg none, with nothing and with something behind the last dot */
	t = token_hmac("{\"alg\":\"none\"}", GOOD, SLICE_NONE, "SHA256");
	strrchr(t, '.')[1] = '\0';
	expect(auth, t, AUTH_INVALID, "wrong algorithm");
	t = token_hs256(GOOD);
	strrchr(t, '.')[1] = '\0';
	expect(auth, t, AUTH_INVALID, "malformed");
	/* signed with nothing */
	expect(auth, token_hmac(HS, GOOD, SLICE_NONE, "SHA256"), AUTH_INVALID, "invalid signature");
	expect(auth, token_hmac(HS, GOOD, SLICE("0123456789abcdef0123456789abcdeg"), "SHA256"), AUTH_INVALID,
	    "invalid signature");
	/* the right bytes, cut: not a prefix of a MAC either */
	t = token_hs256(GOOD);
	strrchr(t, '.')[1 + 22] = '\0';
	assert_int_equal(verify_at(auth, t, NOW_MS, NULL, NULL), AUTH_INVALID);
	auth_free(&auth);
}

static void
test_huge(void **state)
{
	struct auth *auth = auth_secret();
	struct buf b = BUF_INIT;
	char why[AUTH_WHY_LEN], *t, *pad;
	struct identity id;

	(void)state;
	/* the largest that is taken, and one more */
	for (int n = 5900; n < 6100; n++) {
		pad = malloc((size_t)n + 1);
		memset(pad, 'x', (size_t)n);
		pad[n] = '\0';
		t = text("{\"p\":\"%s\",%s", pad, &GOOD[1]);
		free(pad);
		pad = token_hs256(t);
		free(t);
		assert_int_equal(auth_verify(auth, slice_of(pad), NOW_MS, &id, why),
		    strlen(pad) <= 8192 ? AUTH_OK : AUTH_INVALID);
		free(pad);
	}
	/* 9 MB: nothing is copied, least of all to the stack */
	for (int i = 0; i < 9 << 20; i++)
		buf_putc(&b, i == 20 || i == 40 ? '.' : 'A');
	assert_int_equal(auth_verify(auth, buf_slice(&b), NOW_MS, &id, why), AUTH_INVALID);
	assert_string_equal(why, "malformed");
	/* depth */
	buf_clear(&b);
	buf_puts(&b, "{\"a\":");
	for (int i = 0; i < 5900; i++)
		buf_putc(&b, '[');
	buf_putc(&b, '\0');
	expect(auth, token_hs256(b.data), AUTH_INVALID, "malformed");
	expect(auth, token_hmac(b.data, GOOD, SLICE(SECRET), "SHA256"), AUTH_INVALID, "malformed");
	buf_fini(&b);
	auth_free(&auth);
}

static void
test_times(void **state)
{
	static const struct {
		const char *claims;
		int64_t now_ms;		/* relative to NOW_MS */
		enum auth_verdict verdict;
		const char *why;
	} rows[] = {
		{ "\"exp\":1769860800", 0, AUTH_OK, "" },
		{ "\"exp\":1769860800", 4999, AUTH_OK, "" },
		{ "\"exp\":1769860800", 5000, AUTH_EXPIRED, "expired 5 s ago" },
		{ "\"exp\":1769860800", 312999, AUTH_EXPIRED, "expired 312 s ago" },
		{ "\"exp\":1769860800.5", 5499, AUTH_OK, "" },
		{ "\"exp\":1769860800.5", 5500, AUTH_EXPIRED, "expired 5 s ago" },
		{ "\"exp\":1.7698608e9", 4999, AUTH_OK, "" },
		{ "\"exp\":1.7698608e9", 5000, AUTH_EXPIRED, "expired 5 s ago" },
		{ "\"exp\":0", 0, AUTH_EXPIRED, "expired 1769860800 s ago" },
		{ "\"exp\":-5", 0, AUTH_EXPIRED, "expired 1769860805 s ago" },
		{ "\"exp\":253402300799", 0, AUTH_OK, "" },
		{ "\"exp\":1769864400000", 0, AUTH_INVALID, "bad exp claim" },
		{ "\"exp\":9223372036854775807", 0, AUTH_INVALID, "bad exp claim" },
		{ "\"exp\":-9223372036854775808", 0, AUTH_INVALID, "bad exp claim" },
		{ "\"exp\":1e300", 0, AUTH_INVALID, "bad exp claim" },
		{ "\"exp\":99999999999999999999", 0, AUTH_INVALID, "malformed" },
		{ "\"exp\":\"1769864400\"", 0, AUTH_INVALID, "bad exp claim" },
		{ "\"exp\":null", 0, AUTH_INVALID, "bad exp claim" },
		{ "\"exp\":true", 0, AUTH_INVALID, "bad exp claim" },
		{ "\"exp\":[1769864400]", 0, AUTH_INVALID, "bad exp claim" },
		{ "\"Exp\":1769864400", 0, AUTH_INVALID, "no exp claim" },
		{ EXP ",\"nbf\":1769860805", 0, AUTH_OK, "" },
		{ EXP ",\"nbf\":1769860806", 0, AUTH_INVALID, "not yet valid" },
		{ EXP ",\"nbf\":1769860805.25", 0, AUTH_INVALID, "not yet valid" },
		{ EXP ",\"nbf\":1769860806", 1000, AUTH_OK, "" },
		{ EXP ",\"nbf\":\"1769860800\"", 0, AUTH_INVALID, "bad nbf or iat claim" },
		{ EXP ",\"iat\":1769860805", 0, AUTH_OK, "" },
		{ EXP ",\"iat\":1769860806", 0, AUTH_INVALID, "not yet valid" },
		{ EXP ",\"iat\":{}", 0, AUTH_INVALID, "bad nbf or iat claim" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct auth *auth = auth_secret();
		char *payload = text("{\"sub\":\"u1\",%s}", rows[i].claims);

		expect_at(auth, token_hs256(payload), NOW_MS + rows[i].now_ms, rows[i].verdict, rows[i].why);
		/* The same from memory. */
		expect_at(auth, token_hs256(payload), NOW_MS + rows[i].now_ms, rows[i].verdict, rows[i].why);
		free(payload);
		auth_free(&auth);
	}
}

static void
test_parties(void **state)
{
	static const struct {
		const char *claims, *why;
	} rows[] = {
		{ "\"iss\":\"https://i\",\"aud\":\"belay\",\"azp\":\"app\"", "" },
		{ "\"iss\":\"https://i\",\"aud\":[\"x\",\"belay\"],\"azp\":\"web\"", "" },
		{ "\"iss\":\"https://i/\",\"aud\":\"belay\",\"azp\":\"app\"", "issuer" },
		{ "\"iss\":[\"https://i\"],\"aud\":\"belay\",\"azp\":\"app\"", "issuer" },
		{ "\"aud\":\"belay\",\"azp\":\"app\"", "issuer" },
		{ "\"iss\":\"https://i\",\"azp\":\"app\"", "audience" },
		{ "\"iss\":\"https://i\",\"aud\":\"belay2\",\"azp\":\"app\"", "audience" },
		{ "\"iss\":\"https://i\",\"aud\":[],\"azp\":\"app\"", "audience" },
		{ "\"iss\":\"https://i\",\"aud\":[[\"belay\"]],\"azp\":\"app\"", "audience" },
		{ "\"iss\":\"https://i\",\"aud\":{\"belay\":1},\"azp\":\"app\"", "audience" },
		{ "\"iss\":\"https://i\",\"aud\":\"belay\"", "azp" },
		{ "\"iss\":\"https://i\",\"aud\":\"belay\",\"azp\":\"other\"", "azp" },
		{ "\"iss\":\"https://i\",\"aud\":\"belay\",\"azp\":[\"app\"]", "azp" },
	};
	struct auth *auth = auth_or_fail(&(struct auth_config){
		.flat = { .jwt_secret = SECRET, .issuer = "https://i", .audience = "belay", .azp = STRINGS("app"
		    , "web") },
		.default_tenant = "default" });

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *payload = text("{\"sub\":\"u1\"," EXP ",%s}", rows[i].claims);

		expect(auth, token_hs256(payload), rows[i].why[0] != '\0' ? AUTH_INVALID : AUTH_OK, rows[i].why);
		free(payload);
	}
	auth_free(&auth);
}

/* What identity providers send, with the default paths and with configured ones. */
static void
test_claims(void **state)
{
#define L128 L64 "ccccccccccccccccccccccccccccccccdddddddddddddddddddddddddddddddd"
#define L64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	static const struct {
		const char *user_path, *tenant_path, *role_path;	/* NULL: the default */
		const char *claims;
		const char *user, *tenant, *role_name;			/* user NULL: refused because of tenant */
		enum role role;
	} rows[] = {
		/* defaults */
		{ NULL, NULL, NULL, "\"sub\":\"u1\"", "u1", "default", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"userId\":\"u1\",\"tenantId\":\"t\"", "u1", "t", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"user_id\":\"u1\",\"org_id\":\"t\"", "u1", "t", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"id\":42,\"tenant_id\":7", "42", "7", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"id\":-9223372036854775808", "-9223372036854775808", "default", "user",
		    ROLE_USER },
		{ NULL, NULL, NULL, "\"id\":\"b\",\"sub\":\"a\"", "a", "default", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":null,\"id\":\"b\",\"tenant_id\":null", "b", "default", "user",
		    ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"auth0|5f7c\",\"tenant_id\":\"a:b@c.d+e=f-g_h\"", "auth0|5f7c",
		    "a:b@c.d+e=f-g_h", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"" L128 "\",\"tenant_id\":\"" L64 "\"", L128, L64, "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"" L128 "x\"", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"tenant_id\":\"" L64 "x\"", NULL, "bad tenant id", NULL, 0 },
		{ NULL, NULL, NULL, "\"tenant_id\":\"t\"", NULL, "no user id claim", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":\"\"", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":\"a b\"", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":\"a/b\"", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":\"\\u00fc\"", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":1.5", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":true", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":[\"u\"]", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":{\"u\":{}}", NULL, "bad user id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"tenant_id\":\"\"", NULL, "bad tenant id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"tenant_id\":\"*/x\"", NULL, "bad tenant id", NULL, 0 },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"tenant_id\":false", NULL, "bad tenant id", NULL, 0 },
		/* roles */
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":\"admin\"", "u", "default", "admin", ROLE_ADMIN },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":\"service\"", "u", "default", "service", ROLE_SERVICE },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":\"Admin\"", "u", "default", "Admin", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":\"org:service\"", "u", "default", "service",
		    ROLE_SERVICE },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":\"org:org:admin\"", "u", "default", "org:admin",
		    ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":\"a b\"", "u", "default", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":7", "u", "default", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":\"device\"", "u", "default", "device", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":[\"x\",\"service\",\"admin\",\"service\"]", "u",
		    "default", "admin", ROLE_ADMIN },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":[1,\"viewer\",\"editor\"]", "u", "default", "viewer"
		    , ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"role\":[]", "u", "default", "user", ROLE_USER },
		/* Clerk, session token versions 1 and 2 */
		{ NULL, NULL, NULL, "\"azp\":\"https://a\",\"sub\":\"user_2a\",\"org_id\":\"org_2b\",\"org_role"
		    "\":\"org:admin\",\"org_slug\":\"acme\"", "user_2a", "org_2b", "admin", ROLE_ADMIN },
		{ NULL, NULL, NULL, "\"v\":2,\"sub\":\"user_2a\",\"o\":{\"id\":\"org_2b\",\"slg\":\"acme\",\"ro"
		    "l\":\"admin\"}", "user_2a", "org_2b", "admin", ROLE_ADMIN },
		{ NULL, NULL, NULL,
		    "\"v\":2,\"sub\":\"user_2a\",\"o\":{\"id\":\"org_2b\",\"rol\":\"org:member\"}", "user_2a",
		    "org_2b", "member", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"o\":{\"id\":\"nested\"},\"o.id\":\"literal\"", "u",
		    "literal", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"sub\":\"u\",\"o\":\"nothing to look into\"", "u", "default", "user",
		    ROLE_USER },
		/* Auth0: namespaced names */
		{ NULL, "https://example.com/tenant", "https://example.com/roles",
		    "\"sub\":\"auth0|1\",\"https://example.com/tenant\":\"acme\",\"https://example.com/"
		    "roles\":[\"admin\"]", "auth0|1", "acme", "admin", ROLE_ADMIN },
		{ NULL, "https://example.com/claims.tenant", NULL,
		    "\"sub\":\"a\",\"https://example.com/claims\":{\"tenant\":\"acme\"}", "a", "acme", "user",
		    ROLE_USER },
		/* Keycloak: organization as a list, or as an object with attributes */
		{ NULL, "organization", "realm_access.roles", "\"sub\":\"1b-2c\",\"organization\":[\"acme\"],\""
		    "realm_access\":{\"roles\":[\"offline_access\",\"admin\"]}", "1b-2c", "acme", "admin",
		    ROLE_ADMIN },
		{ "preferred_username", "organization", NULL,
		    "\"preferred_username\":\"bo\",\"organization\":{\"acme\":{\"id\":\"42\"}}", "bo", "acme",
		    "user", ROLE_USER },
		{ NULL, "organization", NULL, "\"sub\":\"a\",\"organization\":[\"acme\",\"other\"]", NULL,
		    "bad tenant id", NULL, 0 },
		{ NULL, "organization", NULL, "\"sub\":\"a\",\"organization\":{\"acme\":{},\"b\":{}}", NULL,
		    "bad tenant id", NULL, 0 },
		{ NULL, "organization", NULL, "\"sub\":\"a\",\"organization\":[]", NULL, "bad tenant id", NULL, 0 },
		{ NULL, "o", NULL, "\"sub\":\"a\",\"o\":{\"id\":\"org_2b\"}", NULL, "bad tenant id", NULL, 0 },
		/* Supabase */
		{ NULL, "app_metadata.tenant_id", "app_metadata.role", "\"sub\":\"d0-1\",\"role\":\"authenticat"
		    "ed\",\"app_metadata\":{\"provider\":\"email\",\"tenant_id\":\"acme\",\"role\":\"admin\"}",
		    "d0-1", "acme", "admin", ROLE_ADMIN },
		{ NULL, "app_metadata.tenant_id", NULL,
		    "\"sub\":\"d0-1\",\"role\":\"authenticated\",\"app_metadata\":{}", "d0-1", "default",
		    "authenticated", ROLE_USER },
		/* Cognito */
		{ "username", "custom:tenant", "cognito:groups", "\"username\":\"bo\",\"custom:tenant\":\"acme"
		    "\",\"cognito:groups\":[\"staff\",\"admin\"]", "bo", "acme", "admin", ROLE_ADMIN },
		/* deeper, and names that hold dots on the way */
		{ "a.b.c", NULL, NULL, "\"a\":{\"b\":{\"c\":\"u\"}}", "u", "default", "user", ROLE_USER },
		{ "a.b.c", NULL, NULL, "\"a.b\":{\"c\":\"u\"}", "u", "default", "user", ROLE_USER },
		{ "a.b.c", NULL, NULL, "\"a\":{\"b\":{}},\"a.b\":{\"c\":\"u\"}", "u", "default", "user", ROLE_USER },
		{ "a..c", NULL, NULL, "\"a\":{\"\":{\"c\":\"u\"}}", "u", "default", "user", ROLE_USER },
		{ "a.", NULL, NULL, "\"a\":{\"b\":\"u\"}", NULL, "no user id claim", NULL, 0 },
		/* devices */
		{ NULL, NULL, NULL, "\"device\":\"d1\",\"tenant_id\":\"t\"", "d1", "t", "device", ROLE_DEVICE },
		{ NULL, NULL, NULL, "\"device\":\"d1\",\"tenant_id\":\"t\",\"sub\":\"u\",\"role\":\"admin\"",
		    "d1", "t", "device", ROLE_DEVICE },
		{ NULL, NULL, NULL, "\"device\":12,\"tenant_id\":\"t\"", "12", "t", "device", ROLE_DEVICE },
		{ NULL, NULL, NULL, "\"device\":null,\"sub\":\"u\"", "u", "default", "user", ROLE_USER },
		{ NULL, NULL, NULL, "\"device\":\"d1\"", NULL, "no tenant claim", NULL, 0 },
		{ NULL, NULL, NULL, "\"device\":\"\",\"tenant_id\":\"t\"", NULL, "bad device id", NULL, 0 },
		{ NULL, NULL, NULL, "\"device\":[\"d1\"],\"tenant_id\":\"t\"", NULL, "bad device id", NULL, 0 },
		{ NULL, NULL, NULL, "\"device\":\"" L64 "x\",\"tenant_id\":\"t\"", NULL, "bad device id", NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *const user[] = { rows[i].user_path }, *const tenant[] = { rows[i].tenant_path },
		    *const role[] = { rows[i].role_path };
		struct auth *auth = auth_or_fail(&(struct auth_config){ .default_tenant = "default", .flat = {
			.jwt_secret = SECRET, .user_claim = { user, user[0] != NULL },
			.tenant_claim = { tenant, tenant[0] != NULL }, .role_claim = { role, role[0] != NULL } } });
		char *payload = text("{" EXP ",%s}", rows[i].claims);
		struct identity id;
		const char *why;
		enum auth_verdict got = verify_at(auth, token_hs256(payload), NOW_MS, &id, &why);

		if (rows[i].user == NULL) {
			if (got != AUTH_INVALID || strcmp(why, rows[i].tenant) != 0)
				fail_msg("%s: %d \"%s\"", payload, got, why);
		} else if (got != AUTH_OK) {
			fail_msg("%s: %d \"%s\"", payload, got, why);
		} else {
			assert_string_equal(id.user, rows[i].user);
			assert_string_equal(id.tenant, rows[i].tenant);
			assert_string_equal(id.role_name, rows[i].role_name);
			assert_int_equal(id.role, rows[i].role);
			assert_int_equal(id.expires_ms, NOW_MS + 3600000);
			assert_false(id.any_tenant);
		}
		free(payload);
		auth_free(&auth);
	}
}

static void
test_no_default_tenant(void **state)
{
	struct auth *auth = auth_or_fail(&(struct auth_config){ .flat.jwt_secret = SECRET, .default_tenant = "" });

	(void)state;
	expect(auth, token_hs256("{\"sub\":\"u\"," EXP "}"), AUTH_INVALID, "no tenant claim");
	expect(auth, token_hs256(GOOD), AUTH_OK, "");
	auth_free(&auth);
}

static void
test_algorithms(void **state)
{
	EVP_PKEY *rsa = key_rsa(2048), *other = key_rsa(2048), *p256 = key_ec("P-256"), *p384 = key_ec("P-384");
	static const char *const hash[] = { "SHA256", "SHA384", "SHA512" };
	static const int bits[] = { 256, 384, 512 };
	char *pem[3] = { key_pem(rsa), key_pem(p256), key_pem(p384) }, *cert = key_certificate(rsa), *both;
	struct auth *auth;

	(void)state;
	/* Each HMAC with the secret, and with no PEM key. */
	auth = auth_secret();
	for (int i = 0; i < 3; i++) {
		char *h = text("{\"alg\":\"HS%d\"}", bits[i]);

		expect(auth, token_hmac(h, GOOD, SLICE(SECRET), hash[i]), AUTH_OK, "");
		expect(auth, token_hmac(h, GOOD, SLICE(SECRET), hash[(i + 1) % 3]), AUTH_INVALID,
		    "invalid signature");
		free(h);
	}
	auth_free(&auth);

	/* RSA from a public key and from a certificate. */
	for (int form = 0; form < 2; form++) {
		auth = auth_or_fail(&(struct auth_config){ .flat.jwt_public_key = form == 0 ? pem[0] : cert,
		    .default_tenant = "d" });
		for (int i = 0; i < 3; i++) {
			char *h = text("{\"alg\":\"RS%d\",\"kid\":\"any\"}", bits[i]);

			expect(auth, token_pkey(h, GOOD, rsa, hash[i]), AUTH_OK, "");
			expect(auth, token_pkey(h, GOOD, rsa, hash[(i + 1) % 3]), AUTH_INVALID, "invalid signature");
			expect(auth, token_pkey(h, GOOD, other, hash[i]), AUTH_INVALID, "invalid signature");
			free(h);
			/* the public key as an HMAC secret, in each form in which somebody might have it */
			h = text("{\"alg\":\"HS%d\"}", bits[i]);
			expect(auth, token_hmac(h, GOOD, slice_of(pem[0]), hash[i]), AUTH_INVALID, "wrong algorithm");
			expect(auth, token_hmac(h, GOOD, slice_bytes(pem[0], strlen(pem[0]) - 1), hash[i]),
			    AUTH_INVALID,
			    "wrong algorithm");
			free(h);
		}
		expect(auth, token_pkey("{\"alg\":\"ES256\"}", GOOD, p256, "SHA256"), AUTH_INVALID,
		    "wrong algorithm");
		expect(auth, token_hmac("{\"alg\":\"none\"}", GOOD, SLICE_NONE, "SHA256"), AUTH_INVALID,
		    "wrong algorithm");
		/* a signature that is shorter than the modulus, or longer */
		expect(auth, token_hmac("{\"alg\":\"RS256\"}", GOOD, SLICE(SECRET), "SHA256"), AUTH_INVALID,
		    "invalid signature");
		auth_free(&auth);
	}

	/* ECDSA: a curve has one algorithm. */
	auth = auth_or_fail(&(struct auth_config){ .flat.jwt_public_key = pem[1], .default_tenant = "d" });
	expect(auth, token_pkey("{\"alg\":\"ES256\"}", GOOD, p256, "SHA256"), AUTH_OK, "");
	expect(auth, token_pkey("{\"alg\":\"ES384\"}", GOOD, p256, "SHA384"), AUTH_INVALID, "wrong algorithm");
	expect(auth, token_pkey("{\"alg\":\"ES256\"}", GOOD, p384, "SHA256"), AUTH_INVALID, "invalid signature");
	expect(auth, token_pkey("{\"alg\":\"RS256\"}", GOOD, rsa, "SHA256"), AUTH_INVALID, "wrong algorithm");
	/* r = s = 0 */
	both = token_pkey("{\"alg\":\"ES256\"}", GOOD, p256, "SHA256");
	memset(strrchr(both, '.') + 1, 'A', 86);
	expect(auth, both, AUTH_INVALID, "invalid signature");
	/* an ECDSA signature cut short, and 64 other bytes */
	both = token_pkey("{\"alg\":\"ES256\"}", GOOD, p256, "SHA256");
	strrchr(both, '.')[1 + 84] = '\0';
	expect(auth, both, AUTH_INVALID, "invalid signature");
	expect(auth, token_hmac("{\"alg\":\"ES256\"}", GOOD, SLICE(SECRET), "SHA512"), AUTH_INVALID,
	    "invalid signature");
	auth_free(&auth);
	auth = auth_or_fail(&(struct auth_config){ .flat.jwt_public_key = pem[2], .default_tenant = "d" });
	expect(auth, token_pkey("{\"alg\":\"ES384\"}", GOOD, p384, "SHA384"), AUTH_OK, "");
	expect(auth, token_pkey("{\"alg\":\"ES256\"}", GOOD, p256, "SHA256"), AUTH_INVALID, "wrong algorithm");
	auth_free(&auth);

	/* Several keys, and a secret beside them: each for its own. */
	both = text("%s%s%s", pem[0], pem[1], pem[2]);
	auth = auth_or_fail(&(struct auth_config){ .flat = { .jwt_public_key = both, .jwt_secret = SECRET },
	    .default_tenant = "d" });
	expect(auth, token_hs256(GOOD), AUTH_OK, "");
	expect(auth, token_pkey("{\"alg\":\"RS512\"}", GOOD, rsa, "SHA512"), AUTH_OK, "");
	expect(auth, token_pkey("{\"alg\":\"ES256\"}", GOOD, p256, "SHA256"), AUTH_OK, "");
	expect(auth, token_pkey("{\"alg\":\"ES384\"}", GOOD, p384, "SHA384"), AUTH_OK, "");
	expect(auth, token_hmac(HS, GOOD, slice_of(pem[0]), "SHA256"), AUTH_INVALID, "invalid signature");
	auth_free(&auth);
	free(both);

	/* An old key and its successor in one file, which has no names: either signs, with and without kid. */
	{
		EVP_PKEY *next = key_rsa(2048);
		char *second = key_pem(next);

		both = text("%s%s", pem[0], second);
		auth = auth_or_fail(&(struct auth_config){ .flat.jwt_public_key = both, .default_tenant = "d" });
		expect(auth, token_pkey("{\"alg\":\"RS256\"}", GOOD, rsa, "SHA256"), AUTH_OK, "");
		expect(auth, token_pkey("{\"alg\":\"RS256\"}", GOOD, next, "SHA256"), AUTH_OK, "");
		expect(auth, token_pkey("{\"alg\":\"RS256\",\"kid\":\"2026\"}", GOOD, next, "SHA256"), AUTH_OK, "");
		expect(auth, token_pkey("{\"alg\":\"RS256\"}", GOOD, other, "SHA256"), AUTH_INVALID, "invalid signature");
		expect(auth, token_pkey("{\"alg\":\"ES256\"}", GOOD, p256, "SHA256"), AUTH_INVALID, "wrong algorithm");
		auth_free(&auth);
		free(both);
		free(second);
		EVP_PKEY_free(next);
	}

	auth = auth_or_fail(&(struct auth_config){ .default_tenant = "d" });
	expect(auth, token_hs256(GOOD), AUTH_INVALID, "no key configured");
	expect(auth, token_hmac(HS, GOOD, SLICE_NONE, "SHA256"), AUTH_INVALID, "no key configured");
	auth_free(&auth);

	for (int i = 0; i < 3; i++)
		free(pem[i]);
	free(cert);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(other);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p384);
}

static char *
pem_repeated(const char *pem, int n)
{
	struct buf b = BUF_INIT;

	while (n-- > 0)
		buf_puts(&b, pem);
	buf_putc(&b, '\0');
	return b.data;
}

static void
test_start(void **state)
{
	EVP_PKEY *rsa = key_rsa(2048), *small = key_rsa(1024), *p521 = key_ec("P-521");
	char *pem = key_pem(rsa), *private = key_pem_private(rsa), *weak = key_pem(small), *curve = key_pem(p521);
	EVP_PKEY *ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	char *edwards = key_pem(ed25519), *many = pem_repeated(pem, 65);
	char *cut = text("%.*s", (int)strlen(pem) - 40, pem), *tail = text("%s-----BEGIN PUBLIC KEY-----\nMII\n"
	    , pem);
	const struct {
		struct auth_config config;
		const char *err;	/* NULL: taken */
	} rows[] = {
		{ { .flat.jwt_secret = "0123456789abcdef0123456789abcde" },
		    "auth.jwt_secret: the secret has 31 bytes" },
		{ { .flat = { .jwt_secret = "short", .insecure_short_secret = true } }, NULL },
		{ { .flat.jwt_secret = pem }, "auth.jwt_secret: the secret is PEM text" },
		{ { .flat = { .jwt_secret = pem, .insecure_short_secret = true } },
		    "auth.jwt_secret: the secret is PEM text" },
		{ { .flat.jwt_secret = private }, "auth.jwt_secret: the secret is PEM text" },
		{ { .flat.jwt_secret_file = "/nonexistent/secret" },
		    "auth.jwt_secret_file: /nonexistent/secret: No such file" },
		{ { .flat.jwt_secret_file = "/dev/null" }, "auth.jwt_secret_file: /dev/null: not a regular file" },
		{ { .flat.jwt_public_key = private }, "auth.jwt_public_key_file: it holds a private key" },
		{ { .flat.jwt_public_key = weak }, "auth.jwt_public_key_file: an RSA key of 1024 bits" },
		{ { .flat.jwt_public_key = curve }, "auth.jwt_public_key_file: an EC key on the curve secp521r1" },
		{ { .flat.jwt_public_key = cut }, "auth.jwt_public_key_file: it holds no PEM block" },
		{ { .flat.jwt_public_key = tail }, "auth.jwt_public_key_file: a damaged PEM block" },
		{ { .flat.jwt_public_key = edwards }, "auth.jwt_public_key_file: a key that is neither RSA nor EC" },
		{ { .flat.jwt_public_key = "-----BEGIN PUBLIC KEY-----\nTUlJ\n-----END PUBLIC KEY-----\n" },
		    "auth.jwt_public_key_file: a block that is neither" },
		{ { .flat.jwt_public_key = "-----BEGIN RSA PUBLIC KEY-----\nTUlJ\n-----END RSA PUBLIC KEY-----\n" },
		    "auth.jwt_public_key_file: a block that is neither" },
		{ { .flat.jwt_public_key = many }, "auth.jwt_public_key_file: more than 64 keys" },
		{ { .flat.jwt_secret = many }, "auth.jwt_secret: the secret is PEM text" },
		{ { .flat.jwt_public_key = SECRET }, "auth.jwt_public_key_file: it holds no PEM block" },
		{ { .flat.jwks_file = "/nonexistent/jwks" }, "auth.jwks_file: /nonexistent/jwks: No such file" },
		{ { .default_tenant = "a b" }, "auth.default_tenant" },
		{ { .issuers = (struct auth_issuer_config[]){ { .jwt_secret = SECRET } }, .issuers_n = 1 },
		    "auth.issuers[0]: issuer is not set" },
		{ { .issuers = (struct auth_issuer_config[]){ { .issuer = "a" }, { .issuer = "a" } }, .issuers_n
		    = 2 }, "auth.issuers[1]: the same issuer" },
		{ { .issuers = (struct auth_issuer_config[]){ { .issuer = "a" }, { .issuer = "b", .jwt_secret =
		    "x" } }, .issuers_n = 2 }, "auth.issuers[1]: jwt_secret: the secret has 1 bytes" },
		{ { .service_keys = STRINGS(
		    "a:t:0000000000000000000000000000000000000000000000000000000000000000", "b") },
		    "auth.service_keys[1]: not of the form" },
		{ { .service_keys = STRINGS("a:00") }, "auth.service_keys[0]: not of the form" },
		{ { .service_keys = STRINGS("a:t:00") }, "auth.service_keys[0]: the hash" },
		{ { .service_keys = STRINGS(
		    "a:t:g000000000000000000000000000000000000000000000000000000000000000") },
		    "auth.service_keys[0]: the hash" },
		{ { .service_keys = STRINGS(
		    ":t:0000000000000000000000000000000000000000000000000000000000000000") },
		    "auth.service_keys[0]: the name" },
		{ { .service_keys = STRINGS(
		    "a::0000000000000000000000000000000000000000000000000000000000000000") },
		    "auth.service_keys[0]: the tenant" },
		{ { .service_keys = STRINGS(
		    "a:t:0000000000000000000000000000000000000000000000000000000000000000",
		    "b:t:0000000000000000000000000000000000000000000000000000000000000000") },
		    "auth.service_keys[1]: the same hash" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char err[512] = "";
		struct auth *auth = auth_new(&rows[i].config, err, sizeof(err));

		if ((auth != NULL) != (rows[i].err == NULL) || (auth == NULL && strncmp(err, rows[i].err,
		    strlen(rows[i].err)) != 0))
			fail_msg("row %zu: \"%s\", expected \"%s\"", i, err, rows[i].err != NULL ? rows[i].err : "");
		if (strstr(err, "0123456789") != NULL || strstr(err, "MII") != NULL)
			fail_msg("row %zu tells a secret", i);
		auth_free(&auth);
	}
	free(pem);
	free(private);
	free(weak);
	free(curve);
	free(cut);
	free(tail);
	free(edwards);
	free(many);
	EVP_PKEY_free(ed25519);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(small);
	EVP_PKEY_free(p521);
}

static void
test_secret_file(void **state)
{
	char path[] = "auth-secret-XXXXXX";
	int fd = mkstemp(path);
	struct auth *auth;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	for (int i = 0; i < 3; i++) {
		file_write(path, i == 0 ? SECRET : i == 1 ? SECRET "\n" : SECRET "\r\n");
		auth = auth_or_fail(&(struct auth_config){ .flat.jwt_secret_file = path, .default_tenant = "d" });
		expect(auth, token_hs256(GOOD), AUTH_OK, "");
		auth_free(&auth);
	}
	for (int i = 0; i < 2; i++) {
		char err[256] = "";

		file_write(path, i == 0 ? "" : "\n");
		assert_null(auth_new(&(struct auth_config){ .flat = { .jwt_secret_file = path,
		    .insecure_short_secret = true } }, err, sizeof(err)));
		assert_string_equal(err, "auth.jwt_secret_file: the secret is empty");
	}
	unlink(path);
}

static void
test_issuers(void **state)
{
#define SECRET_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	const struct auth_issuer_config blocks[] = {
		{ .issuer = "https://a", .audience = "a-aud" },		/* the flat secret */
		{ .issuer = "https://b", .jwt_secret = SECRET_B, .tenant_claim = STRINGS("org") },
		{ .issuer = "https://c", .jwks_by_url = true },
		{ .issuer = "https://d", .jwt_secret = SECRET, .audience = "", .whole = true },	/* lifts the flat audience */
	};
	struct auth *auth = auth_or_fail(&(struct auth_config){ .flat = { .jwt_secret = SECRET, .audience =
	    "flat-aud" },
	    .issuers = blocks, .issuers_n = 4, .default_tenant = "d" });
	const char *a = "{\"sub\":\"u\",\"iss\":\"https://a\",\"aud\":\"a-aud\"," EXP "}";
	const char *b =
	    "{\"sub\":\"u\",\"iss\":\"https://b\",\"aud\":\"flat-aud\",\"org\":\"o1\",\"tenant_id\":\"no\"," EXP
	    "}";
	struct identity id;

	(void)state;
	expect(auth, token_hs256(a), AUTH_OK, "");
	assert_int_equal(verify_at(auth, token_hmac(HS, b, SLICE(SECRET_B), "SHA256"), NOW_MS, &id, NULL), AUTH_OK);
	assert_string_equal(id.tenant, "o1");
	/* one issuer's key does not speak for another */
	expect(auth, token_hs256(b), AUTH_INVALID, "invalid signature");
	expect(auth, token_hmac(HS, a, SLICE(SECRET_B), "SHA256"), AUTH_INVALID, "invalid signature");
	/* a block with a key source takes none of the flat ones */
	expect(auth, token_hs256("{\"sub\":\"u\",\"iss\":\"https://c\",\"aud\":\"flat-aud\"," EXP "}"), AUTH_INVALID,
	    "unknown key id");
	expect(auth, token_hs256("{\"sub\":\"u\",\"iss\":\"https://a\",\"aud\":\"flat-aud\"," EXP "}"), AUTH_INVALID,
	    "audience");
	expect(auth, token_hs256("{\"sub\":\"u\",\"iss\":\"https://d\"," EXP "}"), AUTH_OK, "");
	expect(auth, token_hs256("{\"sub\":\"u\",\"iss\":\"https://x\"," EXP "}"), AUTH_INVALID, "issuer");
	expect(auth, token_hs256("{\"sub\":\"u\",\"iss\":7," EXP "}"), AUTH_INVALID, "issuer");
	expect(auth, token_hs256("{\"sub\":\"u\"," EXP "}"), AUTH_INVALID, "issuer");
	expect(auth, token_hs256("nonsense"), AUTH_INVALID, "malformed");
	auth_free(&auth);
}

/* What a block says that its issuer may name. */
static void
test_bounds(void **state)
{
	const struct auth_issuer_config blocks[] = {
		{ .issuer = "https://a", .tenants = STRINGS("acme", "acme-*"), .no_roles = true },
		{ .issuer = "https://b", .tenants = STRINGS("*") },
	};
	static const struct {
		const char *claims, *why;
		enum role role;
	} rows[] = {
		{ "\"iss\":\"https://a\",\"tenant_id\":\"acme\",\"sub\":\"u\",\"role\":\"admin\"", "", ROLE_USER },
		{ "\"iss\":\"https://a\",\"tenant_id\":\"acme-\",\"sub\":\"u\",\"role\":[\"x\",\"service\"]", "", ROLE_USER },
		{ "\"iss\":\"https://a\",\"tenant_id\":\"acme-2\",\"device\":\"d\"", "", ROLE_DEVICE },
		{ "\"iss\":\"https://a\",\"tenant_id\":\"acm\",\"sub\":\"u\"", "tenant not of this issuer", 0 },
		{ "\"iss\":\"https://a\",\"tenant_id\":\"acme2\",\"sub\":\"u\"", "tenant not of this issuer", 0 },
		{ "\"iss\":\"https://a\",\"tenant_id\":\"bolt\",\"device\":\"d\"", "tenant not of this issuer", 0 },
		{ "\"iss\":\"https://a\",\"sub\":\"u\"", "tenant not of this issuer", 0 },	/* the default tenant */
		{ "\"iss\":\"https://b\",\"tenant_id\":\"bolt\",\"sub\":\"u\",\"role\":\"admin\"", "", ROLE_ADMIN },
	};
	struct auth *auth = auth_or_fail(&(struct auth_config){ .flat.jwt_secret = SECRET, .issuers = blocks,
	    .issuers_n = 2, .default_tenant = "default" });
	struct identity a, b;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *claims = text("{%s," EXP "}", rows[i].claims);
		const char *why;
		enum auth_verdict verdict = verify_at(auth, token_hs256(claims), NOW_MS, &a, &why);

		if (strcmp(why, rows[i].why) != 0 || (verdict == AUTH_OK) != (*rows[i].why == '\0'))
			fail_msg("row %zu: %s", i, why);
		if (verdict == AUTH_OK && (a.role != rows[i].role || !auth_allows(auth, a.key,
		    slice_of(a.tenant), a.role)))
			fail_msg("row %zu: role %d", i, (int)a.role);
		free(claims);
	}
	/* Two issuers have one secret: each has a key of its own, and its own bounds. */
	assert_int_equal(verify_at(auth, token_hs256("{\"iss\":\"https://a\",\"tenant_id\":\"acme\",\"sub\":\"u\"," EXP "}"),
	    NOW_MS, &a, NULL), AUTH_OK);
	assert_int_equal(verify_at(auth, token_hs256("{\"iss\":\"https://b\",\"tenant_id\":\"acme\",\"sub\":\"u\"," EXP "}"),
	    NOW_MS, &b, NULL), AUTH_OK);
	assert_int_not_equal(a.key, b.key);
	assert_false(auth_allows(auth, a.key, SLICE("bolt"), ROLE_USER));
	assert_false(auth_allows(auth, a.key, SLICE("acme"), ROLE_ADMIN));
	assert_false(auth_allows(auth, a.key, SLICE("acme"), ROLE_SERVICE));
	assert_true(auth_allows(auth, b.key, SLICE("bolt"), ROLE_ADMIN));
	auth_free(&auth);
}

/* A key is the same key as long as its holder and its bytes are: whatever else changes. */
static void
test_key_ids(void **state)
{
#define SECRET_C "cccccccccccccccccccccccccccccccc"
#define HASH_A "0000000000000000000000000000000000000000000000000000000000000001"
#define HASH_B "0000000000000000000000000000000000000000000000000000000000000002"
	EVP_PKEY *rsa = key_rsa(2048), *next = key_rsa(2048);
	char *pem = key_pem(rsa), *certificate = key_certificate(rsa), *pem2 = key_pem(next),
	    *both = text("%s%s", pem2, pem);
	struct {
		struct auth_config config;
		bool secret, pem;		/* is the key of the first row's … still in force? */
	} rows[] = {
		{ { .flat = { .jwt_secret = SECRET, .jwt_public_key = pem } }, true, true },
		{ { .flat = { .jwt_secret = SECRET, .jwt_public_key = both, .audience = "a" } }, true, true },
		{ { .flat = { .jwt_secret = SECRET_C, .jwt_public_key = certificate } }, false, true },
		{ { .flat = { .jwt_secret = SECRET, .jwt_public_key = pem2 } }, true, false },
		{ { .flat = { .jwt_secret = SECRET, .jwt_public_key = pem, .issuer = "i" } }, false, false },
		{ { .service_keys = STRINGS("a:t:" HASH_A) }, false, false },
	};
	const char *p = "{\"sub\":\"u\"," EXP "}";
	struct auth_config keys = { .service_keys = STRINGS("a:t:" HASH_A, "b:*:" HASH_B) };
	struct identity secret = { .key = 0 }, public = { .key = 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct auth *auth;

		rows[i].config.default_tenant = "d";
		auth = auth_or_fail(&rows[i].config);
		assert_true(auth_allows(auth, 0, SLICE("d"), ROLE_DEVICE));
		assert_int_not_equal(auth_keys_version(auth), 0);
		/* Twice: by its key, and as it is remembered. */
		for (int j = 0; i == 0 && j < 2; j++) {
			secret.key = public.key = 0;
			assert_int_equal(verify_at(auth, token_hs256(p), NOW_MS, &secret, NULL), AUTH_OK);
			assert_int_equal(verify_at(auth, token_pkey("{\"alg\":\"RS256\"}", p, rsa, "SHA256"), NOW_MS,
			    &public, NULL), AUTH_OK);
			assert_true(secret.key != 0 && public.key != 0 && secret.key != public.key);
		}
		if (auth_allows(auth, secret.key, SLICE("d"), ROLE_USER) != rows[i].secret ||
		    auth_allows(auth, public.key, SLICE("d"), ROLE_USER) != rows[i].pem)
			fail_msg("row %zu", i);
		auth_free(&auth);
	}

	/* A service key is its name, its tenant and its hash. */
	static const char *const others[] = { "a:t:" HASH_A, "a:t2:" HASH_A, "a:*:" HASH_A, "a2:t:" HASH_A, "a:t:" HASH_B };
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct auth *auth = auth_or_fail(&keys);
		uint32_t key = identity_key(SLICE("a:t"), (const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
		    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1");

		assert_true(auth_allows(auth, key, SLICE("t"), ROLE_SERVICE));
		auth_free(&auth);
		auth = auth_or_fail(&(struct auth_config){ .service_keys = { &others[i], 1 } });
		assert_int_equal(auth_allows(auth, key, SLICE("t"), ROLE_SERVICE), i == 0);
		auth_free(&auth);
	}
	free(pem);
	free(pem2);
	free(both);
	free(certificate);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(next);
}

struct asked {
	unsigned n;
	bool wait;
};

static bool
note_issuer(void *arg, const char *issuer)
{
	struct asked *asked = arg;

	assert_string_equal(issuer, "https://i");
	asked->n++;
	return asked->wait;
}

/* {"keys":[…]} of up to three */
static char *
jwks(char *a, char *b, char *c)
{
	char *out = text("{\"keys\":[%s%s%s%s%s]}", a, b != NULL ? "," : "", b != NULL ? b : "", c != NULL ? "," : "",
	    c != NULL ? c : "");

	free(a);
	free(b);
	free(c);
	return out;
}

static void
test_jwks_installed(void **state)
{
	EVP_PKEY *rsa = key_rsa(2048), *rsa2 = key_rsa(2048), *p256 = key_ec("P-256");
	struct asked asked = { .n = 0 };
	struct identity first, second;
	unsigned version;
	struct auth *auth = auth_or_fail(&(struct auth_config){ .flat = { .jwks_by_url = true, .issuer = "https://i" },
	    .default_tenant = "d", .unknown_kid = note_issuer, .unknown_kid_arg = &asked });
	const char *p = "{\"sub\":\"u\",\"iss\":\"https://i\"," EXP "}";
	char err[256], *doc;

#define RS(kid) "{\"alg\":\"RS256\",\"kid\":\"" kid "\"}"
	(void)state;
	/* Nothing there yet: told each time; the verdict waits when it is worth it. */
	for (unsigned i = 1; i <= 3; i++) {
		asked.wait = i == 2;
		expect(auth, token_pkey(RS("k1"), p, rsa, "SHA256"), i == 2 ? AUTH_NOT_YET : AUTH_INVALID,
		    "unknown key id");
		assert_int_equal(asked.n, i);
	}
	asked.n = 2;

	doc = jwks(key_jwk(rsa, ",\"kid\":\"k1\",\"use\":\"sig\",\"alg\":\"RS256\""), key_jwk(p256,
	    ",\"kid\":\"e1\""), NULL);
	assert_int_equal(auth_jwks_install(auth, "https://i", slice_of(doc), err, sizeof(err)), 0);
	expect(auth, token_pkey(RS("k1"), p, rsa, "SHA256"), AUTH_OK, "");
	expect(auth, token_pkey("{\"alg\":\"ES256\",\"kid\":\"e1\"}", p, p256, "SHA256"), AUTH_OK, "");
	/* no kid: one key fits */
	expect(auth, token_pkey("{\"alg\":\"RS256\"}", p, rsa, "SHA256"), AUTH_OK, "");
	/* the kid of another key; an alg the JWK does not name; HMAC by what is public */
	expect(auth, token_pkey(RS("e1"), p, rsa, "SHA256"), AUTH_INVALID, "wrong algorithm");
	expect(auth, token_pkey("{\"alg\":\"RS512\",\"kid\":\"k1\"}", p, rsa, "SHA512"), AUTH_INVALID,
	    "wrong algorithm");
	expect(auth, token_hmac("{\"alg\":\"HS256\",\"kid\":\"k1\"}", p, slice_of(doc), "SHA256"), AUTH_INVALID,
	    "wrong algorithm");
	expect(auth, token_pkey(RS("k1"), p, rsa2, "SHA256"), AUTH_INVALID, "invalid signature");
	/* the key that a header brings along is not looked at */
	{
		char *own = key_jwk(rsa2, ""), *h = text("{\"alg\":\"RS256\",\"kid\":\"k1\",\"jwk\":%s}", own);

		expect(auth, token_pkey(h, p, rsa2, "SHA256"), AUTH_INVALID, "invalid signature");
		free(own);
		free(h);
	}
	assert_int_equal(asked.n, 2);	/* these kids are known */

	/* the same text again: what was verified stays remembered */
	{
		uint64_t before = auth_counts(auth).remembered;

		assert_int_equal(auth_jwks_install(auth, "https://i", slice_of(doc), err, sizeof(err)), 0);
		expect(auth, token_pkey(RS("k1"), p, rsa, "SHA256"), AUTH_OK, "");
		assert_int_equal(auth_counts(auth).remembered, before + 1);
	}
	free(doc);

	/* bad documents change nothing */
	static const char *const bad[] = { "", "{", "[]", "{\"keys\":{}}", "{\"keys\":[]}",
	    "{\"keys\":[],\"keys\":[]}",
		"{\"keys\":[{\"kty\":\"oct\",\"k\":\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}]}", "<html>" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = '\0';
		assert_int_equal(auth_jwks_install(auth, "https://i", slice_of(bad[i]), err, sizeof(err)), -1);
		assert_string_not_equal(err, "");
	}
	expect(auth, token_pkey(RS("k1"), p, rsa, "SHA256"), AUTH_OK, "");

	/* rotation: the old key is gone, and what it signed is forgotten, and allowed no more */
	assert_int_equal(verify_at(auth, token_pkey(RS("k1"), p, rsa, "SHA256"), NOW_MS, &first, NULL), AUTH_OK);
	version = auth_keys_version(auth);
	doc = jwks(key_jwk(rsa2, ",\"kid\":\"k2\""), NULL, NULL);
	assert_int_equal(auth_jwks_install(auth, "https://i", slice_of(doc), err, sizeof(err)), 0);
	expect(auth, token_pkey(RS("k1"), p, rsa, "SHA256"), AUTH_INVALID, "unknown key id");
	assert_int_equal(verify_at(auth, token_pkey(RS("k2"), p, rsa2, "SHA256"), NOW_MS, &second, NULL), AUTH_OK);
	assert_int_not_equal(auth_keys_version(auth), version);
	assert_false(auth_allows(auth, first.key, SLICE("d"), ROLE_USER));
	assert_true(auth_allows(auth, second.key, SLICE("d"), ROLE_USER));
	expect(auth, token_pkey("{\"alg\":\"RS512\",\"kid\":\"k2\"}", p, rsa2, "SHA512"), AUTH_OK, "");
	free(doc);

	/* two keys of one kind: a token without kid is not guessed at */
	doc = jwks(key_jwk(rsa, ",\"kid\":\"k1\""), key_jwk(rsa2, ",\"kid\":\"k2\""), key_jwk(p256, ""));
	assert_int_equal(auth_jwks_install(auth, "https://i", slice_of(doc), err, sizeof(err)), 0);
	expect(auth, token_pkey("{\"alg\":\"RS256\"}", p, rsa, "SHA256"), AUTH_INVALID, "no key id");
	/* a key without kid takes tokens with one when no other can */
	expect(auth, token_pkey("{\"alg\":\"ES256\"}", p, p256, "SHA256"), AUTH_OK, "");
	expect(auth, token_pkey("{\"alg\":\"ES256\",\"kid\":\"x\"}", p, p256, "SHA256"), AUTH_OK, "");
	free(doc);
	auth_free(&auth);

	auth = auth_or_fail(&(struct auth_config){ .flat = { .jwt_secret = SECRET } });
	assert_int_equal(auth_jwks_install(auth, "", SLICE("{}"), err, sizeof(err)), -1);
	auth_free(&auth);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(rsa2);
	EVP_PKEY_free(p256);
}

/* Which JWKs are taken out of a document. */
static void
test_jwk_members(void **state)
{
	EVP_PKEY *rsa = key_rsa(2048), *small = key_rsa(1024), *p256 = key_ec("P-256"), *p384 = key_ec("P-384"),
	    *p521 = key_ec("P-521");
	static const struct {
		const char *extra;
		bool taken;
	} extras[] = {
		{ "", true },
		{ ",\"kid\":\"k\"", true },
		{ ",\"kid\":7", false },
		{ ",\"use\":\"sig\"", true },
		{ ",\"use\":\"enc\"", false },
		{ ",\"use\":[\"sig\"]", false },
		{ ",\"key_ops\":[\"verify\"]", true },
		{ ",\"key_ops\":[\"sign\",\"verify\"]", true },
		{ ",\"key_ops\":[\"encrypt\"]", false },
		{ ",\"key_ops\":[]", false },
		{ ",\"key_ops\":\"verify\"", false },
		{ ",\"alg\":\"RS384\"", true },
		{ ",\"alg\":\"RSA-OAEP\"", false },
		{ ",\"alg\":\"HS256\"", false },
		{ ",\"alg\":\"ES256\"", false },
		{ ",\"alg\":\"none\"", false },
		{ ",\"alg\":1", false },
		{ ",\"x5c\":[\"nonsense\"],\"x5u\":\"https://evil.example\"", true },
		{ ",\"d\":\"AQAB\"", false },
	};
	EVP_PKEY *const pkeys[] = { rsa, small, p256, p384, p521 };
	static const bool pkeys_taken[] = { true, false, true, true, false };
	static const char *const broken[] = {
		"{\"kty\":\"RSA\"}", "{\"kty\":\"RSA\",\"n\":\"AQAB\"}",
		    "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}",
		"{\"kty\":\"RSA\",\"n\":7,\"e\":\"AQAB\"}", "{\"kty\":\"EC\",\"crv\":\"P-256\"}",
		("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"y\":"
		    "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"),
		"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}",
		    "{\"kty\":\"EC\",\"crv\":\"secp256k1\"}",
		"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
		"{\"kty\":7}", "{}", "7", "null",
	};
	char err[256], *doc, *jwk;
	struct auth *auth;

	(void)state;
	auth = auth_or_fail(&(struct auth_config){ .flat.jwks_by_url = true });
	for (size_t i = 0; i < sizeof(extras) / sizeof(extras[0]); i++) {
		doc = jwks(key_jwk(rsa, extras[i].extra), NULL, NULL);
		if ((auth_jwks_install(auth, "", slice_of(doc), err, sizeof(err)) == 0) != extras[i].taken)
			fail_msg("%s", extras[i].extra);
		free(doc);
	}
	for (size_t i = 0; i < sizeof(pkeys) / sizeof(pkeys[0]); i++) {
		doc = jwks(key_jwk(pkeys[i], ""), NULL, NULL);
		assert_int_equal(auth_jwks_install(auth, "", slice_of(doc), err, sizeof(err)) == 0, pkeys_taken[i]);
		free(doc);
	}
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		/* alone it is nothing; beside a good one it is passed over */
		doc = text("{\"keys\":[%s]}", broken[i]);
		if (auth_jwks_install(auth, "", slice_of(doc), err, sizeof(err)) == 0)
			fail_msg("%s", broken[i]);
		free(doc);
		jwk = key_jwk(rsa, ",\"kid\":\"k1\"");
		doc = text("{\"keys\":[%s,%s]}", broken[i], jwk);
		assert_int_equal(auth_jwks_install(auth, "", slice_of(doc), err, sizeof(err)), 0);
		free(doc);
		free(jwk);
	}
	/* an exponent of one, an even one, a modulus with e = 3 */
	for (int i = 0; i < 3; i++) {
		jwk = key_jwk(rsa, "");
		memcpy(strstr(jwk, "\"AQAB\""), i == 2 ? "\"Aw\"  " : i == 1 ? "\"Ag\"  " : "\"AQ\"  ", 6);
		doc = jwks(jwk, NULL, NULL);
		assert_int_equal(auth_jwks_install(auth, "", slice_of(doc), err, sizeof(err)), i == 2 ? 0 : -1);
		free(doc);
	}
	/* more keys than are taken: the first ones; too long a text: none */
	{
		struct buf b = BUF_INIT;

		buf_puts(&b, "{\"keys\":[");
		for (int i = 0; i < 70; i++) {
			char *extra = text(",\"kid\":\"k%d\"", i);

			jwk = key_jwk(p256, extra);
			buf_printf(&b, "%s%s", i > 0 ? "," : "", jwk);
			free(jwk);
			free(extra);
		}
		buf_puts(&b, "]}");
		assert_int_equal(auth_jwks_install(auth, "", buf_slice(&b), err, sizeof(err)), 0);
		expect(auth, token_pkey("{\"alg\":\"ES256\",\"kid\":\"k63\"}", GOOD, p256, "SHA256"), AUTH_OK, "");
		expect(auth, token_pkey("{\"alg\":\"ES256\",\"kid\":\"k64\"}", GOOD, p256, "SHA256"), AUTH_INVALID,
		    "unknown key id");
		while (b.len <= 256 * 1024)
			buf_putc(&b, ' ');
		assert_int_equal(auth_jwks_install(auth, "", buf_slice(&b), err, sizeof(err)), -1);
		buf_fini(&b);
	}
	auth_free(&auth);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(small);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p384);
	EVP_PKEY_free(p521);
}

/* What is left of a fetched document. */
static void
test_jwks_compact(void **state)
{
	EVP_PKEY *rsa = key_rsa(2048), *p256 = key_ec("P-256");
	struct buf big = BUF_INIT, out = BUF_INIT, again = BUF_INIT;
	struct auth *auth = auth_or_fail(&(struct auth_config){ .flat.jwks_by_url = true, .default_tenant = "d" });
	char err[256], *doc;
	size_t taken, skipped;

	(void)state;
	doc = jwks(key_jwk(rsa, ",\"kid\":\"k\\\"1\",\"use\":\"sig\",\"x5c\":[\"AAAA\"],\"crv\":\"P-256\",\"own\":{\"a\":[1]}"),
	    key_jwk(p256, ",\"alg\":\"ES256\",\"n\":\"AAAA\""), key_jwk(rsa, ",\"d\":\"AQAB\""));
	buf_puts(&out, "before");
	assert_int_equal(keys_compact_jwks(slice_of(doc), &out, &taken, &skipped, err, sizeof(err)), 0);
	assert_int_equal(taken, 2);
	assert_int_equal(skipped, 1);
	buf_consume(&out, 6);
	buf_putc(&out, '\0');
	out.len--;
	assert_null(strstr(out.data, "\"x5c\""));	/* quoted: the digits of a random key are letters too */
	assert_null(strstr(out.data, "\"own\""));
	assert_null(strstr(out.data, "\"d\""));
	assert_null(strstr(out.data, "\"n\":\"AAAA\""));
	assert_non_null(strstr(out.data, "\"kid\":\"k\\\"1\""));
	/* What is left is taken as the whole was, and is as short as can be. */
	assert_int_equal(auth_jwks_install(auth, "", buf_slice(&out), err, sizeof(err)), 0);
	assert_int_equal(keys_compact_jwks(buf_slice(&out), &again, &taken, &skipped, err, sizeof(err)), 0);
	assert_true(slice_eq(buf_slice(&out), buf_slice(&again)));
	free(doc);

	/* More than a gateway would read, of which little is left. */
	doc = key_jwk(rsa, ",\"kid\":\"k\"");
	buf_puts(&big, "{\"keys\":[");
	for (int i = 0; i < 100; i++) {
		buf_puts(&big, doc);
		buf_putc(&big, ',');
	}
	buf_puts(&big, "{\"kty\":\"x\",\"pad\":\"");
	while (big.len < KEYS_TEXT_MAX * 2)
		buf_puts(&big, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
	buf_puts(&big, "\"}]}");
	buf_clear(&out);
	assert_int_equal(keys_compact_jwks(buf_slice(&big), &out, &taken, &skipped, err, sizeof(err)), 0);
	assert_int_equal(taken, KEYS_MAX);
	assert_int_equal(skipped, 101 - KEYS_MAX);
	assert_int_equal(auth_jwks_install(auth, "", buf_slice(&out), err, sizeof(err)), 0);
	while (big.len <= KEYS_FETCHED_MAX)
		buf_putc(&big, ' ');
	buf_clear(&out);
	assert_int_equal(keys_compact_jwks(buf_slice(&big), &out, &taken, &skipped, err, sizeof(err)), -1);
	assert_int_equal(keys_compact_jwks(SLICE("{\"keys\":[]}"), &out, &taken, &skipped, err, sizeof(err)), -1);
	assert_int_equal(keys_compact_jwks(SLICE("\x1f\x8b"), &out, &taken, &skipped, err, sizeof(err)), -1);
	assert_int_equal(out.len, 0);

	free(doc);
	buf_fini(&big);
	buf_fini(&out);
	buf_fini(&again);
	auth_free(&auth);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(p256);
}

/* Two different keys that a header could not choose between, in one set or in those of two issuers. */
static void
test_keys_that_clash(void **state)
{
	EVP_PKEY *a = key_rsa(2048), *b = key_rsa(2048), *ec = key_ec("P-256");
	struct {
		char *doc[2];			/* the sets of one or two issuers */
		bool fault;
	} rows[] = {
		{ { jwks(key_jwk(a, ",\"kid\":\"k\""), key_jwk(b, ",\"kid\":\"k\""), NULL), NULL }, true },
		{ { jwks(key_jwk(a, ",\"kid\":\"k\",\"alg\":\"RS256\""),
		    key_jwk(b, ",\"kid\":\"k\",\"alg\":\"RS512\""), NULL), NULL }, false },
		{ { jwks(key_jwk(a, ",\"kid\":\"k\""), key_jwk(ec, ",\"kid\":\"k\""), NULL), NULL }, false },
		{ { jwks(key_jwk(a, ",\"kid\":\"k\""), key_jwk(a, ",\"kid\":\"k\""), NULL), NULL }, false },
		{ { jwks(key_jwk(a, ""), key_jwk(b, ""), NULL), NULL }, false },
		{ { jwks(key_jwk(a, ",\"kid\":\"k\""), NULL, NULL), jwks(key_jwk(b, ",\"kid\":\"k\""), NULL, NULL) }, true },
		{ { jwks(key_jwk(a, ",\"kid\":\"k\""), NULL, NULL), jwks(key_jwk(b, ",\"kid\":\"l\""), NULL, NULL) }, false },
		/* Issuers of one provider have one set. */
		{ { jwks(key_jwk(a, ",\"kid\":\"k\""), NULL, NULL), jwks(key_jwk(a, ",\"kid\":\"k\""), NULL, NULL) }, false },
	};
	char first[] = "auth-jwks-XXXXXX", second[] = "auth-jwks-XXXXXX", err[256];
	int fds[2] = { mkstemp(first), mkstemp(second) };
	struct auth_issuer_config blocks[] = { { .issuer = "a", .jwks_file = first }, { .issuer = "b", .jwks_file = second } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool two = rows[i].doc[1] != NULL;
		struct auth *auth;

		file_write(first, rows[i].doc[0]);
		if (two)
			file_write(second, rows[i].doc[1]);
		auth = auth_new(two ? &(struct auth_config){ .issuers = blocks, .issuers_n = 2 } :
		    &(struct auth_config){ .flat.jwks_file = first }, err, sizeof(err));
		if ((auth == NULL) != rows[i].fault)
			fail_msg("row %zu", i);
		if (rows[i].fault)
			assert_string_equal(err, two ? "auth.issuers: two different keys of one kid and algorithm" :
			    "auth.jwks_file: two different keys of one kid and algorithm");
		auth_free(&auth);
		free(rows[i].doc[0]);
		free(rows[i].doc[1]);
	}
	for (int i = 0; i < 2; i++)
		close(fds[i]);
	unlink(first);
	unlink(second);
	EVP_PKEY_free(a);
	EVP_PKEY_free(b);
	EVP_PKEY_free(ec);
}

static void
test_jwks_file(void **state)
{
	EVP_PKEY *rsa = key_rsa(2048), *rsa2 = key_rsa(2048);
	char path[] = "auth-jwks-XXXXXX", err[256], *doc1, *doc2, *other;
	int fd = mkstemp(path);
	struct auth *auth;
	int64_t t = NOW_MS;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	other = text("%s.new", path);
	doc1 = jwks(key_jwk(rsa, ",\"kid\":\"k1\""), NULL, NULL);
	/* the secret in it is passed over, with a line in the log */
	doc2 = jwks(key_jwk(rsa, ",\"kid\":\"k1\""), key_jwk(rsa2, ",\"kid\":\"k2\""),
	    text("%s", "{\"kty\":\"oct\",\"k\":\"AAAA\",\"kid\":\"k3\"}"));
	file_write(path, "{}");
	assert_null(auth_new(&(struct auth_config){ .flat.jwks_file = path }, err, sizeof(err)));
	file_write(path, doc1);
	assert_null(auth_new(&(struct auth_config){ .flat = { .jwks_file = path, .jwks_by_url = true } }, err,
	    sizeof(err)));
	auth = auth_or_fail(&(struct auth_config){ .flat.jwks_file = path, .default_tenant = "d" });
	expect_at(auth, token_pkey(RS("k1"), GOOD, rsa, "SHA256"), t, AUTH_OK, "");
	expect_at(auth, token_pkey(RS("k2"), GOOD, rsa2, "SHA256"), t, AUTH_INVALID, "unknown key id");

	/* replaced by rename: seen at the first token with the new kid, though one was refused just now */
	file_write(other, doc2);
	assert_int_equal(rename(other, path), 0);
	expect_at(auth, token_pkey(RS("k2"), GOOD, rsa2, "SHA256"), t, AUTH_OK, "");

	/* damaged: the old keys stay; mended: read again after the cooldown */
	file_write(path, "{\"keys\":[");
	expect_at(auth, token_pkey(RS("k3"), GOOD, rsa, "SHA256"), t + 30000, AUTH_INVALID, "unknown key id");
	expect_at(auth, token_pkey(RS("k2"), GOOD, rsa2, "SHA256"), t + 30000, AUTH_OK, "");
	file_write(other, doc1);
	assert_int_equal(rename(other, path), 0);
	auth_refresh(auth, t + 59999);
	expect_at(auth, token_pkey(RS("k2"), GOOD, rsa2, "SHA256"), t + 59999, AUTH_OK, "");
	auth_refresh(auth, t + 60000);
	expect_at(auth, token_pkey(RS("k2"), GOOD, rsa2, "SHA256"), t + 60000, AUTH_INVALID, "unknown key id");
	expect_at(auth, token_pkey(RS("k1"), GOOD, rsa, "SHA256"), t + 60000, AUTH_OK, "");

	/* gone: the old keys stay */
	unlink(path);
	auth_refresh(auth, t + 200000);
	expect_at(auth, token_pkey(RS("k9"), GOOD, rsa, "SHA256"), t + 200000, AUTH_INVALID, "unknown key id");
	expect_at(auth, token_pkey(RS("k1"), GOOD, rsa, "SHA256"), t + 200000, AUTH_OK, "");
	auth_free(&auth);
	free(doc1);
	free(doc2);
	free(other);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(rsa2);
}

static void
test_remembered(void **state)
{
	struct auth *auth = auth_or_fail(&(struct auth_config){ .flat.jwt_secret = SECRET, .default_tenant = "d",
	    .cache_entries = 16 });
	struct auth_counts counts;
	struct identity id, again;
	char *payload;

	(void)state;
	assert_int_equal(verify_at(auth, token_hs256(GOOD), NOW_MS, &id, NULL), AUTH_OK);
	assert_int_equal(verify_at(auth, token_hs256(GOOD), NOW_MS, &again, NULL), AUTH_OK);
	assert_memory_equal(&id, &again, sizeof(id));
	counts = auth_counts(auth);
	assert_int_equal(counts.verified, 1);
	assert_int_equal(counts.remembered, 1);
	/* what is remembered still expires */
	expect_at(auth, token_hs256(GOOD), NOW_MS + 3604999, AUTH_OK, "");
	expect_at(auth, token_hs256(GOOD), NOW_MS + 3605000, AUTH_EXPIRED, "expired 5 s ago");
	expect_at(auth, token_hs256(GOOD), NOW_MS + 3605000, AUTH_EXPIRED, "expired 5 s ago");
	counts = auth_counts(auth);
	assert_int_equal(counts.verified, 2);
	auth_free(&auth);

	auth = auth_or_fail(&(struct auth_config){ .flat.jwt_secret = SECRET, .default_tenant = "d",
	    .cache_entries = 16 });
	expect(auth, token_hs256(GOOD), AUTH_OK, "");
	/* refusals are not remembered */
	for (int i = 0; i < 3; i++)
		expect(auth, token_hmac(HS, GOOD, SLICE("x"), "SHA256"), AUTH_INVALID, "invalid signature");
	counts = auth_counts(auth);
	assert_int_equal(counts.verified, 4);
	assert_int_equal(counts.refused, 3);
	/* more than there is room for: each is right whether it is still known or not */
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 200; i++) {
			payload = text("{\"sub\":\"u%d\"," EXP "}", i);
			assert_int_equal(verify_at(auth, token_hs256(payload), NOW_MS, &id, NULL), AUTH_OK);
			free(payload);
			payload = text("u%d", i);
			assert_string_equal(id.user, payload);
			free(payload);
		}
	}
	auth_free(&auth);
}

static void
test_service_keys(void **state)
{
	char key[SERVICE_KEY_LEN + 1], all[SERVICE_KEY_LEN + 1], other[SERVICE_KEY_LEN + 1],
	    device[DEVICE_TOKEN_LEN + 1];
	uint8_t hash[SHA256_LEN], hash_all[SHA256_LEN], hash_other[SHA256_LEN];
	struct buf a = BUF_INIT, b = BUF_INIT;
	struct identity id;
	struct auth *auth;

	(void)state;
	auth_service_key_new(key, hash);
	auth_service_key_new(all, hash_all);
	auth_service_key_new(other, hash_other);
	buf_puts(&a, "billing:org:eu:1:");
	buf_put_hex(&a, hash, sizeof(hash));
	buf_putc(&a, '\0');
	buf_puts(&b, "root:*:");
	buf_put_hex(&b, hash_all, sizeof(hash_all));
	buf_putc(&b, '\0');
	auth = auth_or_fail(&(struct auth_config){ .service_keys = STRINGS(a.data, b.data) });
	assert_int_equal(verify_at(auth, text("%s", key), NOW_MS, &id, NULL), AUTH_OK);
	assert_int_equal(id.role, ROLE_SERVICE);
	assert_string_equal(id.user, "key:billing");
	assert_string_equal(id.tenant, "org:eu:1");
	assert_false(id.any_tenant);
	assert_int_equal(id.expires_ms, 0);
	assert_int_equal(verify_at(auth, text("%s", all), NOW_MS, &id, NULL), AUTH_OK);
	assert_true(id.any_tenant);
	assert_string_equal(id.tenant, "");
	expect(auth, text("%s", other), AUTH_INVALID, "unknown service key");
	expect(auth, text("%sA", key), AUTH_INVALID, "malformed");
	expect(auth, text("%.46s", key), AUTH_INVALID, "malformed");
	expect(auth, text("bsk_"), AUTH_INVALID, "malformed");
	expect(auth, text("%.46s!", key), AUTH_INVALID, "malformed");
	/* the same bytes under the other prefix are another secret */
	auth_device_token_new(device, hash);
	expect(auth, text("bdt_%s", key + 4), AUTH_INVALID, "malformed");
	auth_free(&auth);
	buf_fini(&a);
	buf_fini(&b);
}

static void
test_device_tokens(void **state)
{
	char token[DEVICE_TOKEN_LEN + 1], again[DEVICE_TOKEN_LEN + 1];
	uint8_t hash[SHA256_LEN], other[SHA256_LEN];

	(void)state;
	auth_device_token_new(token, hash);
	auth_device_token_new(again, other);
	assert_int_equal(strlen(token), DEVICE_TOKEN_LEN);
	assert_string_not_equal(token, again);
	assert_true(auth_device_token_is(slice_of(token)));
	assert_false(auth_service_key_is(slice_of(token)));
	assert_int_equal(auth_device_token_hash(slice_of(token), other), 0);
	assert_memory_equal(hash, other, sizeof(hash));
	/* sha256sum(1) of the text */
	assert_int_equal(auth_device_token_hash(SLICE("bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), hash), 0);
	digest_sha256(SLICE("bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), other);
	assert_memory_equal(hash, other, sizeof(hash));

	static const char *const bad[] = { "", "bdt", "bdt_", "bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
		"bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", "bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+A",
		"bsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "BDT_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		" bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		    "bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (auth_device_token_hash(slice_of(bad[i]), hash) != -1)
			fail_msg("%s", bad[i]);
}

static void
test_minted(void **state)
{
	struct auth *auth = auth_or_fail(&(struct auth_config){ .flat = { .jwt_secret = SECRET, .issuer = "https://i",
	    .audience = "belay", .tenant_claim = STRINGS("o.id") } });
	struct mint_request r = { .secret = SLICE(SECRET), .user = "u1", .tenant = "t1", .role = "admin",
	    .tenant_claim = "o.id", .issuer = "https://i", .audience = "belay", .now_ms = NOW_MS, .ttl_s = 60 };
	static const char *const algs[] = { NULL, "HS256", "HS384", "HS512" };
	char err[128], *token;
	struct identity id;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		r.alg = algs[i];
		token = mint_token(&r, err, sizeof(err));
		assert_non_null(token);
		assert_int_equal(verify_at(auth, token, NOW_MS, &id, NULL), AUTH_OK);
		assert_string_equal(id.user, "u1");
		assert_string_equal(id.tenant, "t1");
		assert_int_equal(id.role, ROLE_ADMIN);
		assert_int_equal(id.expires_ms, NOW_MS + 60000);
	}
	r.kid = "k";
	expect(auth, mint_token(&r, err, sizeof(err)), AUTH_OK, "");
	r.kid = NULL;
	r.ttl_s = -60;
	expect(auth, mint_token(&r, err, sizeof(err)), AUTH_EXPIRED, "expired 60 s ago");
	r.alg = "RS256";
	assert_null(mint_token(&r, err, sizeof(err)));
	r.alg = "none";
	assert_null(mint_token(&r, err, sizeof(err)));
	r.alg = NULL;
	r.secret = SLICE_NONE;
	assert_null(mint_token(&r, err, sizeof(err)));
	r.secret = SLICE(SECRET);
	r.user = "\xff";
	assert_null(mint_token(&r, err, sizeof(err)));
	auth_free(&auth);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_parties),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_no_default_tenant),
		cmocka_unit_test(test_algorithms),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_secret_file),
		cmocka_unit_test(test_issuers),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_key_ids),
		cmocka_unit_test(test_keys_that_clash),
		cmocka_unit_test(test_jwks_installed),
		cmocka_unit_test(test_jwk_members),
		cmocka_unit_test(test_jwks_compact),
		cmocka_unit_test(test_jwks_file),
		cmocka_unit_test(test_remembered),
		cmocka_unit_test(test_service_keys),
		cmocka_unit_test(test_device_tokens),
		cmocka_unit_test(test_minted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
