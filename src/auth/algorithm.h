/*
 * algorithm.h: algorithm.def as a table.
 */
#ifndef BELAY_AUTH_ALGORITHM_H
#define BELAY_AUTH_ALGORITHM_H

#include <stddef.h>
#include <stdint.h>

enum key_kind { KEY_HMAC, KEY_RSA, KEY_EC_256, KEY_EC_384 };

enum verifier {
	VERIFY_MAC,		/* the MAC made again and compared */
	VERIFY_PUBLIC		/* by a public key that was parsed once */
};

enum algorithm_id {
#define ALGORITHM(name, kind, hash, coordinate, verifier) ALGORITHM_##name,
#include "auth/algorithm.def"
#undef ALGORITHM
	ALGORITHM_COUNT
};

struct evp_md_st;

struct algorithm {
	enum algorithm_id id;
	const char *name;
	enum key_kind kind;
	const struct evp_md_st *(*hash)(void);
	size_t coordinate;		/* bytes of r and of s; 0: not an EC signature */
	enum verifier verifier;
};

/* Sets of algorithms are uint32_t, one bit for each. */
#define ALGORITHM_BIT(id) (UINT32_C(1) << (id))

const struct algorithm *algorithm_find(const char *name);	/* exact; NULL */
uint32_t algorithm_of_kind(enum key_kind kind);

#endif
