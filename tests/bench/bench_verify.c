/*
 * bench_verify.c: microseconds for one token, seen for the first time and
 * remembered, by algorithm; and where they go.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>
#include <jwt.h>

#include "auth/claims.h"
#include "auth/jws.h"
#include "auth/keys.h"
#include "auth/verify.h"
#include "base/digest.h"
#include "base/must.h"
#include "../unit/auth_tokens.h"

#define TOKENS 4000
#define ROUNDS 5
#define PAYLOAD "{\"iss\":\"https://clerk.example.com\",\"sub\":\"user_2aBcDeFgHiJkLmNoPqRsTuVwXy\",\"tenant_id\":" \
	"\"org_2aBcDeFg\",\"role\":\"org:admin\",\"iat\":1769860000,\"nbf\":1769860000,\"azp\":" \
	"\"https://app.example.com\",\"exp\":1769864400,\"n\":%d}"

static char *tokens[TOKENS];

static double
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* The best of some rounds over all tokens. */
static double
measure(void (*one)(void *arg, struct slice token), void *arg)
{
	double best = 1e9, t;

	for (int r = 0; r < ROUNDS; r++) {
		t = now_us();
		for (size_t i = 0; i < TOKENS; i++)
			one(arg, slice_of(tokens[i]));
		t = (now_us() - t) / TOKENS;
		best = t < best ? t : best;
	}
	return best;
}

static void
one_verify(void *arg, struct slice token)
{
	char why[AUTH_WHY_LEN];
	struct identity id;
	enum auth_verdict verdict = auth_verify(arg, token, NOW_MS, &id, why);

	must(verdict == AUTH_OK);
}

static void
one_front(void *arg, struct slice token)
{
	enum jws_fault fault = jws_parse(token, arg, NULL);

	must(fault == JWS_OK);
}

static void
one_claims(void *arg, struct slice token)
{
	const struct jws *jws = arg;

	(void)token;
	json_decref(claims_parse(slice_bytes(jws->payload, jws->payload_len)));
}

static void
one_hash(void *arg, struct slice token)
{
	digest_sha256(token, arg);
}

static void
one_libjwt(void *arg, struct slice token)
{
	jwt_t *jwt = NULL;
	int rc = jwt_decode(&jwt, token.p, arg, (int)sizeof(SECRET) - 1);

	must(rc == 0);
	jwt_free(jwt);
}

static void
bench(const char *header, EVP_PKEY *key)
{
	char err[256], *pem = key != NULL ? key_pem(key) : NULL, *payload;
	struct auth_config config = { .default_tenant = "d", .flat = {
	    .jwt_secret = key == NULL ? SECRET : NULL, .jwt_public_key = pem } };
	struct auth *auth;
	double first, again;

	for (int i = 0; i < TOKENS; i++) {
		payload = text(PAYLOAD, i);
		free(tokens[i]);
		tokens[i] = key != NULL ? token_pkey(header, payload, key, "SHA256") :
		    token_hmac(header, payload, SLICE(SECRET), "SHA256");
		free(payload);
	}
	config.cache_entries = 8;
	auth = auth_new(&config, err, sizeof(err));
	first = measure(one_verify, auth);
	auth_free(&auth);
	config.cache_entries = 4 * TOKENS;
	auth = auth_new(&config, err, sizeof(err));
	again = measure(one_verify, auth);
	auth_free(&auth);
	printf("%s %zu bytes: first %.2f us, remembered %.2f us\n", header, strlen(tokens[0]), first, again);
	free(pem);
}

int
main(void)
{
	EVP_PKEY *rsa = key_rsa(2048), *p256 = key_ec("P-256");
	uint8_t hash[SHA256_LEN];
	static struct jws jws;

	bench("{\"alg\":\"ES256\"}", p256);
	bench("{\"alg\":\"RS256\"}", rsa);
	bench("{\"alg\":\"HS256\"}", NULL);
	printf("of the last: front %.2f us, ", measure(one_front, &jws));
	printf("claims parsed %.2f us, ", measure(one_claims, &jws));
	printf("hash for the memory %.2f us; ", measure(one_hash, hash));
	printf("libjwt's whole decoding %.2f us\n", measure(one_libjwt, (void *)(uintptr_t)SECRET));
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(p256);
	for (size_t i = 0; i < TOKENS; i++)
		free(tokens[i]);
	return 0;
}
