/*
 * digest.c: SHA-256 by OpenSSL, SipHash-2-4 of our own (64 and 128 bits), randomness, base64url and
 * hex.
 *
 * Used by every process.  Owns the fetched SHA-256 and its context, one per process for its whole
 * life.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include "base/digest.h"
#include "base/must.h"
#include "base/text.h"

/* Fetched once: an implicit fetch on each use costs more than hashing a token does. */
static struct {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
} sha256;

void
digest_sha256(struct slice in, uint8_t out[SHA256_LEN])
{
	unsigned len = 0;
	int ok;

	if (sha256.md == NULL) {
		sha256.md = EVP_MD_fetch(NULL, "SHA256", NULL);
		sha256.ctx = EVP_MD_CTX_new();
		must(sha256.md != NULL && sha256.ctx != NULL);
	}
	ok = EVP_DigestInit_ex2(sha256.ctx, sha256.md, NULL);
	must(ok == 1);
	ok = EVP_DigestUpdate(sha256.ctx, in.p, in.len);
	must(ok == 1);
	ok = EVP_DigestFinal_ex(sha256.ctx, out, &len);
	must(ok == 1 && len == SHA256_LEN);
}

/*
 * SipHash-2-4 (Aumasson, Bernstein, 2012), fed in pieces.
 */
struct sip {
	uint64_t v0, v1, v2, v3;
	uint64_t word;			/* bytes that don't fill a word yet, little end first */
	uint64_t total;			/* bytes fed */
};

static inline uint64_t
rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline uint64_t
load64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

static inline void
sip_round(struct sip *s)
{
	s->v0 += s->v1; s->v1 = rotl(s->v1, 13); s->v1 ^= s->v0; s->v0 = rotl(s->v0, 32);
	s->v2 += s->v3; s->v3 = rotl(s->v3, 16); s->v3 ^= s->v2;
	s->v0 += s->v3; s->v3 = rotl(s->v3, 21); s->v3 ^= s->v0;
	s->v2 += s->v1; s->v1 = rotl(s->v1, 17); s->v1 ^= s->v2; s->v2 = rotl(s->v2, 32);
}

static inline void
sip_word(struct sip *s, uint64_t m)
{
	s->v3 ^= m;
	sip_round(s);
	sip_round(s);
	s->v0 ^= m;
}

static inline void
sip_init(struct sip *s, const uint8_t key[16], int wide)
{
	uint64_t k0 = load64(key), k1 = load64(key + 8);

	s->v0 = k0 ^ 0x736f6d6570736575;
	s->v1 = k1 ^ 0x646f72616e646f6d;
	s->v2 = k0 ^ 0x6c7967656e657261;
	s->v3 = k1 ^ 0x7465646279746573;
	if (wide)
		s->v1 ^= 0xee;
	s->word = s->total = 0;
}

static inline void
sip_feed(struct sip *s, const uint8_t *p, size_t len)
{
	while (len > 0 && (s->total & 7) != 0) {
		s->word |= (uint64_t)*p++ << 8 * (s->total & 7);
		s->total++;
		len--;
		if ((s->total & 7) == 0) {
			sip_word(s, s->word);
			s->word = 0;
		}
	}
	for (; len >= 8; p += 8, len -= 8, s->total += 8)
		sip_word(s, load64(p));
	for (; len > 0; p++, len--, s->total++)
		s->word |= (uint64_t)*p << 8 * (s->total & 7);
}

static inline uint64_t
sip_end(struct sip *s, uint64_t mark)
{
	sip_word(s, s->word | s->total << 56);
	s->v2 ^= mark;
	for (int i = 0; i < 4; i++)
		sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

struct hash128
digest_sip128(const uint8_t key[16], struct slice a, struct slice b)
{
	static const uint8_t zero;
	struct sip s;
	struct hash128 h;

	sip_init(&s, key, 1);
	sip_feed(&s, (const uint8_t *)a.p, a.len);
	sip_feed(&s, &zero, 1);
	sip_feed(&s, (const uint8_t *)b.p, b.len);
	h.lo = sip_end(&s, 0xee);
	s.v1 ^= 0xdd;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	h.hi = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
	return h;
}

uint64_t
digest_sip64(const uint8_t key[16], const void *p, size_t len)
{
	struct sip s;

	sip_init(&s, key, 0);
	sip_feed(&s, p, len);
	return sip_end(&s, 0xff);
}

void
digest_random(void *out, size_t len)
{
	uint8_t *p = out;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n == -1 && errno == EINTR)
			continue;
		must(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

void
digest_base64url_put(struct buf *b, const void *p, size_t len)
{
	static const char alphabet[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const uint8_t *in = p;
	uint32_t bits = 0;
	int have = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | in[i];
		for (have += 8; have >= 6; have -= 6)
			buf_putc(b, alphabet[bits >> (have - 6) & 63]);
	}
	if (have > 0)
		buf_putc(b, alphabet[bits << (6 - have) & 63]);
}

static int
base64url_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

long
digest_base64url_decode(struct slice text, uint8_t *out, size_t cap)
{
	uint32_t bits = 0;
	int have = 0;
	size_t n = 0;

	if (text.len % 4 == 1)
		return -1;
	for (size_t i = 0; i < text.len; i++) {
		int v = base64url_value(text.p[i]);

		if (v == -1)
			return -1;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			if (n == cap)
				return -1;
			out[n++] = (uint8_t)(bits >> have);
		}
	}
	/* Bits left over must be zero, or one value would have several texts. */
	if ((bits & ((1u << have) - 1)) != 0)
		return -1;
	return (long)n;
}

int
digest_hex_decode(struct slice text, uint8_t *out, size_t cap)
{
	if (text.len != 2 * cap)
		return -1;
	for (size_t i = 0; i < cap; i++) {
		int high = text_hex_value(text.p[2 * i]), low = text_hex_value(text.p[2 * i + 1]);

		if (high == -1 || low == -1)
			return -1;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

int
digest_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}
