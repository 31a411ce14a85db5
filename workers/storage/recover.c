/*
 * recover.c: what a new storage process does before it reads its mailbox: the
 * pending table is made to agree with the store.  What a predecessor had
 * committed and not carried out is carried out after that (batch_start).
 */
#include "base/log.h"
#include "shm/shm.h"
#include "storage/storage.h"

#define PAGE 1024

struct page {
	struct storage *s;
	int64_t last_pk;
	unsigned rows;
	unsigned waiting;		/* sent or accepted */
	unsigned queued;
	struct db_device device;
};

static bool
restore(void *arg, const struct db_command *c)
{
	struct page *p = arg;
	struct storage *s = p->s;

	p->rows++;
	p->last_pk = c->pk;
	if (c->status == COMMAND_QUEUED)
		p->queued++;
	if (c->status != COMMAND_SENT && c->status != COMMAND_ACCEPTED)
		return true;
	if (p->device.pk != c->device_pk && DB(s->desk.db, device_by_pk, c->device_pk, false,
	    &p->device) != DB_OK)
		p->device.pk = 0;
	p->waiting++;
	if (p->device.pk != 0)
		tally_add(&s->tallies, p->device.tenant_pk, TALLY_WAITING, 1, s->desk.mono);
	/* A deleted device's command waits under no device's key, for its timeout alone. */
	if (pending_add(s->desk.shm, c->id, p->device.pk != 0 ? desk_device_key(&s->desk, &p->device) :
	    (struct hash128){ 0, 0 }, s->desk.mono + (c->sent_at + c->timeout_ms - s->desk.now),
	    c->status == COMMAND_SENT ? PENDING_SENT : PENDING_ACCEPTED) == -1)
		command_no_room(s);
	return true;
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
	struct page p = { .s = s };
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
	do {
		p.rows = 0;
		if (DB(s->desk.db, command_open, 0, p.last_pk, PAGE, restore, &p) == DB_FAILED) {
			db_device_fini(&p.device);
			return -1;
		}
	} while (p.rows == PAGE);
	db_device_fini(&p.device);
	if (wall_start(s, p.last_pk) == DB_FAILED)
		return -1;
	s->queue_next = p.queued > 0 ? -1 : 0;
	presence_start(s, began);
	if (p.waiting > 0 || p.queued > 0)
		log_info("%u commands wait for a result, %u for their device; %zu bytes of mail "
		    "are read again or for the first time", p.waiting, p.queued,
		    mailbox_used(s->desk.shm, s->desk.w->slot));
	return 0;
}
