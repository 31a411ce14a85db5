/*
 * retention.c: old things go, in small steps between other work.  Only the
 * storage process.
 */
#include "storage/storage.h"

/* Rows of each kind in one transaction, one per tick: a few milliseconds, and faster than rows can come for 90 days. */
#define STEP_IDLE	1000
#define STEP_BUSY	200
#define EVERY_MS	60000		/* when nothing was left to do */

enum db_result
retention_tick(struct storage *s, bool idle)
{
	unsigned step = idle ? STEP_IDLE : STEP_BUSY;
	bool more = false, more_telemetry = false;

	if (s->retention.next_mono == 0)
		/* not in the worst minute, the first */
		s->retention.next_mono = s->desk.mono + EVERY_MS / 2;
	if (s->desk.mono < s->retention.next_mono)
		return DB_OK;
	TRY(batch_begin(s));
	TRY(db_retain(s->desk.db, wall_earlier_ms(s), s->desk.now - s->retention_ms, step, &more));
	TRY(DB(s->desk.db, telemetry_retain, s->desk.now - s->telemetry_retention_ms, step, &more_telemetry));
	s->retention.next_mono = s->desk.mono + (more || more_telemetry ? 0 : EVERY_MS);
	return DB_OK;
}

void
retention_soon(struct storage *s)
{
	s->retention.next_mono = s->desk.mono;
}
