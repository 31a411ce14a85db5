/*
 * http_uri_fuzz.c: percent-encoding, queries, paths and routes.  The input is a target: path?query.
 */
#include <stdint.h>

#include "base/must.h"
#include "http/route.h"
#include "http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = { (const char *)data, size }, path = text, query = SLICE_NONE, rest, name, value;
	struct buf decoded = BUF_INIT, encoded = BUF_INIT, again = BUF_INIT;
	const char *q = size > 0 ? memchr(data, '?', size) : NULL;
	struct route_match m;
	unsigned n = 0;
	int rc;

	if (uri_decode(text, false, &decoded) == 0) {
		must(decoded.len <= size && (decoded.len == 0 || memchr(data, 0, size) != NULL ||
		    memchr(decoded.data, 0, decoded.len) == NULL));
		uri_encode(&encoded, buf_slice(&decoded));
		if (decoded.len > 0 && memchr(decoded.data, 0, decoded.len) == NULL) {
			must(uri_decode(buf_slice(&encoded), true, &again) == 0);
			must(slice_eq(buf_slice(&again), buf_slice(&decoded)));
		}
	}

	if (q != NULL) {
		path.len = (size_t)(q - path.p);
		query = (struct slice){ q + 1, size - path.len - 1 };
	}
	for (rest = query; uri_query_next(&rest, &name, &value); n++) {
		must(name.len == 0 || (name.p >= text.p && name.p + name.len <= text.p + size));
		must(value.len == 0 || (value.p >= text.p && value.p + value.len <= text.p + size));
	}
	must(uri_query_count(query, "charger") <= n);
	for (rest = query; (rc = uri_query_get_next(&rest, "charger", &again, &value)) == 1; n--)
		must(n > 0);

	for (int method = HTTP_OTHER; method <= HTTP_PATCH; method++) {
		rc = http_route((enum http_method)method, path, &m);
		must(rc == 0 || rc == 400 || rc == 404 || rc == 405);
		must((rc == 0) == (m.route != ROUTE_NONE));
		must((rc == 0 || rc == 405) == (m.allow[0] != '\0'));
		for (unsigned i = 0; i < m.params_n; i++)
			must(m.param[i].len > 0 && m.param[i].len <= ROUTE_PARAM_LEN);
	}
	buf_fini(&decoded);
	buf_fini(&encoded);
	buf_fini(&again);
	return 0;
}
