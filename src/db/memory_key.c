/*
 * memory_key.c: what is kept by a key for a time: idempotency keys and tickets.  Only the storage
 * process.
 */
#include <stdlib.h>

#include "base/must.h"
#include "db/memory.h"

/* Idempotency keys: the user and the key are one text, the user's length before it. */

struct key_values {
	int64_t tenant_pk, expires_at;
	uint8_t command_id[UUID_LEN], params_hash[SHA256_LEN];
};

struct key {
	struct memory_row row;		/* struct key_values */
	struct memory_hash_node by_key;
	struct memory_due due;
	int64_t serial;
	size_t user_len, len;
	char text[];			/* user, key */
};

static const struct key_values *
key_values(const struct key *k)
{
	return k->row.values;
}

static uint64_t
key_hash(const struct memory_db *m, int64_t tenant_pk, struct slice user, struct slice key)
{
	return memory_hash(m->seed, memory_hash(m->seed, (uint64_t)tenant_pk, user), key);
}

static struct key *
key_find(const struct memory_db *m, int64_t tenant_pk, struct slice user, struct slice key)
{
	struct memory_hash_node *node;

	node = memory_hash_first(&m->keys, key_hash(m, tenant_pk, user, key));
	for (; node != NULL; node = memory_hash_next(node)) {
		struct key *k = memory_row_of(node, struct key, by_key);

		if (key_values(k)->tenant_pk == tenant_pk &&
		    slice_eq((struct slice){ k->text, k->user_len }, user) &&
		    slice_eq((struct slice){ k->text + k->user_len, k->len - k->user_len }, key))
			return k;
	}
	return NULL;
}

static void
key_enter(struct memory_db *m, struct memory_row *row)
{
	struct key *k = (struct key *)row;
	struct slice user = { k->text, k->user_len };
	struct slice key = { k->text + k->user_len, k->len - k->user_len };

	memory_hash_put(&m->keys, &k->by_key, key_hash(m, key_values(k)->tenant_pk, user, key));
}

static void
key_leave(struct memory_db *m, struct memory_row *row)
{
	memory_hash_remove(&m->keys, &((struct key *)row)->by_key);
}

static void
key_file(struct memory_db *m, struct memory_row *row)
{
	struct key *k = (struct key *)row;

	memory_due_put(&m->keys_due, &k->due, key_values(k)->expires_at, k->serial);
}

static void
key_unfile(struct memory_db *m, struct memory_row *row)
{
	memory_due_remove(&m->keys_due, &((struct key *)row)->due);
}

static bool
key_same_places(const void *old, const void *new)
{
	const struct key_values *a = old, *b = new;

	return a->expires_at == b->expires_at;
}

static const struct memory_table key_table = {
	.enter = key_enter, .leave = key_leave, .file = key_file, .unfile = key_unfile,
	.same_places = key_same_places
};

enum db_result
memory_op_idempotency_get(struct db *db, int64_t tenant_pk, struct slice user, struct slice key,
    int64_t now, uint8_t command_id[UUID_LEN], uint8_t params_hash[SHA256_LEN])
{
	const struct key *k = key_find(memory_self(db), tenant_pk, user, key);

	if (k == NULL || key_values(k)->expires_at <= now)
		return DB_NONE;
	memcpy(command_id, key_values(k)->command_id, UUID_LEN);
	memcpy(params_hash, key_values(k)->params_hash, SHA256_LEN);
	return DB_OK;
}

enum db_result
memory_op_idempotency_put(struct db *db, int64_t tenant_pk, struct slice user, struct slice key,
    int64_t expires_at, const uint8_t command_id[UUID_LEN], const uint8_t params_hash[SHA256_LEN])
{
	struct memory_db *m = memory_self(db);
	struct key *k = key_find(m, tenant_pk, user, key);
	struct key_values *v = must_alloc(sizeof(*v));

	v->tenant_pk = tenant_pk;
	v->expires_at = expires_at;
	memcpy(v->command_id, command_id, UUID_LEN);
	memcpy(v->params_hash, params_hash, SHA256_LEN);
	if (k != NULL) {
		memory_change(m, &key_table, &k->row, v);
		return DB_OK;
	}
	k = must_alloc(sizeof(*k) + user.len + key.len);
	k->row.values = v;
	k->serial = ++m->last.serial;
	k->user_len = user.len;
	k->len = user.len + key.len;
	if (user.len > 0)
		memcpy(k->text, user.p, user.len);
	if (key.len > 0)
		memcpy(k->text + user.len, key.p, key.len);
	memory_insert(m, &key_table, &k->row);
	return DB_OK;
}

unsigned
memory_keys_trim(struct memory_db *m, int64_t now, unsigned limit)
{
	struct memory_due *due;
	unsigned n = 0;

	while (n < limit && (due = memory_due_first(&m->keys_due)) != NULL && due->at <= now) {
		memory_remove(m, &key_table, &memory_row_of(due, struct key, due)->row);
		n++;
	}
	return n;
}

/* Tickets: never changed */

struct ticket {
	struct memory_row row;		/* struct db_ticket */
	struct memory_hash_node by_hash;
	struct memory_due due;
	int64_t serial;
	uint8_t hash[SHA256_LEN];
};

static uint64_t
ticket_hash(const struct memory_db *m, const uint8_t hash[SHA256_LEN])
{
	return memory_hash(m->seed, 0, slice_bytes(hash, SHA256_LEN));
}

static struct ticket *
ticket_find(const struct memory_db *m, const uint8_t hash[SHA256_LEN])
{
	struct memory_hash_node *node = memory_hash_first(&m->tickets, ticket_hash(m, hash));

	for (; node != NULL; node = memory_hash_next(node)) {
		struct ticket *t = memory_row_of(node, struct ticket, by_hash);

		if (memcmp(t->hash, hash, SHA256_LEN) == 0)
			return t;
	}
	return NULL;
}

static void
ticket_enter(struct memory_db *m, struct memory_row *row)
{
	struct ticket *t = (struct ticket *)row;

	memory_hash_put(&m->tickets, &t->by_hash, ticket_hash(m, t->hash));
	memory_due_put(&m->tickets_due, &t->due, ((const struct db_ticket *)row->values)->until,
	    t->serial);
}

static void
ticket_leave(struct memory_db *m, struct memory_row *row)
{
	struct ticket *t = (struct ticket *)row;

	memory_hash_remove(&m->tickets, &t->by_hash);
	memory_due_remove(&m->tickets_due, &t->due);
}

static const struct memory_table ticket_table = { .enter = ticket_enter, .leave = ticket_leave };

enum db_result
memory_op_ticket_put(struct db *db, const uint8_t hash[SHA256_LEN], const struct db_ticket *t)
{
	struct memory_db *m = memory_self(db);
	struct ticket *row;

	if (ticket_find(m, hash) != NULL)
		return DB_OK;		/* put again: it stays as it is */
	row = must_alloc(sizeof(*row));
	memcpy(row->hash, hash, SHA256_LEN);
	row->serial = ++m->last.serial;
	row->row.values = memory_pack(&memory_ticket_shape, 0, t);
	memory_insert(m, &ticket_table, &row->row);
	return DB_OK;
}

enum db_result
memory_op_ticket_take(struct db *db, const uint8_t hash[SHA256_LEN], struct db_ticket *out)
{
	struct memory_db *m = memory_self(db);
	struct ticket *row = ticket_find(m, hash);

	if (row == NULL)
		return DB_NONE;
	memory_unpack(&memory_ticket_shape, memory_ticket_shape.count, row->row.values, out);
	memory_remove(m, &ticket_table, &row->row);
	return DB_OK;
}

unsigned
memory_tickets_trim(struct memory_db *m, int64_t now, unsigned limit)
{
	struct memory_due *due;
	unsigned n = 0;

	while (n < limit && (due = memory_due_first(&m->tickets_due)) != NULL && due->at <= now) {
		memory_remove(m, &ticket_table, &memory_row_of(due, struct ticket, due)->row);
		n++;
	}
	return n;
}
