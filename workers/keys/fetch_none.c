/*
 * fetch_none.c: takes the place of fetch.c where libcurl is left out.  The role has no process
 * then.
 */
#include "base/must.h"
#include "keys/fetch.h"

bool
fetch_available(void)
{
	return false;
}

struct fetcher *
fetcher_new(struct event_base *base)
{
	(void)base;
	must(!"libcurl is there");
	return NULL;
}

void
fetcher_free(struct fetcher **fetcher)
{
	*fetcher = NULL;
}

struct fetch *
fetch_start(struct fetcher *fetcher, const struct fetch_request *request,
    void (*done)(void *arg, const struct fetch_answer *answer), void *arg)
{
	(void)fetcher;
	(void)request;
	(void)done;
	(void)arg;
	must(!"libcurl is there");
	return NULL;
}

void
fetch_cancel(struct fetch **fetch)
{
	*fetch = NULL;
}
