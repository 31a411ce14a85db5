/*
 * sqlite_links.c: which events and commands are a device's, in SQLite.  Storage notes them, and owns what of that
 * was not written yet; readers and storage look them up.
 *
 * The newest numbers of a device lie in its tail, up to LINKS_MAX of each kind; a full run goes to the end of a table
 * of its own (sql/sqlite/0007_links.sql says why, and how a run is written).  The tail of a device that something
 * happened to is written once for each transaction, just before its COMMIT.
 */
#include <stdlib.h>

#include "base/must.h"
#include "db/sqlite.h"

#define TAILS		4096		/* devices remembered; a power of two */
#define NUMBER_MAX	20		/* characters of a number and a blank */
#define RUN_BYTES	128

struct run {
	int64_t last;
	uint8_t count, len;
	char text[RUN_BYTES];
};

struct sqlite_tail {
	int64_t device_pk;		/* 0: none */
	bool dirty;			/* the table has an older one */
	bool listed;			/* in sqlite_tails.changed */
	struct run run[LINKS_KINDS];
};

struct sqlite_tails {
	unsigned count;
	uint16_t changed[TAILS];
	struct sqlite_tail tail[TAILS];	/* each device has one place */
};

static const enum sqlite_statement
    store_statement[] = { STMT_links_event_store, STMT_links_command_store },
    below_statement[] = { STMT_links_event_below, STMT_links_command_below },
    from_statement[] = { STMT_links_event_from, STMT_links_command_from };

/* The numbers of a run; how many. */
static unsigned
run_numbers(struct slice text, int64_t out[LINKS_MAX])
{
	unsigned n = 0;
	int64_t last = 0, number = 0;

	for (size_t i = 0; i <= text.len && text.len > 0 && n < LINKS_MAX; i++) {
		if (i < text.len && text.p[i] != ' ') {
			number = (int64_t)((uint64_t)number * 10 + (uint64_t)(text.p[i] - '0'));
			continue;
		}
		out[n++] = last = (int64_t)((uint64_t)last + (uint64_t)number);
		number = 0;
	}
	return n;
}

static struct slice
run_text(const struct run *r)
{
	return (struct slice){ r->text, r->len };
}

static void
run_read(struct run *r, struct slice text)
{
	int64_t numbers[LINKS_MAX];
	unsigned n = text.len <= sizeof(r->text) ? run_numbers(text, numbers) : 0;

	r->count = (uint8_t)n;
	r->len = (uint8_t)(n > 0 ? text.len : 0);
	r->last = n > 0 ? numbers[n - 1] : 0;
	if (r->len > 0)
		memcpy(r->text, text.p, r->len);
}

static void
run_add(struct run *r, int64_t pk)
{
	char digits[NUMBER_MAX];
	uint64_t v = (uint64_t)(pk - (r->count > 0 ? r->last : 0));
	size_t n = sizeof(digits);

	do
		digits[--n] = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	if (r->count > 0)
		digits[--n] = ' ';
	memcpy(r->text + r->len, digits + n, sizeof(digits) - n);
	r->len = (uint8_t)(r->len + sizeof(digits) - n);
	r->last = pk;
	r->count++;
}

static bool
run_is_full(const struct run *r)
{
	return r->count == LINKS_MAX || r->len > RUN_BYTES - NUMBER_MAX;
}

static enum db_result
tail_read(struct sqlite_db *s, int64_t device_pk, struct sqlite_tail *t)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_tail_get);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	if ((result = sqlite_row(s, st)) == DB_FAILED)
		return DB_FAILED;
	for (int kind = 0; kind < LINKS_KINDS; kind++)
		run_read(&t->run[kind], result == DB_OK ? col_slice(st, kind) : SLICE_NONE);
	if (result == DB_OK)
		sqlite3_reset(st);
	t->device_pk = device_pk;
	return DB_OK;
}

static enum db_result
tail_write(struct sqlite_db *s, struct sqlite_tail *t)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_tail_put);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, t->device_pk);
	for (int kind = 0; kind < LINKS_KINDS; kind++)
		bind_text(st, 2 + kind, run_text(&t->run[kind]));
	t->dirty = false;
	return sqlite_run(s, st, NULL);
}

/* The writer's, remembered; NULL: DB_FAILED. */
static struct sqlite_tail *
tail_of(struct sqlite_db *s, int64_t device_pk)
{
	struct sqlite_tail *t;

	if (s->tails == NULL)
		s->tails = must_alloc(sizeof(*s->tails));
	t = &s->tails->tail[(uint64_t)device_pk & (TAILS - 1)];
	if (t->device_pk == device_pk)
		return t;
	if (t->dirty && tail_write(s, t) != DB_OK)
		return NULL;
	t->device_pk = 0;
	return tail_read(s, device_pk, t) == DB_OK ? t : NULL;
}

static enum db_result
run_store(struct sqlite_db *s, enum sqlite_links kind, int64_t device_pk, struct run *r)
{
	sqlite3_stmt *st = sqlite_use(s, store_statement[kind]);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, r->last);
	bind_i64(st, 2, device_pk);
	bind_text(st, 3, run_text(r));
	result = sqlite_run(s, st, NULL);
	r->count = r->len = 0;
	return result;
}

enum db_result
sqlite_links_add(struct sqlite_db *s, enum sqlite_links kind, int64_t device_pk, int64_t pk)
{
	struct sqlite_tail *t = tail_of(s, device_pk);
	struct run *r;

	if (t == NULL)
		return DB_FAILED;
	r = &t->run[kind];
	must(r->count == 0 || pk > r->last);
	if (run_is_full(r) && run_store(s, kind, device_pk, r) != DB_OK)
		return DB_FAILED;
	run_add(r, pk);
	t->dirty = true;
	if (!t->listed) {
		t->listed = true;
		s->tails->changed[s->tails->count++] = (uint16_t)(t - s->tails->tail);
	}
	return sqlite3_get_autocommit(s->handle) ? sqlite_links_write(s) : DB_OK;
}

enum db_result
sqlite_links_write(struct sqlite_db *s)
{
	struct sqlite_tails *all = s->tails;

	while (all != NULL && all->count > 0) {
		struct sqlite_tail *t = &all->tail[all->changed[--all->count]];

		t->listed = false;
		if (t->dirty && tail_write(s, t) != DB_OK)
			return DB_FAILED;
	}
	return DB_OK;
}

void
sqlite_links_forget(struct sqlite_db *s)
{
	free(s->tails);
	s->tails = NULL;
}

/* Looking up */

/* Keeps those that are behind the number. */
static unsigned
cut(int64_t pk[LINKS_MAX], unsigned n, int64_t behind, bool up)
{
	unsigned at = 0;

	if (!up) {
		while (n > 0 && pk[n - 1] >= behind)
			n--;
		return n;
	}
	while (at < n && pk[at] <= behind)
		at++;
	memmove(pk, pk + at, (n - at) * sizeof(*pk));
	return n - at;
}

/* Of the run that the statement finds. */
static enum db_result
cut_stored(struct sqlite_db *s, enum sqlite_statement which, int64_t device_pk, int64_t number, int64_t behind,
    struct sqlite_run *out)
{
	sqlite3_stmt *st = sqlite_use(s, which);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_i64(st, 2, number);
	if ((result = sqlite_row(s, st)) != DB_OK)
		return result;
	out->count = cut(out->pk, run_numbers(col_slice(st, 0), out->pk), behind, out->up);
	sqlite3_reset(st);
	return DB_OK;
}

static enum db_result
cut_tail(struct sqlite_db *s, enum sqlite_links kind, int64_t device_pk, int64_t behind, struct sqlite_run *out)
{
	struct sqlite_tail own, *t = &own;

	if (s->reader ? tail_read(s, device_pk, t) != DB_OK : (t = tail_of(s, device_pk)) == NULL)
		return DB_FAILED;
	out->count = cut(out->pk, run_numbers(run_text(&t->run[kind]), out->pk), behind, out->up);
	return DB_OK;
}

/* Upwards: stored runs come before the tail.  Downwards: the tail; the run that the number lies in; the one below. */
static enum db_result
next_run(struct sqlite_db *s, enum sqlite_links kind, int64_t device_pk, int64_t behind, struct sqlite_run *out)
{
	out->count = out->at = 0;
	if (out->up) {
		if (behind < INT64_MAX &&
		    cut_stored(s, from_statement[kind], device_pk, behind + 1, behind, out) == DB_FAILED)
			return DB_FAILED;
		return out->count > 0 ? DB_OK : cut_tail(s, kind, device_pk, behind, out);
	}
	if (cut_tail(s, kind, device_pk, behind, out) != DB_OK)
		return DB_FAILED;
	if (out->count == 0 && cut_stored(s, from_statement[kind], device_pk, behind, behind, out) == DB_FAILED)
		return DB_FAILED;
	if (out->count == 0 && cut_stored(s, below_statement[kind], device_pk, behind, behind, out) == DB_FAILED)
		return DB_FAILED;
	return DB_OK;
}

enum db_result
sqlite_links_next(struct sqlite_db *s, enum sqlite_links kind, int64_t device_pk, int64_t behind,
    struct sqlite_run *run, int64_t *pk)
{
	if (run->at == run->count && next_run(s, kind, device_pk, behind, run) == DB_FAILED)
		return DB_FAILED;
	if (run->count == 0)
		return DB_NONE;
	*pk = run->pk[run->up ? run->at : run->count - 1 - run->at];
	run->at++;
	return DB_OK;
}
