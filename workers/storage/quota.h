/*
 * quota.h: how much each tenant may keep in the store (limits.tenant_store).  Only the storage process.
 *
 * The store itself keeps what each has (db/ops.def, usage_keep), as long as there is a limit; what was there before
 * the limit was set is counted in steps, and is not known until then.  Added to that is what the batch in hand will
 * write at its end. So a tenant goes beyond its limit by one record, and by what is never refused:
 * acknowledgements, presence, ends of commands.
 */
#ifndef BELAY_STORAGE_QUOTA_H
#define BELAY_STORAGE_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "db/db.h"

struct storage;

struct quota {
	bool kept;			/* the store keeps what each has */
	bool counting;			/* what was there before is not all counted */
	int64_t logged_mono;		/* that the store can't begin or end keeping that was last told */
	struct quota_note {
		int64_t tenant_pk, bytes;
	} *notes;			/* owned: what the batch will write; one for each tenant */
	unsigned note_count, note_cap;
};

/* Makes the limit in force known to the store: before anything is written, and when it changes. -1: it failed. */
int quota_start(struct storage *s);
/* A step of counting, in the batch; s->more: there is more to count. */
enum db_result quota_tick(struct storage *s);
void quota_fini(struct storage *s);

/* May the tenant store more?  *room: true without a limit. */
enum db_result quota_room(struct storage *s, struct slice tenant, bool *room);
/* The same, and who asks is told where it may not: too_many. */
enum db_result quota_admit(struct storage *s, struct slice tenant, uint64_t request, uint64_t ref, bool *room);
/* The batch will write a row with texts of so many bytes. */
void quota_note(struct storage *s, int64_t tenant_pk, size_t len);
/* … and has written them, or will not. */
void quota_forget(struct storage *s);

/* Appends ,"store":{…}: what the tenant has and may have; nothing where no limit is set. */
enum db_result quota_put_json(struct storage *s, struct buf *b, int64_t tenant_pk);

#endif
