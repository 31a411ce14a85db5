/*
 * recover.c: what a new storage process does before it reads its mailbox: the
 * pending table is made to agree with the store, and what each device has in flight
 * is counted.  What a predecessor had committed and not carried out is carried out
 * after that (batch_take_over).
 */
#include "base/log.h"
#include "shm/shm.h"
#include "storage/storage.h"

#define PAGE 1024

struct counts {
	unsigned waiting;		/* sent or accepted */
	unsigned queued;
};

static void
restore(struct storage *s, const struct db_command *c, struct counts *n)
{
	struct db_device *d = &s->desk.device;

	flight_move(&s->flights, c, COMMAND_FRESH);
	flights_keep(&s->flights);
	if (c->status == COMMAND_QUEUED)
		n->queued++;
	if (c->status != COMMAND_SENT && c->status != COMMAND_ACCEPTED)
		return;
	if (d->pk != c->device_pk && DB(s->desk.db, device_by_pk, c->device_pk, false, d) != DB_OK)
		d->pk = 0;
	n->waiting++;
	if (d->pk != 0)
		tally_add(&s->tallies, d->tenant_pk, TALLY_WAITING, 1, s->desk.mono);
	/* A deleted device's command waits under no device's key, for its timeout alone. */
	if (pending_add(s->desk.shm, c->id, d->pk != 0 ? desk_device_key(&s->desk, d) : (struct hash128){ 0, 0 },
	    s->desk.mono + (c->sent_at + c->timeout_ms - s->desk.now),
	    c->status == COMMAND_SENT ? PENDING_SENT : PENDING_ACCEPTED) == -1)
		command_no_room(s);
}

/* All open commands. */
static enum db_result
restore_all(struct storage *s, struct counts *n)
{
	struct db_page *page = &s->desk.page;
	struct db_command_key at = { 0, 0 };

	do {
		const struct db_command *c;

		db_page_want(page, PAGE);
		TRY(DB(s->desk.db, command_open_all, at, page));
		c = page->row;
		for (unsigned i = 0; i < page->count; i++) {
			restore(s, &c[i], n);
			at = (struct db_command_key){ c[i].device_pk, c[i].number };
		}
	} while (page->more);
	return DB_OK;
}

/* Entries whose command ended, or was never committed. */
struct stale {
	struct storage *s;
	struct db_command command;
};

static void
drop_if_stale(void *arg, const struct pending_view *v)
{
	struct stale *st = arg;
	enum db_result result = DB(st->s->desk.db, command_get, v->id, &st->command);

	if (result == DB_NONE || (result == DB_OK && st->command.status != COMMAND_SENT &&
	    st->command.status != COMMAND_ACCEPTED))
		pending_remove(st->s->desk.shm, v->id);
}

int
recover(struct storage *s)
{
	struct counts n = { 0, 0 };
	struct stale st = { .s = s };
	int64_t boot = 0;
	bool began;

	if (DB(s->desk.db, meta_get, "boot", &boot) == DB_FAILED ||
	    DB(s->desk.db, meta_get, DB_EPOCH_FLOOR, &s->epoch_floor) == DB_FAILED)
		return -1;
	began = boot != s->boot;
	if (began && (DB(s->desk.db, begin) != DB_OK || DB(s->desk.db, meta_set, "boot", s->boot) != DB_OK ||
	    DB(s->desk.db, commit) != DB_OK))
		return -1;
	sample_start(s);
	pending_walk(s->desk.shm, drop_if_stale, &st);
	db_command_fini(&st.command);
	if (restore_all(s, &n) == DB_FAILED || wall_start(s) == DB_FAILED)
		return -1;
	s->queue_next = n.queued > 0 ? -1 : 0;
	presence_start(s, began);
	if (n.waiting > 0 || n.queued > 0)
		log_info("%u commands wait for a result, %u for their device; %zu bytes of mail "
		    "are read again or for the first time", n.waiting, n.queued,
		    mailbox_used(s->desk.shm, s->desk.w->slot));
	return 0;
}
