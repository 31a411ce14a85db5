/*
 * auth_tokens.h: tokens and keys for tests, made by libcrypto alone, so that
 * they are right or wrong independently of the code that is tested.
 */
#ifndef BELAY_TESTS_AUTH_TOKENS_H
#define BELAY_TESTS_AUTH_TOKENS_H

#include <openssl/evp.h>

#include "base/slice.h"

/* 32 bytes; the shortest secret that is taken. */
#define SECRET "0123456789abcdef0123456789abcdef"

/* 2026-01-31T12:00:00Z, the time at which the tests take place */
#define NOW_S INT64_C(1769860800)
#define NOW_MS (NOW_S * 1000)

EVP_PKEY *key_rsa(unsigned bits);
EVP_PKEY *key_ec(const char *curve);		/* "P-256" */
char *key_pem(EVP_PKEY *key);			/* the public half */
char *key_pem_private(EVP_PKEY *key);
char *key_certificate(EVP_PKEY *key);		/* self-signed */
/* One JWK; extra is JSON members with a comma before each, or "". */
char *key_jwk(EVP_PKEY *key, const char *extra);

char *b64(const void *p, size_t len);
/* header.payload.signature, by the hash "SHA256"; all to be freed. */
char *token_hmac(const char *header, const char *payload, struct slice secret, const char *hash);
char *token_pkey(const char *header, const char *payload, EVP_PKEY *key, const char *hash);
/* HS256 by SECRET */
char *token_hs256(const char *payload);

/* printf to a fresh string */
char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void file_write(const char *path, const char *content);

#endif
