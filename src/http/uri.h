/*
 * uri.h: percent-encoding, paths and queries (RFC 3986).
 */
#ifndef BELAY_HTTP_URI_H
#define BELAY_HTTP_URI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"

/* Appends the decoded text.  -1: malformed, or it has a %00; out is as before. */
int uri_decode(struct slice text, bool plus, struct buf *out);	/* plus: '+' is a space (queries) */
/* The same into room bytes.  The decoded length; -1: malformed; -2: it does not fit. */
long uri_decode_to(struct slice text, bool plus, char *to, size_t room);
/* Everything but unreserved characters as %XX. */
void uri_encode(struct buf *out, struct slice text);

/*
 * The next segment of a path, raw: "/a//b/" has "a", "", "b", "".  *rest
 * starts as the path.  false at the end.
 */
bool uri_segment_next(struct slice *rest, struct slice *segment);

/*
 * The next parameter of a query, raw.  *rest starts as the query; empty ones
 * ("&&") are skipped.  "a" has the value "".
 */
bool uri_query_next(struct slice *rest, struct slice *name, struct slice *value);

/*
 * The first parameter of that name.  1 and its decoded value appended to
 * scratch, *value pointing to it (a later append may move it); 0: there is
 * none; -1: its value is malformed.
 */
int uri_query_get(struct slice query, const char *name, struct buf *scratch, struct slice *value);
/* The same for an id or a token: no space can be in one, and '+' stands for itself (RFC 3986). */
int uri_query_get_id(struct slice query, const char *name, struct buf *scratch, struct slice *value);
/* The same for a parameter that may be repeated; *rest starts as the query. */
int uri_query_get_next(struct slice *rest, const char *name, struct buf *scratch,
    struct slice *value);
unsigned uri_query_count(struct slice query, const char *name);

#endif
