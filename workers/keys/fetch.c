/*
 * fetch.c: documents from web servers, by libcurl's multi interface on libevent.  Only the keys
 * process runs it; it owns curl's handles and their events, and never blocks but for reading its
 * certificates.
 *
 * Redirects are followed here, not by libcurl, which can't tell one loopback address from another.
 *
 * libcurl is loaded when a fetcher is made.  It brings two dozen libraries along (LDAP, Kerberos, SSH,
 * RTMP...): the master, which may be root, and the processes that speak to strangers need none of them.
 */
#define CURL_DISABLE_TYPECHECK		/* its macros want the functions by their names */
#include <curl/curl.h>
#include <dlfcn.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/conf_check.h"
#include "base/log.h"
#include "base/must.h"
#include "base/version.h"
#include "keys/fetch.h"

#define CACHE_CONTROL_MAX 1024

/* All that is called of libcurl, with the types of its header: curl.easy_init() and so on. */
#define CURL_CALLS(CALL) \
	CALL(easy_cleanup) CALL(easy_getinfo) CALL(easy_init) CALL(easy_setopt) CALL(easy_strerror) \
	CALL(global_cleanup) CALL(global_init) CALL(multi_add_handle) CALL(multi_assign) \
	CALL(multi_cleanup) CALL(multi_info_read) CALL(multi_init) CALL(multi_remove_handle) \
	CALL(multi_setopt) CALL(multi_socket_action) CALL(slist_append) CALL(slist_free_all)
static struct {
#define CALL(name) __typeof__(curl_##name) *name;
	CURL_CALLS(CALL)
#undef CALL
} curl;

struct fetcher {
	struct event_base *base;
	CURLM *multi;
	struct event timer;
};

struct fetch {
	struct fetcher *fetcher;
	CURL *easy;
	struct curl_slist *fields;	/* of the request */
	void (*done)(void *arg, const struct fetch_answer *answer);
	void *arg;
	char *url;			/* as asked for */
	int64_t until_ms;		/* monotonic */
	size_t max;
	unsigned redirects;
	bool conditional, too_long;
	struct buf body, cache_control;
	int64_t age_s;
	char etag[FETCH_TAG_MAX + 1], last_modified[FETCH_TAG_MAX + 1];
	char error[CURL_ERROR_SIZE];
};

/* What libcurl refuses by a fault of ours alone; the line that must() tells is the caller's. */
#define good(call)	do { CURLMcode code_ = (call); must(code_ == CURLM_OK); } while (0)
#define is_done(call)	do { CURLcode code_ = (call); must(code_ == CURLE_OK); } while (0)
#define set_option(easy, option, value) is_done(curl.easy_setopt((easy), (option), (value)))

static void
assign(struct event *ev, struct fetcher *f, evutil_socket_t fd, short what, event_callback_fn call)
{
	int ret = event_assign(ev, f->base, fd, what, call, f);

	must(ret == 0);
}

bool
fetch_available(void)
{
	return true;
}

/* --- libcurl's sockets and timer as events */

static void take_ended(struct fetcher *f);

static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct fetcher *f = arg;
	int running, mask = (what & EV_READ ? CURL_CSELECT_IN : 0) |
	    (what & EV_WRITE ? CURL_CSELECT_OUT : 0);

	good(curl.multi_socket_action(f->multi, fd, mask, &running));
	take_ended(f);
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
	struct fetcher *f = arg;
	int running;

	(void)fd;
	(void)what;
	good(curl.multi_socket_action(f->multi, CURL_SOCKET_TIMEOUT, 0, &running));
	take_ended(f);
}

static int
want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *data)
{
	struct fetcher *f = arg;
	struct event *ev = data;

	(void)easy;
	if (ev != NULL)
		(void)event_del(ev);
	if (what == CURL_POLL_REMOVE) {
		(void)curl.multi_assign(f->multi, fd, NULL);
		free(ev);
		return 0;
	}
	if (ev == NULL) {
		ev = must_alloc(sizeof(*ev));
		good(curl.multi_assign(f->multi, fd, ev));
	}
	assign(ev, f, fd, (short)(EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
	    (what & CURL_POLL_OUT ? EV_WRITE : 0)), on_ready);
	return event_add(ev, NULL);
}

static int
want_time(CURLM *multi, long ms, void *arg)
{
	struct fetcher *f = arg;
	struct timeval when = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	(void)multi;
	return ms < 0 ? event_del(&f->timer) : event_add(&f->timer, &when);
}

/* 0; or -1, and a line was logged.  It stays loaded: its threads may outlive a fetcher. */
static int
load_curl(void)
{
	static const struct {
		const char *name;
		size_t at;
	} calls[] = {
#define CALL(name) { "curl_" #name, offsetof(__typeof__(curl), name) },
		CURL_CALLS(CALL)
#undef CALL
	};
	void *library = dlopen(CURL_SONAME, RTLD_NOW | RTLD_LOCAL), *function;

	for (size_t i = 0; library != NULL && i < sizeof(calls) / sizeof(calls[0]); i++) {
		if ((function = dlsym(library, calls[i].name)) == NULL)
			library = NULL;
		else
			memcpy((char *)&curl + calls[i].at, &function, sizeof(function));
	}
	if (library == NULL)
		log_error("libcurl, which fetches key sets, can't be loaded: %s", dlerror());
	return library != NULL ? 0 : -1;
}

struct fetcher *
fetcher_new(struct event_base *base)
{
	struct fetcher *f;

	if (load_curl() == -1)
		return NULL;
	f = must_alloc(sizeof(*f));
	f->base = base;
	is_done(curl.global_init(CURL_GLOBAL_DEFAULT));
	f->multi = curl.multi_init();
	must(f->multi != NULL);
	assign(&f->timer, f, -1, 0, on_time);
	good(curl.multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, want_socket));
	good(curl.multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f));
	good(curl.multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, want_time));
	good(curl.multi_setopt(f->multi, CURLMOPT_TIMERDATA, f));
	return f;
}

void
fetcher_free(struct fetcher **fetcher)
{
	struct fetcher *f = *fetcher;

	*fetcher = NULL;
	if (f == NULL)
		return;
	curl.multi_cleanup(f->multi);
	(void)event_del(&f->timer);
	curl.global_cleanup();
	free(f);
}

/* --- what comes */

static size_t
on_body(char *p, size_t one, size_t n, void *arg)
{
	struct fetch *fetch = arg;

	(void)one;
	if (n > fetch->max - fetch->body.len) {
		fetch->too_long = true;
		return 0;
	}
	buf_put(&fetch->body, p, n);
	return n;
}

/* The value behind the field's name, if it is that; without white space around. */
static bool
is_field(struct slice line, const char *name, struct slice *value)
{
	size_t len = strlen(name);

	if (line.len <= len || line.p[len] != ':' || strncasecmp(line.p, name, len) != 0)
		return false;
	line.p += len + 1;
	line.len -= len + 1;
	while (line.len > 0 && (*line.p == ' ' || *line.p == '\t')) {
		line.p++;
		line.len--;
	}
	while (line.len > 0 && strchr(" \t\r\n", line.p[line.len - 1]) != NULL)
		line.len--;
	*value = line;
	return true;
}

/* What will be sent back as it is: not too long, and nothing but printable characters. */
static void
keep_tag(char out[FETCH_TAG_MAX + 1], struct slice value)
{
	out[0] = '\0';
	if (value.len > FETCH_TAG_MAX)
		return;
	for (size_t i = 0; i < value.len; i++)
		if ((unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f)
			return;
	memcpy(out, value.p, value.len);
	out[value.len] = '\0';
}

static void
forget_answer(struct fetch *fetch)
{
	buf_clear(&fetch->body);
	buf_clear(&fetch->cache_control);
	fetch->age_s = 0;
	fetch->etag[0] = fetch->last_modified[0] = '\0';
}

static size_t
on_field(char *p, size_t one, size_t n, void *arg)
{
	struct fetch *fetch = arg;
	struct slice line = { p, n }, value;

	(void)one;
	if (n >= 5 && memcmp(p, "HTTP/", 5) == 0)
		forget_answer(fetch);	/* the fields before were of an interim answer */
	else if (is_field(line, "Cache-Control", &value)) {
		if (fetch->cache_control.len + value.len + 2 <= CACHE_CONTROL_MAX) {
			buf_put_slice(&fetch->cache_control, value);
			buf_puts(&fetch->cache_control, ", ");
		}
	} else if (is_field(line, "ETag", &value))
		keep_tag(fetch->etag, value);
	else if (is_field(line, "Last-Modified", &value))
		keep_tag(fetch->last_modified, value);
	else if (is_field(line, "Age", &value) && value.len > 0 && value.len < 10) {
		fetch->age_s = 0;
		for (size_t i = 0; i < value.len && value.p[i] >= '0' && value.p[i] <= '9'; i++)
			fetch->age_s = fetch->age_s * 10 + (value.p[i] - '0');
	}
	return n;
}

/* --- one fetch */

static bool
is_https(const char *url)
{
	return strncmp(url, "https://", 8) == 0;
}

/* Length of scheme, host and port. */
static size_t
origin_len(const char *url)
{
	const char *host = strstr(url, "://") + 3;

	return (size_t)(host - url) + strcspn(host, "/?#");
}

static bool
may_redirect(const struct fetch *fetch, const char *to)
{
	char why[CONF_WHY_LEN];
	size_t len = origin_len(fetch->url);

	if (*to == '\0' || conf_check_https_url_or_none(to, why) == -1)
		return false;
	return is_https(to) || (!is_https(fetch->url) && origin_len(to) == len &&
	    strncmp(to, fetch->url, len) == 0);
}

static void
go(struct fetch *fetch, const char *url)
{
	int64_t left = fetch->until_ms - clock_mono_ms();

	set_option(fetch->easy, CURLOPT_URL, url);
	set_option(fetch->easy, CURLOPT_PROTOCOLS_STR, is_https(url) ? "https" : "http");
	set_option(fetch->easy, CURLOPT_TIMEOUT_MS, (long)(left > 1 ? left : 1));
	good(curl.multi_add_handle(fetch->fetcher->multi, fetch->easy));
}

static void
add_field(struct fetch *fetch, const char *name, const char *value)
{
	struct buf line = BUF_INIT;

	buf_printf(&line, "%s: %s", name, value);
	buf_putc(&line, '\0');
	fetch->fields = curl.slist_append(fetch->fields, line.data);
	must(fetch->fields != NULL);
	buf_fini(&line);
}

static void
set_options(struct fetch *fetch, const struct fetch_request *r)
{
	CURL *easy = fetch->easy;

	set_option(easy, CURLOPT_PRIVATE, fetch);
	set_option(easy, CURLOPT_ERRORBUFFER, fetch->error);
	set_option(easy, CURLOPT_WRITEFUNCTION, on_body);
	set_option(easy, CURLOPT_WRITEDATA, fetch);
	set_option(easy, CURLOPT_HEADERFUNCTION, on_field);
	set_option(easy, CURLOPT_HEADERDATA, fetch);
	set_option(easy, CURLOPT_HTTPHEADER, fetch->fields);
	set_option(easy, CURLOPT_USERAGENT, "belayd/" BELAY_VERSION);
	set_option(easy, CURLOPT_NOSIGNAL, 1L);
	/*
	 * A name that is still being looked up when time is over is left to its thread: waiting for
	 * that would block.
	 */
	set_option(easy, CURLOPT_QUICK_EXIT, 1L);
	set_option(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)FETCH_CONNECT_MS);
	set_option(easy, CURLOPT_FOLLOWLOCATION, 0L);
	set_option(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	set_option(easy, CURLOPT_FORBID_REUSE, 1L);	/* the next fetch is minutes away */
	set_option(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)r->max);
	/* "": none, whatever the environment says */
	set_option(easy, CURLOPT_PROXY, r->proxy);
	set_option(easy, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
	set_option(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	set_option(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	set_option(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (*r->ca_pem != '\0') {
		struct curl_blob pem = { (void *)(uintptr_t)r->ca_pem, strlen(r->ca_pem),
		    CURL_BLOB_COPY };

		set_option(easy, CURLOPT_CAINFO_BLOB, &pem);
		set_option(easy, CURLOPT_CAPATH, NULL);
	}
}

struct fetch *
fetch_start(struct fetcher *fetcher, const struct fetch_request *r,
    void (*done)(void *arg, const struct fetch_answer *answer), void *arg)
{
	struct fetch *fetch = must_alloc(sizeof(*fetch));

	fetch->fetcher = fetcher;
	fetch->done = done;
	fetch->arg = arg;
	fetch->url = must_strndup(r->url, strlen(r->url));
	fetch->max = r->max;
	fetch->until_ms = clock_mono_ms() + FETCH_TOTAL_MS;
	fetch->conditional = *r->etag != '\0' || *r->last_modified != '\0';
	add_field(fetch, "Accept", "application/jwk-set+json, application/json");
	if (*r->etag != '\0')
		add_field(fetch, "If-None-Match", r->etag);
	else if (*r->last_modified != '\0')
		add_field(fetch, "If-Modified-Since", r->last_modified);
	fetch->easy = curl.easy_init();
	must(fetch->easy != NULL);
	set_options(fetch, r);
	go(fetch, fetch->url);
	return fetch;
}

void
fetch_cancel(struct fetch **at)
{
	struct fetch *fetch = *at;

	*at = NULL;
	if (fetch == NULL)
		return;
	(void)curl.multi_remove_handle(fetch->fetcher->multi, fetch->easy);
	curl.easy_cleanup(fetch->easy);
	curl.slist_free_all(fetch->fields);
	buf_fini(&fetch->body);
	buf_fini(&fetch->cache_control);
	free(fetch->url);
	free(fetch);
}

static void
finish(struct fetch *fetch, int status, const char *why)
{
	struct fetch_answer answer = {
		.status = status, .why = why, .body = buf_slice(&fetch->body),
		.cache_control = buf_slice(&fetch->cache_control), .age_s = fetch->age_s,
		.etag = fetch->etag, .last_modified = fetch->last_modified
	};

	fetch->done(fetch->arg, &answer);
	fetch_cancel(&fetch);
}

static void
on_end(struct fetch *fetch, CURLcode code)
{
	char why[CURL_ERROR_SIZE + 64];
	long status = 0;
	char *to = NULL;

	if (code != CURLE_OK) {
		if (fetch->too_long || code == CURLE_FILESIZE_EXCEEDED)
			(void)snprintf(why, sizeof(why), "the answer has more than %zu bytes",
			    fetch->max);
		else
			(void)snprintf(why, sizeof(why), "%s",
			    fetch->error[0] != '\0' ? fetch->error : curl.easy_strerror(code));
		finish(fetch, 0, why);
		return;
	}
	(void)curl.easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status == 200 || (status == 304 && fetch->conditional)) {
		finish(fetch, (int)status, "");
		return;
	}
	(void)curl.easy_getinfo(fetch->easy, CURLINFO_REDIRECT_URL, &to);
	if (status >= 301 && status <= 308 && status != 304 && to != NULL) {
		if (fetch->redirects == FETCH_REDIRECTS) {
			finish(fetch, 0, "more redirects than are followed");
		} else if (!may_redirect(fetch, to)) {
			finish(fetch, 0, "a redirect to an address that is not taken");
		} else {
			char *url = must_strndup(to, strlen(to));

			fetch->redirects++;
			(void)curl.multi_remove_handle(fetch->fetcher->multi, fetch->easy);
			forget_answer(fetch);
			go(fetch, url);
			free(url);
		}
		return;
	}
	(void)snprintf(why, sizeof(why), "the server answered with status %ld", status);
	finish(fetch, 0, why);
}

static void
take_ended(struct fetcher *f)
{
	CURLMsg *m;
	int left;

	while ((m = curl.multi_info_read(f->multi, &left)) != NULL) {
		char *fetch = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &fetch);
		on_end((struct fetch *)(void *)fetch, m->data.result);
	}
}
