/*
 * web.h: HTTP/1.1 as a client (RFC 9112): reads a response strictly, sends a
 * request and waits for the answer.
 */
#ifndef BELAY_CTL_WEB_H
#define BELAY_CTL_WEB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "belayctl/line.h"
#include "belayctl/url.h"

#define WEB_FIELDS_MAX 64
#define WEB_HEAD_MAX (16 * 1024)
#define WEB_BODY_MAX (16 * 1024 * 1024)

struct web_head {
	int status;
	int minor;			/* of HTTP/1.x */
	unsigned nfields;
	struct {
		struct slice name, value;	/* borrowed; the value without space around it */
	} field[WEB_FIELDS_MAX];
};

/* Its length; 0: more bytes are needed; -1: this is not an HTTP/1.x response. */
long web_head_parse(const char *p, size_t len, struct web_head *out);
/* The first field of this name (compared without case); SLICE_NONE when absent. */
struct slice web_head_field(const struct web_head *h, const char *name);

/*
 * How a body ends, of a response to a method other than HEAD.  -1: contradictory or malformed
 * fields.
 */
enum web_framing { WEB_NONE, WEB_LENGTH, WEB_CHUNKED, WEB_UNTIL_CLOSE };
int web_framing(const struct web_head *h, enum web_framing *how, uint64_t *length);

/* A server that requests go to one after the other, over one connection while it lasts. */
struct web {
	struct url url;			/* scheme and authority count */
	struct line_addresses addresses;
	struct line_tls *tls;		/* borrowed */
	struct line line;
	bool open;
};

struct web_request {
	const char *method, *target;
	const char *token;		/* NULL: none */
	const char *extra;		/* further fields, each with CRLF; NULL: none */
	const char *body;		/* JSON; NULL: none */
	int64_t timeout_ms;
};

struct web_answer {
	int status;
	struct buf body;		/* owned; NUL-terminated beyond its length */
	char type[64];			/* media type */
	int64_t date_ms;		/* of the Date field; 0: none */
	unsigned retry_after_s;		/* 0: not told, or told as a date */
	enum line_fault fault;		/* when web_send() failed */
	char why[256];
};

/* Resolves the name; -1 with *why. */
int web_open(struct web *w, const struct url *u, struct line_tls *tls, const char **why);
void web_close(struct web *w);

/*
 * 0: an answer came (of any status); -1: none, out->why says why.  A request is sent again when a
 * kept connection ended before a byte of the answer came; all of ours can bear that.
 */
int web_send(struct web *w, const struct web_request *r, struct web_answer *out);
void web_answer_fini(struct web_answer *a);

/* An HTTP date (RFC 9110 section 5.6.7, IMF-fixdate) to ms; 0 when it is not one. */
int64_t web_date(struct slice text);

#endif
