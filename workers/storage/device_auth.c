/*
 * device_auth.c: a device's connection wants in, or a request of one that sleeps.  Only the storage process.
 *
 * Of a connection:
 *
 *	1. the token's hash, or tenant and id of a verified JWT, find the device; a token that is used for the
 *	   first time puts an end to those before it (device_token.c)
 *	2. epoch + 1 and the event, in the transaction
 *	3. after the commit: the directory entry is claimed, which later records of the batch see already
 *	   (batch_find), the answer, 4009 to the one replaced, device_connected to viewers, and what
 *	   waited for the device, in order
 */
#include "base/log.h"
#include "base/must.h"
#include "storage/storage.h"

enum db_result
storage_device(struct storage *s, int64_t pk, struct slice tenant, struct slice id)
{
	enum db_result result = DB(s->desk.db, device_by_pk, pk, false, &s->desk.device);

	if (result == DB_OK && !(slice_eq(s->desk.device.id, id) && slice_eq(s->desk.device.tenant, tenant)))
		return DB_NONE;
	return result;
}

bool
storage_route(const struct storage *s, const struct db_device *d, struct device_route *to)
{
	struct directory_view v;

	if (batch_find(s, desk_device_key(&s->desk, d), &v) != 1)
		return false;
	to->last_seen = desk_seen_at(&s->desk, &v);
	if (!desk_is_held(&s->desk, &v))
		return false;
	for (unsigned t = 0; t < DIRECTORY_TRANSPORTS; t++) {
		if (v.ref[t] != REF_NONE) {
			to->ref = v.ref[t];
			to->epoch = v.epoch[t];
			return true;
		}
	}
	return false;
}

static enum db_result
refuse(struct storage *s, const struct msg_device_auth *m, enum error_code code)
{
	struct msg_device_welcome no = { .request = m->request, .ref = m->ref, .code = code };

	post_to_ref(&s->desk, device_welcome, &no);
	return DB_OK;
}

static enum db_result
find(struct storage *s, bool by_token, const uint8_t hash[SHA256_LEN], struct slice tenant, struct slice device,
    struct db_device *d, bool *old)
{
	enum db_result result;

	if (!by_token)
		return DB(s->desk.db, device_by_id, tenant, device, false, d);
	result = token_find(s, hash, d, old);
	/*
	 * The token alone finds the device; an id that was given beside it must be that device's.
	 */
	if (result == DB_OK && device.len > 0 && !slice_eq(device, d->id))
		return DB_NONE;
	return result;
}

/* The ids of commands whose result is not known, as an array, into desk.json; none: nothing. */
static enum db_result
list_unknown(struct storage *s, const struct db_device *d)
{
	int64_t since = s->desk.now - RECONCILE_AGE_MS, after = 0;
	struct db_page *page = &s->desk.page;
	struct buf *b = &s->desk.json;
	unsigned count = 0, left = COMMAND_QUEUE_MAX + 2 * RECONCILE_MAX;

	buf_clear(b);
	do {
		const struct db_command *c;

		db_page_want(page, left);
		TRY(DB(s->desk.db, command_open, d->pk, after, page));
		c = page->row;
		for (unsigned i = 0; i < page->count && count < RECONCILE_MAX; i++) {
			if (c[i].status == COMMAND_QUEUED || c[i].sent_at < since)
				continue;
			buf_putc(b, count++ == 0 ? '[' : ',');
			buf_put_json_uuid(b, c[i].id);
		}
		after = page->last;
		left -= page->count;
	} while (page->more && left > 0 && count < RECONCILE_MAX);
	if (count > 0)
		buf_putc(b, ']');
	return DB_OK;
}

/*
 * Whom the connection replaces, and an epoch above all before it: the store may be older than the directory (it
 * was restored). -1: the directory is full.
 */
static int
find_old(struct storage *s, const struct db_device *d, unsigned transport, uint64_t ref, int64_t *epoch,
    uint64_t *old_ref)
{
	struct directory_view view;

	*old_ref = REF_NONE;
	if (batch_find(s, desk_device_key(&s->desk, d), &view) != 1)
		return directory_count(s->desk.shm) + s->batch.claim_count < shm_sizes(s->desk.shm)->devices ? 0 : -1;
	for (unsigned t = 0; t < DIRECTORY_TRANSPORTS; t++)
		if (view.ref[t] != REF_NONE && view.epoch[t] >= *epoch)
			*epoch = view.epoch[t] + 1;
	if (view.ref[transport] != ref)
		*old_ref = view.ref[transport];
	return 0;
}

static void
kick_old(struct storage *s, uint64_t ref)
{
	struct msg_kick kick = { .ref = ref, .why = WS_CLOSE_REPLACED };

	if (ref != REF_NONE)
		post_to_ref(&s->desk, kick, &kick);
}

static enum db_result
tell_connected(struct storage *s, const struct db_device *d, unsigned transport, int64_t epoch)
{
	struct db_event e = { .event = slice_of(EVENT_device_connected), .epoch = epoch };

	buf_clear(&s->event_json);
	buf_printf(&s->event_json, "{\"transport\":\"%s\"}", transport_name(transport));
	live_connection(&s->desk.json, d->id, epoch, transport_name(transport), s->desk.now, SLICE_NONE);
	e.data_json = buf_slice(&s->event_json);
	e.payload = buf_slice(&s->desk.json);
	return event_publish(s, d, "device_connected", &e);
}

enum db_result
device_auth(struct storage *s, const struct msg_device_auth *m)
{
	struct db_device *d = &s->desk.device;
	unsigned transport = m->transport < DIRECTORY_TRANSPORTS ? m->transport : DIRECTORY_WS;
	struct msg_device_welcome yes = { .request = m->request, .ref = m->ref };
	uint64_t old_ref;
	int64_t epoch;
	bool old = false;
	enum db_result result = find(s, m->by_token, m->token_hash, m->tenant, m->device, d, &old);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		return refuse(s, m, ERROR_invalid_token);
	if (m->by_token && m->tenant.len > 0 && !slice_eq(m->tenant, d->tenant))
		return refuse(s, m, ERROR_no_access);
	epoch = (d->epoch > s->epoch_floor ? d->epoch : s->epoch_floor) + 1;
	if (find_old(s, d, transport, m->ref, &epoch, &old_ref) == -1) {
		log_error("the directory of devices is full: a device is refused");
		return refuse(s, m, ERROR_too_many);
	}
	TRY(batch_begin(s));
	if (m->by_token)
		TRY(token_used(s, d, m->token_hash, old));
	TRY(DB(s->desk.db, device_connected, d->pk, transport, epoch, m->ref, s->desk.now));
	TRY(list_unknown(s, d));

	yes.device_pk = d->pk;
	yes.epoch = epoch;
	yes.tenant = d->tenant;
	yes.device = d->id;
	yes.audience = d->audience;
	yes.reconcile_json = buf_slice(&s->desk.json);
	yes.replaces = old_ref != REF_NONE &&
	    slot_is_live(s->desk.shm, ref_slot(old_ref), (uint16_t)ref_slot_gen(old_ref));
	buf_clear(&s->desk.pack);
	msg_pack_device_welcome(&s->desk.pack, &yes);
	effect_claim(s, desk_device_key(&s->desk, d), d->pk, transport, m->ref, epoch, MSG_device_welcome,
	    buf_slice(&s->desk.pack));
	kick_old(s, old_ref);
	TRY(tell_connected(s, d, transport, epoch));
	return command_pump(s, d, NULL);
}

/* Its connection, if it has one, stays as it is, and so do its epoch and what is said of its being connected. */
enum db_result
device_who(struct storage *s, const struct msg_device_who *m)
{
	struct db_device *d = &s->desk.device;
	struct msg_device_is is = { .request = m->request, .ref = m->ref };
	bool old = false;
	enum db_result result = find(s, m->by_token, m->token_hash, m->tenant, m->device, d, &old);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE) {
		is.code = ERROR_invalid_token;
	} else {
		TRY(batch_begin(s));
		if (m->by_token)
			TRY(token_used(s, d, m->token_hash, old));
		TRY(DB(s->desk.db, device_seen, d->pk, s->desk.now));
		is.tenant = d->tenant;
		is.device = d->id;
		is.owner = d->owner;
	}
	post_to_ref(&s->desk, device_is, &is);
	return DB_OK;
}
