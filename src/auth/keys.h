/*
 * keys.h: the keys that signatures are checked with, parsed once and kept.
 *
 * A key fixes the algorithms it is for; a token's header only chooses among
 * keys, never what a key is used as.
 */
#ifndef BELAY_AUTH_KEYS_H
#define BELAY_AUTH_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/algorithm.h"
#include "auth/jws.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/slice.h"

#define KEYS_MAX 64			/* in one set */
#define KEYS_TEXT_MAX (256 * 1024)	/* bytes of a JWKS document or PEM text */
#define KEYS_FETCHED_MAX (1024 * 1024)	/* … and of a document that keys_compact_jwks() takes */
#define KEYS_SECRET_MIN 32
#define KEYS_RSA_BITS_MIN 2048
#define KEYS_RSA_BITS_MAX 8192

struct evp_pkey_st;

struct key {
	enum key_kind kind;
	uint32_t algs;				/* set of algorithms */
	char *kid;				/* owned; NULL: has none */
	struct evp_pkey_st *pkey;		/* owned; NULL for a secret */
	uint8_t *secret;			/* owned, wiped when freed */
	size_t secret_len;
	uint8_t print[SHA256_LEN];		/* of the key's bytes: tells keys apart, and is no secret */
};

struct keys {
	struct key *v;				/* owned */
	size_t n;
};

#define KEYS_INIT { NULL, 0 }

void keys_fini(struct keys *keys);

/* Each adds to keys; -1 with a sentence in err: nothing was added. */

/*
 * The bytes of the secret.  PEM text is refused; so are fewer than 32 bytes unless short_ok, and
 * none at all always.
 */
int keys_add_secret(struct keys *keys, struct slice secret, bool short_ok, char *err,
    size_t errlen);
/*
 * Every public key and certificate of the text (RSA from 2,048 bits, EC P-256 and P-384); a private
 * key is refused.
 */
int keys_add_pem(struct keys *keys, struct slice pem, char *err, size_t errlen);
/*
 * RFC 7517 section 5.  Keys of other kinds, for encryption, for other algorithms or malformed are
 * passed over, as is said there, and counted in *skipped (may be NULL); symmetric ones (`oct`) and
 * private ones too: a key set is public, and such a key is anybody's.  A document without a single
 * key to use is an error.
 */
int keys_add_jwks(struct keys *keys, struct slice text, size_t *skipped, char *err, size_t errlen);
/*
 * Of a document from elsewhere what keys_add_jwks() would take of it, appended to out as a document
 * of its own, of a few hundred bytes for each key: no certificates, nothing that is not looked at.
 * *taken and *skipped count keys.
 * -1 with a sentence in err, as above: nothing was appended.
 */
int keys_compact_jwks(struct slice text, struct buf *out, size_t *taken, size_t *skipped,
    char *err, size_t errlen);

/*
 * Are there two different keys of one name that take the same algorithm, one in each set (or both in
 * one, when a and b are the same)?  A token's header could not choose between them.
 */
bool keys_clash(const struct keys *a, const struct keys *b);

/* 1: the signature is the key's.  The key must be for jws->alg. */
int key_verify(const struct key *key, const struct jws *jws);

#endif
