/*
 * keysets.c: key sets by URL in one gateway process: asks the keys process, hands sets over to
 * auth/verify.h, and holds what a token is for until it is known whether its key is new.  Never
 * speaks to the network outside.
 */
#include <stdlib.h>
#include <string.h>

#include "auth/keys.h"
#include "base/log.h"
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/keysets.h"
#include "gateway/session.h"
#include "gateway/upgrade.h"

#define ANSWER_MS 12000			/* a fetch may take 10 s */

enum held_kind { HELD_UPGRADE, HELD_REQUEST, HELD_REFRESH };

struct held {
	struct held *newer;
	uint64_t ref;
	size_t keyset;
	int64_t until_ms;		/* monotonic */
	enum held_kind kind;
	bool has_re;
	size_t re_len, token_len;
	char text[];			/* the token and, of a refresh, the message's id */
};

/* --- which sets there are */

static struct keyset *
find(struct keysets *k, struct slice url)
{
	for (size_t i = 0; i < k->n; i++)
		if (slice_is(url, k->v[i].url))
			return &k->v[i];
	return NULL;
}

/* The set of an issuer; NULL: it has none by URL. */
static struct keyset *
find_issuer(struct gateway *g, const char *issuer)
{
	const struct conf *conf = g->conf;

	if (conf->auth_issuers_n == 0)
		return find(&g->keysets, slice_of(conf->auth_jwks_url));
	for (size_t i = 0; i < conf->auth_issuers_n; i++)
		if (strcmp(conf->auth_issuers[i].issuer, issuer) == 0)
			return find(&g->keysets, slice_of(conf->auth_issuers[i].jwks_url));
	return NULL;
}

/* Asks the keys process; false: there is none. */
static bool
ask(struct gateway *g, struct keyset *set, bool newer)
{
	struct msg_keys_wanted m = { .newer = newer, .url = slice_of(set->url) };

	buf_clear(&g->record);
	msg_pack_keys_wanted(&g->record, &m);
	if (gateway_post(g, worker_slot_of(g->w, ROLE_ID_KEYS, 0), MSG_keys_wanted) == -1)
		return false;
	set->stage = newer ? KEYSET_ASKED_NEWER : KEYSET_ASKED_PRESENT;
	set->until_ms = g->w->mono_ms + ANSWER_MS;
	return true;
}

/* Hands the text to all issuers that have it from this URL. */
static void
install(struct gateway *g, const struct keyset *set)
{
	const struct conf *conf = g->conf;
	size_t n = conf->auth_issuers_n;
	char err[256];

	for (size_t i = 0; i < (n > 0 ? n : 1); i++) {
		const char *url = n > 0 ? conf->auth_issuers[i].jwks_url : conf->auth_jwks_url;
		const char *issuer = n > 0 ? conf->auth_issuers[i].issuer : conf->auth_issuer;

		if (strcmp(url, set->url) == 0 &&
		    auth_jwks_install(g->auth, issuer, buf_slice(&set->text), err,
		    sizeof(err)) == -1)
			log_error("%s: %s", url, err);
	}
}

static void
add(struct keysets *fresh, struct keysets *old, const char *url)
{
	struct keyset *known = find(old, slice_of(url));

	if (*url == '\0' || find(fresh, slice_of(url)) != NULL)
		return;
	fresh->v = must_realloc(fresh->v, (fresh->n + 1) * sizeof(*fresh->v));
	fresh->v[fresh->n] = (struct keyset){ .url = must_strndup(url, strlen(url)) };
	if (known != NULL) {
		fresh->v[fresh->n].text = known->text;
		known->text = (struct buf)BUF_INIT;
		fresh->v[fresh->n].stage = known->stage;
		fresh->v[fresh->n].until_ms = known->until_ms;
		fresh->v[fresh->n].again_ms = known->again_ms;
	}
	fresh->n++;
}

static void
free_sets(struct keysets *k)
{
	for (size_t i = 0; i < k->n; i++) {
		free(k->v[i].url);
		buf_fini(&k->v[i].text);
	}
	free(k->v);
	k->v = NULL;
	k->n = 0;
}

void
keysets_take_up(struct gateway *g)
{
	struct keysets *k = &g->keysets, fresh = { .n = 0 };
	const struct conf *conf = g->conf;

	if (conf->auth_issuers_n == 0)
		add(&fresh, k, conf->auth_jwks_url);
	for (size_t i = 0; i < conf->auth_issuers_n; i++)
		add(&fresh, k, conf->auth_issuers[i].jwks_url);
	for (struct held *h = k->oldest; h != NULL; h = h->newer) {
		struct keyset *set = h->keyset < k->n ?
		    find(&fresh, slice_of(k->v[h->keyset].url)) : NULL;

		if (set != NULL)
			h->keyset = (size_t)(set - fresh.v);
		else {
			h->keyset = 0;
			h->until_ms = 0;	/* the next tick lets it go */
		}
	}
	free_sets(k);
	k->v = fresh.v;
	k->n = fresh.n;
	for (size_t i = 0; i < k->n; i++) {
		if (k->v[i].text.len > 0)
			install(g, &k->v[i]);
		else if (k->v[i].stage == KEYSET_QUIET)
			(void)ask(g, &k->v[i], false);
	}
}

/* --- what waits */

bool
keysets_unknown_kid(void *arg, const char *issuer)
{
	struct gateway *g = arg;
	struct keysets *k = &g->keysets;
	struct keyset *set = find_issuer(g, issuer);

	if (set == NULL || k->last_word)
		return false;
	if (set->stage == KEYSET_QUIET) {
		if (g->w->mono_ms < set->again_ms || !ask(g, set, true))
			return false;
		gateway_count(g, KEY_SETS_ASKED, 1);
	}
	k->wanted = (size_t)(set - k->v);
	return k->held < KEYSETS_HELD_MAX;
}

static void
hold(struct gateway *g, struct conn *c, enum held_kind kind, struct slice re, struct slice token)
{
	struct keysets *k = &g->keysets;
	struct held *h = must_alloc(sizeof(*h) + token.len + re.len);

	h->ref = conn_ref(g, c);
	h->keyset = k->wanted;
	h->until_ms = g->w->mono_ms + KEYSETS_HOLD_MS;
	h->kind = kind;
	h->has_re = re.p != NULL;
	h->re_len = re.len;
	h->token_len = token.len;
	if (token.len > 0)
		memcpy(h->text, token.p, token.len);
	if (re.len > 0)
		memcpy(h->text + token.len, re.p, re.len);
	if (k->newest != NULL)
		k->newest->newer = h;
	else
		k->oldest = h;
	k->newest = h;
	k->held++;
	gateway_count(g, TOKENS_HELD, 1);
}

void
keysets_hold_upgrade(struct gateway *g, struct conn *c, struct slice token)
{
	hold(g, c, HELD_UPGRADE, SLICE_NONE, token);
	upgrade_wait(g, c);
}

void
keysets_hold_request(struct gateway *g, struct conn *c)
{
	hold(g, c, HELD_REQUEST, SLICE_NONE, SLICE_NONE);
	http_hold(g, c);
}

void
keysets_hold_refresh(struct gateway *g, struct conn *c, struct slice re, struct slice token)
{
	hold(g, c, HELD_REFRESH, re, token);
}

static void
judge(struct gateway *g, struct held *h)
{
	struct conn *c = conn_of_ref(g, h->ref);
	struct slice token = { h->text, h->token_len };
	struct slice re = h->has_re ? (struct slice){ h->text + h->token_len, h->re_len } :
	    SLICE_NONE;

	if (c != NULL && h->kind == HELD_UPGRADE && conn_phase(c) == CONN_AUTH)
		upgrade_with_token(g, c, token);
	else if (c != NULL && h->kind == HELD_REQUEST && conn_phase(c) == CONN_HTTP)
		http_unhold(g, c);
	else if (c != NULL && h->kind == HELD_REFRESH && conn_phase(c) == CONN_OPEN)
		session_refresh(g, c, re, token);
	free(h);
}

/* Takes out of the list what has waited for this set, or (NULL) for too long, and judges it. */
static void
let_go(struct gateway *g, const struct keyset *set, bool last_word)
{
	struct keysets *k = &g->keysets;
	struct held *h, **at = &k->oldest, *go = NULL, **last = &go, *kept = NULL;

	while ((h = *at) != NULL) {
		if (set != NULL ? &k->v[h->keyset] == set : h->until_ms <= g->w->mono_ms) {
			*at = h->newer;
			h->newer = NULL;
			*last = h;
			last = &h->newer;
			k->held--;
		} else {
			kept = h;
			at = &h->newer;
		}
	}
	k->newest = kept;
	k->last_word = last_word;
	while ((h = go) != NULL) {
		go = h->newer;
		judge(g, h);
	}
	k->last_word = false;
}

/* --- records */

void
keysets_part(struct gateway *g, const struct msg_keys_set *m)
{
	struct keysets *k = &g->keysets;
	struct keyset *set;
	struct buf text;

	if (m->part == 0) {
		buf_clear(&k->coming);
		k->coming_version = m->version;
		k->coming_part = 0;
	}
	/*
	 * The rest of a set whose beginning a predecessor read, or whose sender died before its
	 * end.
	 */
	if (m->version != k->coming_version || m->part != k->coming_part)
		return;
	must(m->parts > m->part && k->coming.len + m->text.len <= KEYS_TEXT_MAX);
	buf_put_slice(&k->coming, m->text);
	if (++k->coming_part < m->parts)
		return;
	k->coming_part = UINT32_MAX;
	if ((set = find(k, m->url)) != NULL) {
		text = set->text;
		set->text = k->coming;
		k->coming = text;
		install(g, set);
	}
	buf_fini(&k->coming);
}

void
keysets_checked(struct gateway *g, const struct msg_keys_checked *m)
{
	struct keyset *set = find(&g->keysets, m->url);
	bool was_newer;

	if (set == NULL)
		return;
	was_newer = set->stage == KEYSET_ASKED_NEWER;
	set->stage = KEYSET_QUIET;
	set->again_ms = g->w->mono_ms + m->wait_ms;
	/* Who only waited for this process to have what there is may still ask for more. */
	let_go(g, set, was_newer);
}

void
keysets_tick(struct gateway *g)
{
	struct keysets *k = &g->keysets;

	for (size_t i = 0; i < k->n; i++)
		if (k->v[i].stage != KEYSET_QUIET && k->v[i].until_ms <= g->w->mono_ms)
			k->v[i].stage = KEYSET_QUIET;
	if (k->oldest != NULL && k->oldest->until_ms <= g->w->mono_ms)
		let_go(g, NULL, true);
}

void
keysets_fini(struct gateway *g)
{
	struct keysets *k = &g->keysets;
	struct held *h;

	while ((h = k->oldest) != NULL) {
		k->oldest = h->newer;
		free(h);
	}
	free_sets(k);
	buf_fini(&k->coming);
}
