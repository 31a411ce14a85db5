/*
 * samples.c: stored telemetry is listed by the time that the device told, which any number of samples may share.  Any
 * process that has a handle.
 */
#include "db/db.h"

/*
 * Two searches: those of the cursor's own time, then the earlier ones.  One comparison of both would read all of one
 * time, and a device without a clock has a single one.
 */
enum db_result
db_samples(struct db *db, const struct db_sample_filter *f, struct db_page *page)
{
	int64_t since = f->since != 0 ? f->since : INT64_MIN, until = f->until != 0 ? f->until : INT64_MAX;

	if (f->before_seq != 0 && f->before_at >= since && f->before_at < until &&
	    DB(db, telemetry_moment, f->device_pk, f->before_at, f->before_seq, page) == DB_FAILED)
		return DB_FAILED;
	if (page->more)
		return DB_OK;
	if (f->before_seq != 0 && f->before_at < until)
		until = f->before_at;
	return DB(db, telemetry_window, f->device_pk, since, until, page);
}
