/*
 * device_auth.c: a device's connection wants in.  Only the storage process.
 *
 *	1. the token's hash, or tenant and id of a verified JWT, find the device
 *	2. epoch + 1 and the event, in the transaction
 *	3. the directory entry is claimed at once, so that commands of the same batch find it;
 *	   taken back when the commit fails
 *	4. after the commit: the answer, 4009 to the one replaced, device_connected to viewers,
 *	   and all that waited for the device, in order
 *
 * A connected device may show its token once more; that changes nothing.
 */
#include "base/log.h"
#include "base/must.h"
#include "storage/storage.h"

struct hash128
storage_device_key(const struct storage *s, const struct db_device *d)
{
	return audience_device_key(s->key, d->tenant, d->id);
}

enum db_result
storage_device(struct storage *s, int64_t pk, struct slice tenant, struct slice id)
{
	enum db_result result = DB(s->db, device_by_pk, pk, false, &s->device);

	if (result == DB_OK && !(slice_eq(s->device.id, id) && slice_eq(s->device.tenant, tenant)))
		return DB_NONE;
	return result;
}

int64_t
storage_seen_at(const struct storage *s, const struct directory_view *v)
{
	return s->wall.mono_ahead + v->last_seen_mono_ms;
}

bool
storage_route(const struct storage *s, const struct db_device *d, uint64_t *ref, int64_t *epoch,
    int64_t *last_seen)
{
	struct directory_view v;

	if (directory_find(s->shm, storage_device_key(s, d), &v) != 1)
		return false;
	*last_seen = storage_seen_at(s, &v);
	for (unsigned t = 0; t < DIRECTORY_TRANSPORTS; t++) {
		if (v.ref[t] != REF_NONE) {
			*ref = v.ref[t];
			*epoch = v.epoch[t];
			return true;
		}
	}
	return false;
}

static enum db_result
refuse(struct storage *s, const struct msg_device_auth *m, enum error_code code)
{
	struct msg_device_welcome no = { .request = m->request, .ref = m->ref, .code = code };

	post_to_ref(s, device_welcome, &no);
	return DB_OK;
}

static enum db_result
find(struct storage *s, const struct msg_device_auth *m, struct db_device *d)
{
	enum db_result result;

	if (!m->by_token)
		return DB(s->db, device_by_id, m->tenant, m->device, false, d);
	result = DB(s->db, device_by_token, m->token_hash, d);
	/*
	 * The token alone finds the device; an id that was given beside it must be that device's.
	 */
	if (result == DB_OK && m->device.len > 0 && !slice_eq(m->device, d->id))
		return DB_NONE;
	return result;
}

/* The ids of commands whose result is not known, as an array. */
struct reconcile {
	struct buf *b;
	int64_t since;
	unsigned count;
};

static bool
add_unknown(void *arg, const struct db_command *c)
{
	struct reconcile *r = arg;

	if (c->status == COMMAND_QUEUED || c->sent_at < r->since)
		return true;
	buf_putc(r->b, r->count++ == 0 ? '[' : ',');
	buf_put_json_uuid(r->b, c->id);
	return r->count < RECONCILE_MAX;
}

static enum db_result
list_unknown(struct storage *s, const struct db_device *d)
{
	struct reconcile r = { &s->json, s->now - RECONCILE_AGE_MS, 0 };

	buf_clear(&s->json);
	TRY(DB(s->db, command_open, d->pk, 0, COMMAND_QUEUE_MAX + 2 * RECONCILE_MAX, add_unknown,
	    &r));
	if (r.count > 0)
		buf_putc(&s->json, ']');
	return DB_OK;
}

static void
remember_claim(struct storage *s, struct claim claim)
{
	struct batch *b = &s->batch;

	if (b->claim_count == b->claim_cap) {
		b->claim_cap = b->claim_cap > 0 ? b->claim_cap * 2 : 64;
		b->claims = must_realloc(b->claims, b->claim_cap * sizeof(*b->claims));
	}
	b->claims[b->claim_count++] = claim;
}

/* Claims the directory entry with an epoch above all before it.  -1: the directory is full. */
static int
claim(struct storage *s, struct db_device *d, unsigned transport, uint64_t ref, int64_t *epoch,
    uint64_t *old_ref, struct directory_view *view)
{
	struct hash128 key = storage_device_key(s, d);
	struct claim undo = { .device = key, .device_pk = d->pk, .ref = ref,
	    .transport = (uint8_t)transport };
	int claimed;

	if (directory_find(s->shm, key, view) == 1)
		undo.old_epoch = view->epoch[transport];
	claimed = directory_claim(s->shm, key, d->pk, (enum directory_transport)transport, ref,
	    *epoch, s->now, old_ref, view);
	if (claimed == 0) {
		/* The store is older than the directory (it was restored): go on from there. */
		for (unsigned t = 0; t < DIRECTORY_TRANSPORTS; t++)
			if (view->epoch[t] >= *epoch)
				*epoch = view->epoch[t] + 1;
		claimed = directory_claim(s->shm, key, d->pk, (enum directory_transport)transport,
		    ref, *epoch, s->now, old_ref, view);
	}
	if (claimed != 1)
		return -1;
	if (*old_ref == ref)
		*old_ref = REF_NONE;
	undo.old_ref = *old_ref;
	remember_claim(s, undo);
	return 0;
}

static void
kick_old(struct storage *s, uint64_t ref)
{
	struct msg_kick kick = { .ref = ref, .close_code = 4009, .reason = SLICE("Replaced") };

	if (ref != REF_NONE)
		post_to_ref(s, kick, &kick);
}

static void
tell_connected(struct storage *s, const struct db_device *d, unsigned transport, int64_t epoch,
    int64_t seq)
{
	live_connection(&s->json, d->id, epoch, transport_name(transport), s->now, SLICE_NONE);
	publish_device(s, d, "device_connected", buf_slice(&s->json), seq);
}

enum db_result
device_auth(struct storage *s, const struct msg_device_auth *m)
{
	struct db_device *d = &s->device;
	unsigned transport = m->transport < DIRECTORY_TRANSPORTS ? m->transport : DIRECTORY_WS;
	struct msg_device_welcome yes = { .request = m->request, .ref = m->ref };
	struct directory_view view;
	uint64_t old_ref = REF_NONE;
	int64_t epoch, seq = 0;
	bool done;
	enum db_result result = find(s, m, d);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		return refuse(s, m, ERROR_invalid_token);

	/* Read again after a crash, and committed before it? */
	done = s->record.again && (d->online & 1u << transport) && d->conn[transport] == m->ref;
	epoch = done ? d->epoch_of[transport] : d->epoch + 1;
	TRY(batch_begin(s));
	if (claim(s, d, transport, m->ref, &epoch, &old_ref, &view) == -1) {
		log_error("the directory of devices is full: a device is refused");
		return refuse(s, m, ERROR_too_many);
	}
	/* The claim of a predecessor that died may have hidden whom it replaced. */
	if (done)
		old_ref = d->replaced;
	else if (s->record.again && old_ref == REF_NONE && (d->online & 1u << transport) &&
	    d->conn[transport] != m->ref)
		old_ref = d->conn[transport];
	if (!done)
		TRY(DB(s->db, device_connected, d->pk, transport, epoch, m->ref, old_ref, s->now));
	buf_clear(&s->event_json);
	buf_printf(&s->event_json, "{\"transport\":\"%s\"}", transport_name(transport));
	TRY(event_store(s, d, "device_connected", epoch, s->now, SLICE_NONE,
	    buf_slice(&s->event_json), &seq));
	TRY(list_unknown(s, d));

	yes.device_pk = d->pk;
	yes.epoch = epoch;
	yes.entry = view.index;
	yes.entry_generation = view.generation;
	yes.tenant = d->tenant;
	yes.device = d->id;
	yes.audience = d->audience;
	yes.reconcile_json = buf_slice(&s->json);
	yes.replaces = old_ref != REF_NONE &&
	    slot_is_live(s->shm, ref_slot(old_ref), (uint16_t)ref_slot_gen(old_ref));
	post_to_ref(s, device_welcome, &yes);
	kick_old(s, old_ref);
	tell_connected(s, d, transport, epoch, seq);
	return command_pump(s, d);
}

enum db_result
token_check(struct storage *s, const struct msg_token_check *m)
{
	enum db_result result = DB(s->db, device_by_token, m->token_hash, &s->device);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_OK && s->device.pk == m->device_pk)
		reply_json(s, m->request, m->ref, 200, SLICE("{}"));
	else
		reply_error(s, m->request, m->ref, ERROR_invalid_token, NULL, NULL);
	return DB_OK;
}
