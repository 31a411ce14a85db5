/*
 * storage_world.h: a storage process and a reader without processes, for tests and benches: their roles' functions over real
 * shared memory, one or more gateways that are only mailboxes, and a store of its own.
 */
#ifndef BELAY_TESTS_STORAGE_WORLD_H
#define BELAY_TESTS_STORAGE_WORLD_H

#include "base/conf.h"
#include "msg/msg.h"
#include "shm/directory.h"
#include "shm/mailbox.h"
#include "shm/pending.h"
#include "shm/ref.h"
#include "shm/shm.h"
#include "shm/topics.h"
#include "workers/role.h"

#define STORAGE_SLOT	0
#define GATEWAY_SLOT	1	/* and GATEWAY_SLOT + 1 */
#define READER_SLOT	3

/* One record that storage posted. */
struct posted {
	unsigned slot;
	uint16_t kind;
	struct buf bytes;
};

struct world {
	struct shm *shm;
	struct conf *conf;
	struct worker w;
	struct worker reader;		/* started with the first world_read() */
	struct mailbox_reader inbox[3];	/* of the gateways, by slot */
	uint64_t tags[3][SHM_MAX_SLOTS], own_tags[SHM_MAX_SLOTS];	/* mailbox_had() of the gateways, and of storage */
	struct posted *posted;		/* taken out of the gateways' mailboxes, in order for each slot */
	size_t posted_count, posted_cap;
	uint64_t requests;
	bool keep_posted;		/* else they are dropped (benches) */
	uint64_t posted_total;
	struct buf record;
};

extern const struct worker_role storage_role, reader_role;

/* url: as store.url.  The instance is made; storage is not started yet. */
void world_open(struct world *t, const char *url, bool members_view);
void world_close(struct world *t);
void world_start(struct world *t);	/* storage starts, as a new process of its slot */
void world_stop(struct world *t);	/* … ends in good order */
void world_kill(struct world *t);	/* … dies: nothing is consumed; its handle on the store is closed */

/* Posts a packed record to storage from a gateway. */
void world_post_record(struct world *t, uint16_t kind);
#define world_post(t, name, m) \
	(buf_clear(&(t)->record), msg_pack_##name(&(t)->record, (m)), world_post_record((t), MSG_##name))
/* Posts a packed record to the reader, which runs until nothing waits; the posts are collected. */
void world_read_record(struct world *t, uint16_t kind);
#define world_read(t, name, m) \
	(buf_clear(&(t)->record), msg_pack_##name(&(t)->record, (m)), world_read_record((t), MSG_##name))
/* Storage reads all its mail, in batches, and what it posts to itself. Then the posts are collected. */
void world_run(struct world *t);
void world_tick(struct world *t);
void world_collect(struct world *t);
void world_forget(struct world *t);	/* what was posted so far */

static inline uint64_t
world_ref(struct world *t, unsigned slot, uint32_t index, uint32_t gen)
{
	struct slot_view v;

	slot_get(t->shm, slot, &v);
	return ref_make(slot, v.generation, index, gen);
}

/* The nth (from 0) posted record of that kind that was not taken yet, or NULL. */
struct posted *world_posted(struct world *t, uint16_t kind, unsigned nth);
unsigned world_count(struct world *t, uint16_t kind);

#endif
