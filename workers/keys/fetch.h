/*
 * fetch.h: one document from a web server, by libcurl on the worker's event loop.
 *
 * Nothing of the environment counts: no proxy, no cookies, no .netrc.  A document is taken as it
 * comes: no compression is asked for, none is undone.
 */
#ifndef BELAY_KEYS_FETCH_H
#define BELAY_KEYS_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct event_base;
struct fetch;
struct fetcher;

#define FETCH_CONNECT_MS	5000
#define FETCH_TOTAL_MS		10000	/* redirects included */
#define FETCH_REDIRECTS		3
#define FETCH_TAG_MAX		255	/* bytes of an ETag or date that is sent back */

struct fetch_request {
	const char *url;		/* one that conf_check_https_url_or_none() takes */
	const char *etag;		/* of the document there is; "": none */
	const char *last_modified;	/* "": none */
	const char *ca_pem;		/* authorities that are trusted; "": those of the system */
	const char *proxy;		/* its URL; "": none */
	size_t max;			/* bytes; a longer document is a failure */
};

/* Valid only during the call that brings it. */
struct fetch_answer {
	int status;			/* 200; 304 where the request had a condition; 0: failed */
	const char *why;		/* of a failure: a sentence without the URL */
	struct slice body;
	struct slice cache_control;	/* all lines, joined by commas */
	int64_t age_s;			/* 0: not said */
	const char *etag, *last_modified;	/* "": none */
};

/* Was libcurl built in?  If not, nothing else here may be called. */
bool fetch_available(void);

/* Loads libcurl into this process.  NULL: it is not there (a line was logged). */
struct fetcher *fetcher_new(struct event_base *base);
/* All its fetches must be over or cancelled. */
void fetcher_free(struct fetcher **fetcher);

/*
 * Begins a fetch.  done is called once, from the event loop, never before this returns; the fetch
 * is freed behind it. The request is not referred to afterwards.
 */
struct fetch *fetch_start(struct fetcher *fetcher, const struct fetch_request *request,
    void (*done)(void *arg, const struct fetch_answer *answer), void *arg);
/* done is not called.  NULL is harmless. */
void fetch_cancel(struct fetch **fetch);

#endif
