/*
 * proxy_fuzz.c: the PROXY protocol's header.
 *
 * What is complete stays so with more behind it, and none of its beginnings is complete or refused;
 * what is refused stays refused with more behind it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "net/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory of its own, so that a look beyond the end is seen. */
static long
parse(const uint8_t *data, size_t n, struct proxy_client *out)
{
	uint8_t *copy = must_alloc(n + 1);
	long rc;

	memcpy(copy, data, n);
	rc = proxy_parse(copy, n, out);
	free(copy);
	return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_client whole, part;
	long rc, before;

	if (size > PROXY_HEADER_MAX + 16)
		return 0;
	rc = parse(data, size, &whole);
	must(rc >= -1 && rc <= (long)size && rc <= PROXY_HEADER_MAX);
	must(rc > 0 || !whole.known);
	if (rc > 0) {
		must(parse(data, (size_t)rc, &part) == rc);
		must(memcmp(&whole, &part, sizeof(whole)) == 0);
		must(parse(data, (size_t)rc - 1, &part) == 0);
		must(parse(data, (size_t)rc / 2, &part) == 0);
	}
	if (rc == -1) {
		uint8_t *more = must_alloc(size + 3);

		memcpy(more, data, size);
		memcpy(more + size, "\r\n", 2);
		must(parse(more, size + 2, &part) == -1);
		free(more);
	}
	if (rc == 0 && size > 0) {
		before = parse(data, size - 1, &part);
		must(before == 0);
	}
	return 0;
}
