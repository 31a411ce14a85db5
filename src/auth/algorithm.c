/*
 * The table of signature algorithms and its look-ups.
 */
#include <string.h>

#include <openssl/evp.h>

#include "auth/algorithm.h"

static const struct algorithm algorithms[ALGORITHM_COUNT] = {
#define ALGORITHM(name, kind, hash, coordinate, verifier) \
	{ ALGORITHM_##name, #name, kind, EVP_##hash, coordinate, verifier },
#include "auth/algorithm.def"
#undef ALGORITHM
};

const struct algorithm *
algorithm_find(const char *name)
{
	for (size_t i = 0; i < ALGORITHM_COUNT; i++)
		if (strcmp(algorithms[i].name, name) == 0)
			return &algorithms[i];
	return NULL;
}

uint32_t
algorithm_of_kind(enum key_kind kind)
{
	uint32_t set = 0;

	for (size_t i = 0; i < ALGORITHM_COUNT; i++)
		if (algorithms[i].kind == kind)
			set |= ALGORITHM_BIT(i);
	return set;
}
