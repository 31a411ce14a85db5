/*
 * memory.h: the inside of the memory engine: its rows, and how they are found and changed.
 *
 * A row is a small struct of links, which stays where it is, and a block of values.  Values are
 * never changed: a change makes a new block, and the old one waits in the undo log for the end of
 * the transaction (memory_undo.c).  The structs of db.h are the values, each with its texts behind
 * it in the same block (memory_values.c), so that lists hand them out as they are.
 *
 * What is found how:
 *	by number	series: devices, commands, events, samples of telemetry, visitors
 *	by id or name	hash: tenants, users, live devices, deleted ones, tokens, commands, visitors,
 *			idempotency keys, tickets
 *	in order	lists: events and visitors of a tenant; events, commands and open commands of
 *			a device; open commands of all.  trees: devices of a tenant by id, shares of a
 *			device by user, its samples by their time, all that ends at a time
 */
#ifndef BELAY_DB_MEMORY_H
#define BELAY_DB_MEMORY_H

#include "db/db.h"
#include "db/memory_hash.h"
#include "db/memory_list.h"
#include "db/memory_series.h"
#include "db/memory_tree.h"

/*
 * What is kept at most, the newest, however long retention would keep it: a development instance
 * under load must not eat the machine.  Open commands are not counted: they are never dropped.
 */
#define MEMORY_EVENTS	(1u << 17)
#define MEMORY_ENDED	(1u << 17)
#define MEMORY_SAMPLES	(1u << 17)

#define memory_row_of(node, type, member) \
	((type *)(void *)((char *)(node) - offsetof(type, member)))

struct memory_db;

struct memory_row {
	void *values;			/* owned; NULL: see struct memory_device */
};

/* How the rows of one kind are linked.  Members may be NULL: nothing is to be done. */
struct memory_table {
	/* by what never changes, on insertion and removal */
	void (*enter)(struct memory_db *m, struct memory_row *row);
	void (*leave)(struct memory_db *m, struct memory_row *row);
	/* by values, and again on each change that is not between the same places */
	void (*file)(struct memory_db *m, struct memory_row *row);
	void (*unfile)(struct memory_db *m, struct memory_row *row);
	bool (*same_places)(const void *old, const void *new);
	bool in_row;			/* the values lie in the row's own block */
};

struct memory_undo {
	const struct memory_table *table;
	struct memory_row *row;
	void *old;			/* CHANGED: owned */
	enum { MEMORY_INSERTED, MEMORY_CHANGED, MEMORY_REMOVED } what;
};

/* The last numbers given. */
struct memory_last {
	int64_t device, command, event, sample, visitor, serial;
};

struct memory_db {
	struct db db;			/* first */
	uint64_t seed[2];
	const char *error;		/* of the last DB_FAILED */
	unsigned listing;		/* callbacks that run: nothing may be written then */

	bool begun;
	struct memory_undo *undo;	/* owned; of this transaction */
	size_t undo_count, undo_cap;
	int64_t *idle_device;		/* owned; numbers of devices that may be without rows now */
	size_t idle_count, idle_cap;
	struct memory_last last, last_before;

	struct memory_list meta;
	struct memory_tenant **tenant;	/* owned array, by number from 1 */
	size_t tenant_count, tenant_cap;
	struct memory_hash tenants;

	struct memory_series devices;
	struct memory_hash devices_by_id, deleted_by_id, devices_by_token;
	struct memory_tree deleted;	/* by time */
	struct memory_hash users;

	struct memory_series commands;
	struct memory_hash commands_by_id;
	struct memory_list open;	/* by number */
	struct memory_list ended;	/* all others, in the order in which they ended */
	size_t ended_count;
	int64_t ended_number;		/* given last */
	struct memory_tree queue;	/* queued, by the end of their time */
	struct memory_tree stale;	/* open although timed out, by when that was */
	int64_t retain_from;		/* commands up to here were looked at in this round */

	struct memory_series events;
	size_t event_count;
	struct memory_series samples;
	size_t sample_count;
	struct memory_tree forsaken;	/* devices that are not live and have samples, by number */
	struct memory_series visitors;
	struct memory_hash visitors_by_id;
	struct memory_hash keys;
	struct memory_tree keys_due;
	struct memory_hash tickets;
	struct memory_tree tickets_due;
};

struct memory_tenant {
	struct memory_row row;		/* no values */
	int64_t pk;
	struct memory_hash_node by_name;
	struct memory_tree devices;	/* live ones, by id */
	struct memory_list events, visitors;
	size_t len;
	char name[];
};

/* A user with devices or shares; there is none without. */
struct memory_user {
	struct memory_hash_node by_name;
	int64_t tenant_pk;
	struct memory_list owned;	/* live devices */
	struct memory_list shares;
	size_t len;
	char name[];
};

struct memory_device_values {
	struct db_device d;		/* first */
	int64_t deleted_at;		/* 0: live */
	bool has_token;
	uint8_t token[SHA256_LEN];
};

/*
 * What is known of a device's number.  Without values: there is no such row (any more), but rows
 * of others refer to the number.
 */
struct memory_device {
	struct memory_row row;		/* struct memory_device_values */
	int64_t pk;
	struct memory_hash_node by_id, by_token;
	struct memory_tree_node of_tenant;
	struct memory_user *user;	/* while live */
	struct memory_link of_user;
	struct memory_due deleted;
	struct memory_tree shares;
	struct memory_list events, commands, open;
	int64_t queued;			/* how many of the open commands are */
	struct memory_tree samples;	/* by their time, then by their number */
	struct memory_due forsaken;
	bool is_forsaken;		/* it is in that tree */
};

struct memory_share {
	struct memory_row row;		/* struct db_share */
	int64_t tenant_pk;
	struct memory_device *device;
	struct memory_user *who;
	struct memory_tree_node of_device;
	struct memory_link of_user;
};

struct memory_command {
	struct memory_row row;		/* struct db_command */
	struct memory_device *device;
	struct memory_hash_node by_id;
	struct memory_link of_device, open_of_device;
	struct memory_link open_or_ended;	/* of all */
	struct memory_due due;		/* in queue or in stale */
};

struct memory_event {
	struct memory_row row;		/* struct db_event, in the same block; its device is empty */
	struct memory_device *device;
	struct memory_tenant *tenant;
	struct memory_link of_device, of_tenant;
};

struct memory_sample {
	struct memory_row row;		/* struct db_sample, in the same block; without tenant and device */
	struct memory_device *device;
	struct memory_due of_device;
};

struct memory_visitor {
	struct memory_row row;		/* struct db_visitor; its device is empty */
	struct memory_tenant *tenant;
	struct memory_hash_node by_id;
	struct memory_link of_tenant;
};

static inline struct memory_db *
memory_self(struct db *db)
{
	return (struct memory_db *)db;
}

static inline const struct memory_device_values *
memory_device_values(const struct memory_device *dev)
{
	return dev->row.values;
}

static inline bool
memory_device_live(const struct memory_device *dev)
{
	return dev != NULL && dev->row.values != NULL && memory_device_values(dev)->deleted_at == 0;
}

/* Our own misuse, as SQLite answers it. */
static inline enum db_result
memory_failed(struct memory_db *m, const char *what)
{
	m->error = what;
	return DB_FAILED;
}

/* memory_values.c */
struct memory_shape {
	size_t size;			/* of the values */
	size_t shown;			/* of the struct of db.h that they begin with */
	size_t text;			/* offset of its struct buf; 0: it has none */
	unsigned count;
	size_t slice[11];		/* their offsets */
};
/*
 * A new block: `before` bytes that are the caller's to fill, then a copy of the values and of their
 * texts, which the copy points to.
 */
void *memory_pack(const struct memory_shape *shape, size_t before, const void *values);
/* The values as the caller's own: the first n texts are copied to its buffer, others empty. */
void memory_unpack(const struct memory_shape *shape, unsigned n, const void *values, void *out);
/* After memory_unpack(): one text more, which is not among the shape's. */
void memory_append(const struct memory_shape *shape, void *values, struct slice *slice);
extern const struct memory_shape memory_device_shape, memory_share_shape, memory_command_shape,
    memory_event_shape, memory_sample_shape, memory_visitor_shape, memory_ticket_shape;

/* memory_undo.c: every write is one of these three.  They take over row and values. */
void memory_insert(struct memory_db *m, const struct memory_table *table, struct memory_row *row);
void memory_change(struct memory_db *m, const struct memory_table *table, struct memory_row *row,
    void *values);
void memory_remove(struct memory_db *m, const struct memory_table *table, struct memory_row *row);
/* The end of the transaction, either way. */
void memory_keep(struct memory_db *m);
void memory_take_back(struct memory_db *m);

/* memory.c */
struct memory_tenant *memory_tenant_by_pk(const struct memory_db *m, int64_t pk);
struct memory_tenant *memory_tenant_find(const struct memory_db *m, struct slice name);
struct memory_tenant *memory_tenant_have(struct memory_db *m, struct slice name);

/* memory_device.c */
struct memory_device *memory_device_by_pk(const struct memory_db *m, int64_t pk);
/* The number's struct, made when there is none.  NULL: it can't have been given yet. */
struct memory_device *memory_device_have(struct memory_db *m, int64_t pk);
/* A row of it went: it is freed at the end of the transaction if none is left. */
void memory_device_left(struct memory_db *m, const struct memory_device *dev);
void memory_device_free_idle(struct memory_db *m);
/* Ends it for good.  It must be deleted. */
void memory_device_purge(struct memory_db *m, struct memory_device *dev);
/* Its id, also when it was deleted; empty when it is not known any more. */
struct slice memory_device_id(const struct memory_device *dev);

/* memory_share.c */
struct memory_user *memory_user_find(const struct memory_db *m, int64_t tenant_pk, struct slice name);
struct memory_user *memory_user_have(struct memory_db *m, int64_t tenant_pk, struct slice name);
/* Freed when it has nothing. */
void memory_user_left(struct memory_db *m, struct memory_user *user);
void memory_shares_remove(struct memory_db *m, struct memory_device *dev);
/* Does the scope (whatever its `all`) have the device? */
bool memory_scope_has(const struct db_scope *scope, const struct memory_device *dev);
/* All devices of a user, each once, in no order; at most max.  To be freed; *n may be 0. */
struct memory_device **memory_scope_devices(const struct memory_db *m, const struct db_scope *scope,
    size_t max, size_t *n);

/* memory_telemetry.c */
/* After the device's row, or its samples, changed: is it one whose samples are to go? */
void memory_samples_judge(struct memory_db *m, struct memory_device *dev);

/* memory_command.c, memory_event.c, memory_telemetry.c, memory_visitor.c, memory_key.c: for retention */
void memory_command_remove(struct memory_db *m, struct memory_command *row);
void memory_command_close(struct memory_db *m, struct memory_command *row);
void memory_event_remove(struct memory_db *m, struct memory_event *row);
void memory_sample_remove(struct memory_db *m, struct memory_sample *row);
void memory_visitor_remove(struct memory_db *m, struct memory_visitor *row);
/* Removes at most limit that ended by now; how many. */
unsigned memory_keys_trim(struct memory_db *m, int64_t now, unsigned limit);
unsigned memory_tickets_trim(struct memory_db *m, int64_t now, unsigned limit);

#define OP(name, ...) enum db_result memory_op_##name(struct db *db, ##__VA_ARGS__);
#include "db/ops.def"
#undef OP

#endif
