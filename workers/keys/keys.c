/*
 * keys.c: the role that fetches key sets from their addresses (auth.jwks_url) for all gateways.
 *
 * One process, and only where settings name an address; the only one that speaks to web servers.
 * Owns a source for each address: the set as it came last, and when it is due.  A set that can't be
 * fetched again stays in use; a good answer replaces it whole, in all gateways.  What it holds is
 * lost with it and fetched anew by its successor, while the gateways go on with what they have.
 */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/keys.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/must.h"
#include "base/stats_names.h"
#include "keys/fetch.h"
#include "keys/keys.h"
#include "keys/schedule.h"
#include "msg/msg.h"

#define START_MS	5000		/* how long a start waits for the first answers */
#define PART_MAX	8192		/* bytes of a set in one record: the smallest ring takes 16 KiB */
#define FETCHES_MAX	16		/* at a time */
#define MAILBOX_BYTES	(64u << 10)

struct keys_process;

/* One address; times are monotonic. */
struct source {
	struct keys_process *process;
	char *url;			/* owned */
	struct fetch *fetch;		/* NULL: none is under way */
	struct buf text;		/* what gateways are given; empty: never fetched */
	uint64_t version;
	char *etag, *last_modified;	/* owned; what the server said of it, "" at least */
	int64_t due_ms;
	int64_t lifetime_ms;		/* of the answer last taken */
	unsigned failures;		/* in a row */
	bool tried;			/* a fetch has ended, well or not */
	/* gateways wait for the end of the fetch that is under way, or due */
	bool asked;
	int64_t asked_ms;		/* when the last fetch was asked for */
	bool ever_asked;
};

struct keys_process {
	struct worker *w;
	struct fetcher *fetcher;
	struct source **sources;	/* owned */
	size_t n;
	unsigned fetching;
	uint64_t versions;
	struct buf record;
};

/* --- records to gateways */

static void
post(struct keys_process *p, unsigned slot, uint16_t kind)
{
	struct iovec iov = { p->record.data, p->record.len };

	if (worker_post(p->w, slot, kind, &iov, 1) == -1)
		log_warn("a key set does not reach slot %u", slot);
}

static void
post_set(struct keys_process *p, const struct source *s, unsigned slot)
{
	struct msg_keys_set m = {
		.parts = (uint32_t)((s->text.len + PART_MAX - 1) / PART_MAX),
		.version = s->version, .url = slice_of(s->url)
	};

	for (m.part = 0; m.part < m.parts; m.part++) {
		size_t at = (size_t)m.part * PART_MAX, left = s->text.len - at;

		m.text = (struct slice){ s->text.data + at, left < PART_MAX ? left : PART_MAX };
		buf_clear(&p->record);
		msg_pack_keys_set(&p->record, &m);
		post(p, slot, MSG_keys_set);
	}
}

static int64_t
wait_ms(const struct keys_process *p, const struct source *s)
{
	int64_t left = s->asked_ms + p->w->conf->auth_jwks_cooldown_ms - p->w->mono_ms;

	return s->ever_asked && left > 0 ? left : 0;
}

static void
post_checked(struct keys_process *p, struct slice url, int64_t wait, unsigned slot)
{
	struct msg_keys_checked m = { .wait_ms = wait, .url = url };

	buf_clear(&p->record);
	msg_pack_keys_checked(&p->record, &m);
	post(p, slot, MSG_keys_checked);
}

static void
tell_gateways(struct keys_process *p, const struct source *s, bool changed)
{
	int slot;

	for (unsigned nth = 0; (slot = worker_slot_of(p->w, ROLE_ID_GATEWAY, nth)) != -1; nth++) {
		if (changed)
			post_set(p, s, (unsigned)slot);
		if (s->asked)
			post_checked(p, slice_of(s->url), wait_ms(p, s), (unsigned)slot);
	}
}

/* --- fetching */

static void
replace(char **at, const char *text)
{
	free(*at);
	*at = must_strndup(text, strlen(text));
}

static void
failed(struct source *s, const char *why)
{
	struct worker *w = s->process->w;
	uint32_t random;

	digest_random(&random, sizeof(random));
	worker_count(w, STAT_KEY_SETS_FAILED, 1);
	if (++s->failures == 1) {
		worker_count(w, STAT_KEY_SETS_STALE, 1);
		log_error("%s: %s; %s", s->url, why,
		    s->text.len > 0 ? "the keys fetched before stay in use" :
		    "there are no keys yet");
	} else
		log_debug("%s: %s, for the %uth time", s->url, why, s->failures);
	s->due_ms = w->mono_ms + schedule_back_off_ms(s->failures, random);
}

static void
succeeded(struct source *s, const struct fetch_answer *answer)
{
	struct worker *w = s->process->w;

	if (s->failures > 0) {
		worker_count(w, STAT_KEY_SETS_STALE, -1);
		log_info("%s: fetched again, after %u failures", s->url, s->failures);
	}
	s->failures = 0;
	/* RFC 9111 section 4.3.4: "not modified" brings new times along, or leaves the old. */
	if (answer->status != 304 || answer->cache_control.len > 0)
		s->lifetime_ms = schedule_lifetime_ms(answer->cache_control, answer->age_s,
		    w->conf->auth_jwks_refresh_ms);
	s->due_ms = w->mono_ms + s->lifetime_ms;
	if (answer->status != 304 || *answer->etag != '\0')
		replace(&s->etag, answer->etag);
	if (answer->status != 304 || *answer->last_modified != '\0')
		replace(&s->last_modified, answer->last_modified);
}

/* The set in the answer; true: it is another than before. */
static bool
take_set(struct source *s, const struct fetch_answer *answer)
{
	struct keys_process *p = s->process;
	struct buf text = BUF_INIT;
	size_t taken, skipped;
	char why[256];
	bool changed;

	if (answer->status == 304) {
		succeeded(s, answer);
		worker_count(p->w, STAT_KEY_SETS_UNCHANGED, 1);
		return false;
	}
	if (keys_compact_jwks(answer->body, &text, &taken, &skipped, why, sizeof(why)) == -1) {
		buf_fini(&text);
		failed(s, why);
		return false;
	}
	succeeded(s, answer);
	changed = !slice_eq(buf_slice(&text), buf_slice(&s->text));
	worker_count(p->w, changed ? STAT_KEY_SETS_CHANGED : STAT_KEY_SETS_UNCHANGED, 1);
	if (changed) {
		buf_fini(&s->text);
		s->text = text;
		s->version = ++p->versions;
		log_info("%s: %zu keys%s", s->url, taken,
		    skipped > 0 ? "; others are passed over: not for signatures, private, or of a "
		    "kind that is not taken" : "");
	} else
		buf_fini(&text);
	return changed;
}

static void
on_answer(void *arg, const struct fetch_answer *answer)
{
	struct source *s = arg;
	struct keys_process *p = s->process;
	bool changed = false;

	worker_clock(p->w);
	s->fetch = NULL;
	s->tried = true;
	p->fetching--;
	if (answer->status == 0)
		failed(s, answer->why);
	else
		changed = take_set(s, answer);
	if (changed || s->asked)
		tell_gateways(p, s, changed);
	s->asked = false;
}

static void
begin(struct keys_process *p, struct source *s)
{
	const struct conf *conf = p->w->conf;
	struct fetch_request request = {
		.url = s->url, .etag = s->etag, .last_modified = s->last_modified,
		.ca_pem = conf->auth_jwks_ca_file_text, .proxy = conf->auth_jwks_proxy,
		.max = KEYS_FETCHED_MAX
	};

	p->fetching++;
	s->fetch = fetch_start(p->fetcher, &request, on_answer, s);
}

static void
begin_due(struct keys_process *p)
{
	for (size_t i = 0; i < p->n && p->fetching < FETCHES_MAX; i++)
		if (p->sources[i]->fetch == NULL && p->sources[i]->due_ms <= p->w->mono_ms)
			begin(p, p->sources[i]);
}

/* --- sources */

static struct source *
find(struct source **list, size_t n, struct slice url)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] != NULL && slice_is(url, list[i]->url))
			return list[i];
	return NULL;
}

static void
source_free(struct source *s)
{
	if (s->fetch != NULL)
		s->process->fetching--;
	fetch_cancel(&s->fetch);
	if (s->failures > 0)
		worker_count(s->process->w, STAT_KEY_SETS_STALE, -1);
	free(s->url);
	free(s->etag);
	free(s->last_modified);
	buf_fini(&s->text);
	free(s);
}

/* Takes the source over from the old ones, or makes it. */
static void
add(struct keys_process *p, const char *url, struct source **old, size_t old_n)
{
	struct source *s;

	if (*url == '\0' || find(p->sources, p->n, slice_of(url)) != NULL)
		return;
	s = find(old, old_n, slice_of(url));
	for (size_t i = 0; i < old_n; i++)
		if (old[i] == s)
			old[i] = NULL;
	if (s == NULL) {
		s = must_alloc(sizeof(*s));
		s->process = p;
		replace(&s->url, url);
		replace(&s->etag, "");
		replace(&s->last_modified, "");
	}
	p->sources = must_realloc(p->sources, (p->n + 1) * sizeof(*p->sources));
	p->sources[p->n++] = s;
}

/* The sources that the settings name; what there is of them is kept. */
static void
take_up(struct keys_process *p)
{
	const struct conf *conf = p->w->conf;
	struct source **old = p->sources;
	size_t old_n = p->n;

	p->sources = NULL;
	p->n = 0;
	/* The flat one is the blocks' default, and in them already where it counts. */
	if (conf->auth_issuers_n == 0)
		add(p, conf->auth_jwks_url, old, old_n);
	for (size_t i = 0; i < conf->auth_issuers_n; i++)
		add(p, conf->auth_issuers[i].jwks_url, old, old_n);
	for (size_t i = 0; i < old_n; i++)
		if (old[i] != NULL)
			source_free(old[i]);
	free(old);
}

/* --- the role */

static bool
is_wanted(const struct conf *conf)
{
	for (size_t i = 0; i < conf->auth_issuers_n; i++)
		if (conf->auth_issuers[i].jwks_url[0] != '\0')
			return true;
	return conf->auth_issuers_n == 0 && conf->auth_jwks_url[0] != '\0';
}

static unsigned
keys_count(const struct conf *conf)
{
	return is_wanted(conf) ? 1 : 0;
}

static int
keys_check(const struct conf *conf, char *why, size_t len)
{
	if (!is_wanted(conf) || fetch_available())
		return 0;
	(void)snprintf(why, len, "auth.jwks_url: this belayd was built without libcurl, which "
	    "fetches key sets");
	return -1;
}

static bool
all_tried(const struct keys_process *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (!p->sources[i]->tried)
			return false;
	return true;
}

/* Gateways are started when this returns: in good times it has the keys by then. */
static int
keys_start(struct worker *w)
{
	static const struct timeval step = { .tv_usec = 50000 };
	struct keys_process *p = must_alloc(sizeof(*p));
	int64_t until_ms = w->mono_ms + START_MS;
	int ret;

	w->data = p;
	p->w = w;
	p->versions = (uint64_t)w->generation << 48;
	if ((p->fetcher = fetcher_new(w->base)) == NULL)
		return WORKER_HOPELESS;
	take_up(p);
	while (!all_tried(p) && w->mono_ms < until_ms) {
		begin_due(p);
		(void)event_base_loopexit(w->base, &step);
		ret = event_base_loop(w->base, EVLOOP_ONCE);
		must(ret != -1);
		worker_clock(w);
		worker_alive(w);
	}
	return 0;
}

static void
on_wanted(struct keys_process *p, const struct msg_keys_wanted *m, unsigned from)
{
	struct source *s = find(p->sources, p->n, m->url);

	/* the gateway's settings are newer, or older, for a moment */
	if (s == NULL) {
		post_checked(p, m->url, 0, from);
	} else if (!m->newer) {
		post_set(p, s, from);
		post_checked(p, m->url, wait_ms(p, s), from);
	} else if (wait_ms(p, s) == 0) {
		s->asked = s->ever_asked = true;
		s->asked_ms = p->w->mono_ms;
		s->due_ms = p->w->mono_ms;	/* one that is under way serves as well */
	} else if (!s->asked) {
		post_checked(p, m->url, wait_ms(p, s), from);
	}
}

static void
keys_mail(struct worker *w, const struct mail *mail)
{
	struct msg_keys_wanted m;
	int ret;

	must(mail->kind == MSG_keys_wanted);	/* role.c lets in what msg.def has for this role */
	ret = msg_unpack_keys_wanted(&m, mail->data, mail->len);
	must(ret == 0);
	on_wanted(w->data, &m, mail->from);
}

static void
keys_batch_end(struct worker *w)
{
	begin_due(w->data);
}

static void
keys_reload(struct worker *w)
{
	struct keys_process *p = w->data;

	take_up(p);
	for (size_t i = 0; i < p->n; i++)
		if (p->sources[i]->failures > 0)
			p->sources[i]->due_ms = w->mono_ms;
}

static void
keys_stop(struct worker *w)
{
	struct keys_process *p = w->data;

	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n; i++)
		source_free(p->sources[i]);
	free(p->sources);
	fetcher_free(&p->fetcher);
	buf_fini(&p->record);
	free(p);
	w->data = NULL;
}

const struct worker_role keys_role = {
	.id = ROLE_ID_KEYS,
	.count = keys_count,
	.check = keys_check,
	.mailbox_bytes = MAILBOX_BYTES,
	.start = keys_start,
	.mail = keys_mail,
	.batch_end = keys_batch_end,
	.reload = keys_reload,
	.stop = keys_stop,
	.drain_rank = 1
};
