/*
 * Makes tokens and keys for the tests of src/auth.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "auth_tokens.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/must.h"

EVP_PKEY *
key_rsa(unsigned bits)
{
	EVP_PKEY *key = EVP_RSA_gen(bits);

	must(key != NULL);
	return key;
}

EVP_PKEY *
key_ec(const char *curve)
{
	EVP_PKEY *key = EVP_EC_gen(curve);

	must(key != NULL);
	return key;
}

static char *
bio_text(BIO *bio)
{
	char *p, *copy;
	long len = BIO_get_mem_data(bio, &p);

	copy = must_strndup(p, (size_t)len);
	BIO_free(bio);
	return copy;
}

char *
key_pem(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int ok = PEM_write_bio_PUBKEY(bio, key);

	must(ok == 1);
	return bio_text(bio);
}

char *
key_pem_private(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int ok = PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);

	must(ok == 1);
	return bio_text(bio);
}

char *
key_certificate(EVP_PKEY *key)
{
	X509 *x509 = X509_new();
	BIO *bio = BIO_new(BIO_s_mem());
	int ok;

	X509_gmtime_adj(X509_getm_notBefore(x509), 0);
	X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
	X509_set_pubkey(x509, key);
	ok = X509_sign(x509, key, EVP_sha256()) > 0 && PEM_write_bio_X509(bio, x509) == 1;
	must(ok);
	X509_free(x509);
	return bio_text(bio);
}

static char *
param_b64(EVP_PKEY *key, const char *name, size_t len)
{
	BIGNUM *n = NULL;
	unsigned char *bytes;
	char *out;
	int ok = EVP_PKEY_get_bn_param(key, name, &n);

	must(ok == 1);
	if (len == 0)
		len = (size_t)BN_num_bytes(n);
	bytes = must_alloc(len);
	BN_bn2binpad(n, bytes, (int)len);
	out = b64(bytes, len);
	free(bytes);
	BN_free(n);
	return out;
}

char *
key_jwk(EVP_PKEY *key, const char *extra)
{
	char *a, *b, *out;
	size_t len;

	if (EVP_PKEY_is_a(key, "RSA")) {
		a = param_b64(key, OSSL_PKEY_PARAM_RSA_N, 0);
		b = param_b64(key, OSSL_PKEY_PARAM_RSA_E, 0);
		out = text("{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}", a, b, extra);
	} else {
		len = ((size_t)EVP_PKEY_get_bits(key) + 7) / 8;
		a = param_b64(key, OSSL_PKEY_PARAM_EC_PUB_X, len);
		b = param_b64(key, OSSL_PKEY_PARAM_EC_PUB_Y, len);
		out = text("{\"kty\":\"EC\",\"crv\":\"P-%zu\",\"x\":\"%s\",\"y\":\"%s\"%s}", len * 8, a, b, extra);
	}
	free(a);
	free(b);
	return out;
}

char *
b64(const void *p, size_t len)
{
	struct buf b = BUF_INIT;

	digest_base64url_put(&b, p, len);
	buf_putc(&b, '\0');
	return b.data;
}

static char *
signed_text(const char *header, const char *payload)
{
	char *h = b64(header, strlen(header)), *p = b64(payload, strlen(payload)), *out = text("%s.%s", h, p);

	free(h);
	free(p);
	return out;
}

static char *
with_signature(char *head, const unsigned char *signature, size_t len)
{
	char *s = b64(signature, len), *out = text("%s.%s", head, s);

	free(s);
	free(head);
	return out;
}

char *
token_hmac(const char *header, const char *payload, struct slice secret, const char *hash)
{
	char *head = signed_text(header, payload);
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	HMAC(EVP_get_digestbyname(hash), secret.p != NULL ? secret.p : "", (int)secret.len, (unsigned char *)head,
	    strlen(head), mac, &len);
	return with_signature(head, mac, len);
}

char *
token_pkey(const char *header, const char *payload, EVP_PKEY *key, const char *hash)
{
	char *head = signed_text(header, payload);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char signature[1024], raw[132];
	const unsigned char *p = signature;
	size_t len = sizeof(signature), coordinate;
	ECDSA_SIG *sig;
	int ok;

	ok = EVP_DigestSignInit_ex(ctx, NULL, hash, NULL, NULL, key, NULL) == 1 &&
	    EVP_DigestSign(ctx, signature, &len, (unsigned char *)head, strlen(head)) == 1;
	must(ok);
	EVP_MD_CTX_free(ctx);
	if (!EVP_PKEY_is_a(key, "EC"))
		return with_signature(head, signature, len);
	coordinate = ((size_t)EVP_PKEY_get_bits(key) + 7) / 8;
	sig = d2i_ECDSA_SIG(NULL, &p, (long)len);
	must(sig != NULL);
	BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, (int)coordinate);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + coordinate, (int)coordinate);
	ECDSA_SIG_free(sig);
	return with_signature(head, raw, 2 * coordinate);
}

char *
token_hs256(const char *payload)
{
	return token_hmac("{\"alg\":\"HS256\",\"typ\":\"JWT\"}", payload, SLICE(SECRET), "SHA256");
}

char *
text(const char *fmt, ...)
{
	char *out = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&out, fmt, ap);
	va_end(ap);
	must(n >= 0);
	return out;
}

void
file_write(const char *path, const char *content)
{
	FILE *f = fopen(path, "w");
	int ok;

	must(f != NULL);
	ok = fputs(content, f) >= 0;
	must(ok);
	ok = fclose(f) == 0;
	must(ok);
}
