/*
 * wall.c: the wall clock may be set while an instance runs (NTP after a boot with a wrong clock, somebody's hand).
 * What was to last for a while from a moment of this run lasts as long all the same.  Only the storage process.
 *
 * The clock that nobody sets is CLOCK_BOOTTIME.  How far the wall clock is ahead of it (desk.ahead) is constant but
 * for steps:
 *
 *	queued commands	their row says until when they wait, by the wall clock, since that is what the next run of
 *			the instance has; those that this run accepted, as their row says, are moved along with it,
 *			in one transaction with the note of how far that was done.  Those of earlier runs are left:
 *			the wall clock alone decides.
 *	tickets		by the run's clock: the wall clock as it was at the run's beginning and goes on unset
 *	keys		(idempotency) by the earlier of the two, so that none is forgotten before its time
 *	sent commands	by the pending table, which is monotonic
 *
 * What is meant as a moment and not as a while (the end of a token, of a share) is the wall clock's.
 */
#include "base/log.h"
#include "storage/storage.h"

#define STEP_MS		1000		/* a smaller one is none */

int64_t
wall_run_ms(const struct storage *s)
{
	return s->desk.now - (s->desk.ahead - s->wall.began);
}

int64_t
wall_earlier_ms(const struct storage *s)
{
	int64_t run = wall_run_ms(s);

	return run < s->desk.now ? run : s->desk.now;
}

static enum db_result
begin_run(struct storage *s)
{
	s->wall.began = s->wall.followed = s->desk.ahead;
	TRY(DB(s->desk.db, begin));
	TRY(DB(s->desk.db, meta_set, "wall_boot", s->boot));
	TRY(DB(s->desk.db, meta_set, "wall_began", s->wall.began));
	TRY(DB(s->desk.db, meta_set, "wall_followed", s->wall.followed));
	return DB(s->desk.db, commit);
}

enum db_result
wall_start(struct storage *s)
{
	int64_t boot = 0;

	TRY(DB(s->desk.db, meta_get, "wall_boot", &boot));
	if (boot != s->boot)
		return begin_run(s);
	TRY(DB(s->desk.db, meta_get, "wall_began", &s->wall.began));
	return DB(s->desk.db, meta_get, "wall_followed", &s->wall.followed);
}

static enum db_result
move(struct storage *s, int64_t by_ms)
{
	TRY(batch_begin(s));
	TRY(DB(s->desk.db, command_queue_moved, s->boot, by_ms));
	return DB(s->desk.db, meta_set, "wall_followed", s->desk.ahead);
}

void
wall_follow(struct storage *s)
{
	int64_t by_ms = s->desk.ahead - s->wall.followed;

	if (by_ms > -STEP_MS && by_ms < STEP_MS)
		return;
	if (move(s, by_ms) == DB_FAILED)
		s->batch.failed = true;
	if (!batch_end(s))
		return;			/* next time */
	log_warn("the wall clock was set %s by %lld ms: what waits goes by the time that passes",
	    by_ms < 0 ? "back" : "forward", (long long)(by_ms < 0 ? -by_ms : by_ms));
	s->wall.followed = s->desk.ahead;
	s->queue_next = -1;
}
