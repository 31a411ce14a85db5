/*
 * Opaque secrets: form, hash, and new ones.  Keeps nothing.
 */
#include <string.h>

#include <openssl/crypto.h>

#include "auth/device_token.h"
#include "base/buf.h"
#include "base/must.h"

#define PREFIX_LEN 4
#define SECRET_LEN 32

static bool
has_prefix(struct slice token, const char *prefix)
{
	return token.len >= PREFIX_LEN && memcmp(token.p, prefix, PREFIX_LEN) == 0;
}

static int
secret_hash(struct slice token, const char *prefix, uint8_t out[SHA256_LEN])
{
	uint8_t secret[SECRET_LEN + 3];
	long n;

	if (token.len != DEVICE_TOKEN_LEN || !has_prefix(token, prefix))
		return -1;
	n = digest_base64url_decode(slice_bytes(token.p + PREFIX_LEN, token.len - PREFIX_LEN),
	    secret, sizeof(secret));
	OPENSSL_cleanse(secret, sizeof(secret));
	if (n != SECRET_LEN)
		return -1;
	digest_sha256(token, out);
	return 0;
}

static void
secret_new(const char *prefix, char out[DEVICE_TOKEN_LEN + 1], uint8_t hash[SHA256_LEN])
{
	uint8_t secret[SECRET_LEN];
	struct buf text = BUF_INIT;

	digest_random(secret, sizeof(secret));
	buf_puts(&text, prefix);
	digest_base64url_put(&text, secret, sizeof(secret));
	must(text.len == DEVICE_TOKEN_LEN);
	memcpy(out, text.data, text.len);
	out[text.len] = '\0';
	OPENSSL_cleanse(secret, sizeof(secret));
	OPENSSL_cleanse(text.data, text.len);
	buf_fini(&text);
	digest_sha256(slice_of(out), hash);
}

bool
auth_device_token_is(struct slice token)
{
	return has_prefix(token, "bdt_");
}

bool
auth_service_key_is(struct slice token)
{
	return has_prefix(token, "bsk_");
}

int
auth_device_token_hash(struct slice token, uint8_t out[SHA256_LEN])
{
	return secret_hash(token, "bdt_", out);
}

int
auth_service_key_hash(struct slice token, uint8_t out[SHA256_LEN])
{
	return secret_hash(token, "bsk_", out);
}

void
auth_device_token_new(char out[DEVICE_TOKEN_LEN + 1], uint8_t hash[SHA256_LEN])
{
	secret_new("bdt_", out, hash);
}

void
auth_service_key_new(char out[SERVICE_KEY_LEN + 1], uint8_t hash[SHA256_LEN])
{
	secret_new("bsk_", out, hash);
}
