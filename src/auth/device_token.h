/*
 * device_token.h: the two kinds of opaque secrets, `bdt_` (devices) and
 * `bsk_` (service keys): a prefix and base64url of 32 random bytes.
 *
 * Only the SHA-256 of the whole text is ever stored, so that the hash of a
 * key can be had with sha256sum(1).
 */
#ifndef BELAY_AUTH_DEVICE_TOKEN_H
#define BELAY_AUTH_DEVICE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"

#define DEVICE_TOKEN_LEN 47		/* 4 + 43 */
#define SERVICE_KEY_LEN 47

/* Whether the text claims to be one; nothing else of its form is looked at. */
bool auth_device_token_is(struct slice token);
bool auth_service_key_is(struct slice token);

/* -1 unless the form is exact: prefix, 43 characters of canonical base64url. */
int auth_device_token_hash(struct slice token, uint8_t out[SHA256_LEN]);
int auth_service_key_hash(struct slice token, uint8_t out[SHA256_LEN]);

/* A new one from getrandom(2); out is NUL-terminated and shown to its owner once. */
void auth_device_token_new(char out[DEVICE_TOKEN_LEN + 1], uint8_t hash[SHA256_LEN]);
void auth_service_key_new(char out[SERVICE_KEY_LEN + 1], uint8_t hash[SHA256_LEN]);

#endif
