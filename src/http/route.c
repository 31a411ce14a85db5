/*
 * route.c: from method and path to a line of routes.def.  Owns nothing; runs in the gateways.
 */
#include "http/route.h"
#include "http/uri.h"

#define ROUTE(name, method, path, who, body, doc) \
	[ROUTE_##name] = { #name, HTTP_##method, path, ROUTE_##who, #body, doc },
const struct route route_table[ROUTE_COUNT] = {
	[ROUTE_NONE] = { "", HTTP_OTHER, "", ROUTE_ANYONE, "NONE", "" },
#include "http/routes.def"
};
#undef ROUTE

#define SEGMENTS_MAX 6

/* A path taken apart: decoded segments, which point into text. */
struct segments {
	unsigned n;
	struct slice at[SEGMENTS_MAX];
	char text[SEGMENTS_MAX][ROUTE_PARAM_LEN];
};

/* 0, 400 or 404. */
static int
split_path(struct slice path, struct segments *s)
{
	struct slice segment;
	long len;

	s->n = 0;
	if (slice_is(path, "/"))
		return 0;
	if (path.len == 0 || path.p[0] != '/')
		return 404;
	while (uri_segment_next(&path, &segment)) {
		if (s->n == SEGMENTS_MAX || segment.len == 0)
			return 404;
		if ((len = uri_decode_to(segment, false, s->text[s->n], ROUTE_PARAM_LEN)) < 0)
			return len == -1 ? 400 : 404;
		s->at[s->n] = (struct slice){ s->text[s->n], (size_t)len };
		s->n++;
	}
	return 0;
}

/* Whether the path has this pattern; *fixed: a bit for each fixed segment, the first highest. */
static bool
has_pattern(const struct segments *s, const char *pattern, unsigned *fixed)
{
	struct slice rest = slice_of(pattern), want;
	unsigned i = 0;

	*fixed = 0;
	if (slice_is(rest, "/"))
		return s->n == 0;
	while (uri_segment_next(&rest, &want)) {
		if (i == s->n)
			return false;
		if (want.p[0] != ':') {
			if (!slice_eq(want, s->at[i]))
				return false;
			*fixed |= 1u << (SEGMENTS_MAX - i);
		}
		i++;
	}
	return i == s->n;
}

static void
take_params(const struct segments *s, const char *pattern, struct route_match *m)
{
	struct slice rest = slice_of(pattern), want;
	unsigned i;

	m->params_n = 0;
	for (i = 0; i < s->n && uri_segment_next(&rest, &want); i++) {
		unsigned n = m->params_n;

		if (want.p[0] != ':' || n == ROUTE_PARAMS_MAX)
			continue;
		memcpy(m->text[n], s->at[i].p, s->at[i].len);
		m->param[n] = (struct slice){ m->text[n], s->at[i].len };
		m->params_n++;
	}
}

/* The methods that the path has, in a fixed order. */
static void
put_allow(const unsigned methods, char allow[64])
{
	static const struct {
		enum http_method method;
		const char *text;
	} order[] = {
		{ HTTP_GET, "GET, HEAD" }, { HTTP_POST, "POST" }, { HTTP_PUT, "PUT" },
		    { HTTP_DELETE, "DELETE" },
	};
	size_t i;

	allow[0] = '\0';
	for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		if ((methods >> order[i].method & 1) == 0)
			continue;
		if (allow[0] != '\0')
			strcat(allow, ", ");
		strcat(allow, order[i].text);
	}
}

int
http_route(enum http_method method, struct slice path, struct route_match *m)
{
	unsigned methods = 0, best = 0, fixed;
	struct segments s;
	int i, rc;

	m->route = ROUTE_NONE;
	m->info = &route_table[ROUTE_NONE];
	m->params_n = 0;
	m->allow[0] = '\0';
	if ((rc = split_path(path, &s)) != 0)
		return rc;
	if (method == HTTP_HEAD)
		method = HTTP_GET;
	for (i = ROUTE_NONE + 1; i < ROUTE_COUNT; i++) {
		const struct route *r = &route_table[i];

		if (!has_pattern(&s, r->path, &fixed))
			continue;
		methods |= 1u << r->method;
		if (r->method == method && (m->route == ROUTE_NONE || fixed > best)) {
			m->route = (enum http_route)i;
			best = fixed;
		}
	}
	if (methods == 0)
		return 404;
	put_allow(methods, m->allow);
	if (m->route == ROUTE_NONE)
		return 405;
	m->info = &route_table[m->route];
	take_params(&s, m->info->path, m);
	return 0;
}
