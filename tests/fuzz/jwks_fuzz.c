/*
 * Key material: JWKS documents and PEM texts.
 */
#include <stdint.h>
#include <string.h>

#include "auth/keys.h"
#include "base/buf.h"
#include "base/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(struct keys *keys, int rc, size_t before)
{
	must(rc == 0 ? keys->n > before : keys->n == before);
	for (size_t i = 0; i < keys->n; i++) {
		must(keys->v[i].algs != 0 && (keys->v[i].algs & ~algorithm_of_kind(keys->v[i].kind)) == 0);
		must((keys->v[i].kind == KEY_HMAC) == (keys->v[i].pkey == NULL));
	}
}

/* What is left of a document has the keys of the whole, and nothing else is left out of it. */
static void
check_compact(struct slice text, const struct keys *whole)
{
	struct buf once = BUF_INIT, twice = BUF_INIT;
	struct keys keys = KEYS_INIT;
	size_t taken, skipped, n;
	char err[160];

	if (keys_compact_jwks(text, &once, &taken, &skipped, err, sizeof(err)) == -1) {
		must(once.len == 0 && whole->n == 0);
	} else {
		must(text.len > KEYS_TEXT_MAX || whole->n == taken);
		must(keys_add_jwks(&keys, buf_slice(&once), &n, err, sizeof(err)) == 0);
		must(keys.n == taken && n == 0);
		for (size_t i = 0; i < keys.n && whole->n > 0; i++)
			must((keys.v[i].kid == NULL) == (whole->v[i].kid == NULL) &&
			    (keys.v[i].kid == NULL || strcmp(keys.v[i].kid, whole->v[i].kid) == 0) &&
			    keys.v[i].algs == whole->v[i].algs);
		must(keys_compact_jwks(buf_slice(&once), &twice, &taken, &n, err, sizeof(err)) == 0);
		must(slice_eq(buf_slice(&once), buf_slice(&twice)));
	}
	keys_fini(&keys);
	buf_fini(&once);
	buf_fini(&twice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_bytes(data, size);
	struct keys keys = KEYS_INIT;
	char err[160] = "";
	size_t n;

	check(&keys, keys_add_jwks(&keys, text, NULL, err, sizeof(err)), 0);
	check_compact(text, &keys);
	n = keys.n;
	check(&keys, keys_add_pem(&keys, text, err, sizeof(err)), n);
	n = keys.n;
	check(&keys, keys_add_secret(&keys, text, false, err, sizeof(err)), n);
	keys_fini(&keys);
	return 0;
}
