/*
 * digest.h: hashes and their encodings.
 */
#ifndef BELAY_BASE_DIGEST_H
#define BELAY_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define SHA256_LEN 32

/* SHA-256 (FIPS 180-4). */
void digest_sha256(struct slice in, uint8_t out[SHA256_LEN]);

/* SipHash-2-4 with a 128-bit result (the keyed hash of all shared tables). */
struct hash128 { uint64_t lo, hi; };
/* Of a, 0x00, b. */
struct hash128 digest_sip128(const uint8_t key[16], struct slice a, struct slice b);
uint64_t digest_sip64(const uint8_t key[16], const void *p, size_t len);

/* getrandom(2); dies when it fails. */
void digest_random(void *out, size_t len);
/* base64url without padding (RFC 4648 section 5). */
void digest_base64url_put(struct buf *b, const void *p, size_t len);
/*
 * Strict: canonical, no padding, no foreign byte.  Returns the decoded length or -1; out has room
 * for len * 3 / 4.
 */
long digest_base64url_decode(struct slice text, uint8_t *out, size_t cap);
/* -1 unless it is exactly cap bytes in hex. */
int digest_hex_decode(struct slice text, uint8_t *out, size_t cap);
int digest_equal(const void *a, const void *b, size_t len);	/* constant time; 1 when equal */

#endif
