/*
 * storage.c: the role "storage": the only process that writes to the store.  It drains
 * its mailbox, runs all that it found as one transaction (batch.c), and tells
 * the others what came of it.  It holds no connection of any client.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/must.h"
#include "shm/effects.h"
#include "storage/storage.h"

#define BATCH_MAX	1024
#define MAILBOX_BYTES	(8u << 20)
#define STEPS_PER_TICK	32		/* of each duty, when there is much to do */
#define ANSWER_TAKES_MS	5000		/* at most, from here to whoever asked */
/* A disk with less is full: small writes go on for a while, larger ones don't. */
#define ROOM_MIN	(INT64_C(512) << 10)

/*
 * Every kind of record that storage takes.  RUN(kind): the function of that name runs it.  Refused
 * with a store_reply, or kept, when the store fails.  Dated ones are refused, too, when they are old.
 * Told ones are kept, but where somebody waits for the answer they are refused when they are old.
 */
#define DATED(RUN) \
	RUN(command_new) RUN(command_cancel) RUN(rest) RUN(token_rotate)
#define REQUESTS(RUN) \
	RUN(ticket_put) RUN(token_check)
#define TOLD(RUN) \
	RUN(device_report) RUN(visitor_new)
#define KEPT(RUN) \
	RUN(device_gone) RUN(command_ack) RUN(device_send_failed) RUN(command_pump_on)
#define APART(RUN) \
	RUN(store_probe) \
	RUN(device_auth) RUN(device_who) RUN(ticket_take) RUN(sample)

/* A size for people; binary units. */
static void
put_size(struct buf *b, int64_t bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	size_t i = 0;

	for (bytes /= 1024; bytes >= 10240 && i + 1 < sizeof(units) / sizeof(units[0]); i++)
		bytes /= 1024;
	buf_printf(b, "%lld %s", (long long)bytes, units[i]);
}

/* The store takes no writes: why, what is free, and where. */
static void
probe_refuse(struct storage *s, const struct msg_store_probe *m)
{
	const char *url = s->desk.w->conf->store_url;
	struct db_space space;
	struct buf why = BUF_INIT;

	if (db_space(url, &space) == -1) {
		buf_printf(&why, "the store takes no writes: %s", db_error(s->desk.db));
	} else {
		if (space.free < ROOM_MIN)
			buf_puts(&why, "the disk of the store is full: ");
		else
			buf_printf(&why, "the store takes no writes: %s; ", db_error(s->desk.db));
		put_size(&why, space.free);
		buf_puts(&why, " of ");
		put_size(&why, space.size);
		buf_printf(&why, " are free at %s", space.path);
	}
	buf_putc(&why, '\0');
	reply_error(&s->desk, m->request, m->ref, ERROR_unavailable, NULL, why.data);
	buf_fini(&why);
}

/* A store that failed has to take more than a bit before it is believed. */
static enum db_result
store_probe(struct storage *s, const struct msg_store_probe *m)
{
	struct db_space space;

	if (db_space(s->desk.w->conf->store_url, &space) == 0 && space.free < ROOM_MIN) {
		probe_refuse(s, m);
		return DB_OK;
	}
	TRY(batch_begin(s));
	TRY(DB(s->desk.db, probe, s->desk.now, s->failing ? PROBE_BYTES : 0));
	reply_json(&s->desk, m->request, m->ref, 200, SLICE("{}"));
	return DB_OK;
}

static enum db_result
device_send_failed(struct storage *s, const struct msg_device_send_failed *m)
{
	return command_send_failed(s, m);
}

static enum db_result
not_understood(struct storage *s, const struct mail *mail)
{
	log_error("a record of kind %s from slot %u is not for storage, or torn",
	    msg_kind_name(mail->kind), mail->from);
	effect_count(s, STAT_MAIL_SKIPPED, 1);
	return DB_OK;
}

void
storage_go_on(struct storage *s)
{
	effect_post(s, s->desk.w->slot, s->running->kind, slice_bytes(s->running->data, s->running->len));
}

bool
storage_too_late(const struct storage *s, int64_t asked_ms)
{
	return s->desk.mono - asked_ms > MSG_ANSWER_MS - ANSWER_TAKES_MS;
}

enum db_result
storage_dispatch(struct storage *s, const struct mail *mail)
{
	s->running = mail;
	switch (mail->kind) {
#define RUN(kind) \
	case MSG_##kind: { \
		struct msg_##kind m; \
		if (msg_unpack_##kind(&m, mail->data, mail->len) == -1) \
			return not_understood(s, mail); \
		if (storage_too_late(s, m.asked_ms)) { \
			reply_error(&s->desk, m.request, m.ref, ERROR_unavailable, NULL, NULL); \
			return DB_OK; \
		} \
		return kind(s, &m); \
	}
	DATED(RUN)
#undef RUN
#define RUN(kind) \
	case MSG_##kind: { \
		struct msg_##kind m; \
		if (msg_unpack_##kind(&m, mail->data, mail->len) == -1) \
			return not_understood(s, mail); \
		return kind(s, &m); \
	}
	REQUESTS(RUN)
	KEPT(RUN)
	APART(RUN)
#undef RUN
#define RUN(kind) \
	case MSG_##kind: { \
		struct msg_##kind m; \
		if (msg_unpack_##kind(&m, mail->data, mail->len) == -1) \
			return not_understood(s, mail); \
		if (m.request != 0 && storage_too_late(s, m.asked_ms)) { \
			reply_error(&s->desk, m.request, m.ref, ERROR_unavailable, NULL, NULL); \
			return DB_OK; \
		} \
		return kind(s, &m); \
	}
	TOLD(RUN)
#undef RUN
	default:
		return not_understood(s, mail);
	}
}

bool
storage_refuse(struct storage *s, const struct mail *mail)
{
	switch (mail->kind) {
#define RUN(kind) \
	case MSG_##kind: { \
		struct msg_##kind m; \
		if (msg_unpack_##kind(&m, mail->data, mail->len) == 0) \
			reply_error(&s->desk, m.request, m.ref, ERROR_unavailable, NULL, NULL); \
		return true; \
	}
	DATED(RUN)
	REQUESTS(RUN)
#undef RUN
#define RUN(kind) case MSG_##kind:
	TOLD(RUN)
	KEPT(RUN)
#undef RUN
		return false;
	case MSG_store_probe: {
		struct msg_store_probe m;

		if (msg_unpack_store_probe(&m, mail->data, mail->len) == 0)
			probe_refuse(s, &m);
		return true;
	}
	case MSG_device_auth: {
		struct msg_device_auth m;
		struct msg_device_welcome no = { .code = ERROR_unavailable };

		if (msg_unpack_device_auth(&m, mail->data, mail->len) == 0) {
			no.request = m.request;
			no.ref = m.ref;
			post_to_ref(&s->desk, device_welcome, &no);
		}
		return true;
	}
	case MSG_device_who: {
		struct msg_device_who m;
		struct msg_device_is no = { .code = ERROR_unavailable };

		if (msg_unpack_device_who(&m, mail->data, mail->len) == 0) {
			no.request = m.request;
			no.ref = m.ref;
			post_to_ref(&s->desk, device_is, &no);
		}
		return true;
	}
	case MSG_ticket_take: {
		struct msg_ticket_take m;
		struct msg_ticket_taken no = { .code = ERROR_unavailable };

		if (msg_unpack_ticket_take(&m, mail->data, mail->len) == 0) {
			no.request = m.request;
			no.ref = m.ref;
			post_to_ref(&s->desk, ticket_taken, &no);
		}
		return true;
	}
	case MSG_sample:
		sample_refuse(s);
		return true;
	default:
		return true;
	}
}

/* The role */

static unsigned
count(const struct conf *conf)
{
	return conf->store_processes;
}

static void
read_settings(struct storage *s, const struct conf *conf)
{
	desk_settings(&s->desk, conf);
	s->retention_ms = conf->store_event_retention_ms;
	s->telemetry_retention_ms = conf->store_telemetry_retention_ms;
	s->in_flight = (uint32_t)conf->limits_commands_in_flight;
	s->return_ms = conf->server_return_time_ms;
	if (conf->server_instance[0] != '\0')
		snprintf(s->instance, sizeof(s->instance), "%s", conf->server_instance);
	else if (gethostname(s->instance, sizeof(s->instance) - 1) == -1)
		snprintf(s->instance, sizeof(s->instance), "belay");
}

/*
 * Two runs of an instance have different keys, and so different numbers: what the store says of
 * references is believed only for the run that wrote it.
 */
static int64_t
boot_number(const uint8_t *key)
{
	return (int64_t)(digest_sip64(key, "boot", 4) >> 1) | 1;
}

static void
stop(struct worker *w)
{
	struct storage *s = storage_of(w);

	if (s == NULL)
		return;
	sample_fini(s);
	tally_fini(&s->tallies);
	quota_fini(s);
	flights_fini(&s->flights);
	batch_fini(&s->batch);
	desk_fini(&s->desk);
	buf_fini(&s->event_json);
	buf_fini(&s->trace);
	free(s);
	w->data = NULL;
}

static int
check(const struct conf *conf, char *why, size_t len)
{
	return db_check_url(conf->store_url, why, len);
}

static int
arrange(const struct conf *conf, unsigned uid, unsigned gid)
{
	char err[512];
	int made = db_arrange(conf->store_url, uid, gid, err, sizeof(err));

	if (made == -1)
		log_error("store unreachable: %s", err);
	return made;
}

/* Where the store's folder is made, such as /var/lib, is mostly root's alone. */
static int
prepare(const struct worker *w, unsigned uid, unsigned gid)
{
	char err[512];

	if (db_make_folders(w->conf->store_url, uid, gid, err, sizeof(err)) == 0)
		return 0;
	log_error("store unreachable: %s", err);
	return -1;
}

/* Whoever is told is told after the commit. */
static void
post(struct desk *k, unsigned slot, uint16_t record, struct slice bytes)
{
	effect_post((struct storage *)k, slot, record, bytes);
}

static void
post_event(struct desk *k, unsigned slot, uint16_t record, struct slice bytes, unsigned event)
{
	effect_post_event((struct storage *)k, slot, record, bytes, event);
}

static void
publish_later(struct desk *k, const struct msg_publish *m, uint64_t slots, unsigned event)
{
	effect_publish((struct storage *)k, m, slots, event);
}

static int
start(struct worker *w)
{
	struct storage *s = must_alloc(sizeof(*s));
	char err[512];

	w->data = s;
	desk_init(&s->desk, w);
	s->desk.post = post;
	s->desk.post_event = post_event;
	s->desk.publish = publish_later;
	s->boot = boot_number(s->desk.key);
	read_settings(s, w->conf);
	tally_init(&s->tallies, worker_counts_since(w, s->desk.mono));
	flights_init(&s->flights);
	s->desk.db = db_open(w->conf->store_url, 0, err, sizeof(err));
	if (s->desk.db == NULL) {
		log_error("store unreachable: %s", err);
		goto fail;
	}
	/* What is not settled is settled first: recover() shall see it. */
	if (batch_start(s) == -1 || quota_start(s) == -1 || cursor_start(&s->desk) == DB_FAILED || recover(s) == -1) {
		log_error("store unreachable: %s", db_error(s->desk.db));
		goto fail;
	}
	batch_take_over(s);
	return 0;
fail:
	return WORKER_HOPELESS;		/* stop() frees what there is */
}

static void
mail(struct worker *w, const struct mail *m)
{
	struct storage *s = storage_of(w);

	if (s->batch.mail_count == 0) {
		desk_clocks(&s->desk);
		wall_follow(s);
	}
	batch_run(s, m);
}

static void
drained(struct storage *s)
{
	if (s->drain && (!batch_has_kept(s) || clock_mono_ms() >= s->drain_deadline)) {
		sample_drain(s);
		worker_done(s->desk.w);
	}
}

/* Readers look at it: a long log begins anew when none of them reads. */
static void
check_point(struct storage *s, bool busy)
{
	int64_t bytes;

	(void)DB(s->desk.db, idle, busy);
	if (DB(s->desk.db, log_bytes, &bytes) == DB_OK)
		__atomic_store_n(&s->desk.w->stats[STAT_STORE_LOG_BYTES], (uint64_t)bytes, __ATOMIC_RELAXED);
}

static void
end_of_batch(struct worker *w)
{
	struct storage *s = storage_of(w);

	batch_end(s);
	effect_flush(s);
	sample_write_many(s);
	check_point(s, true);
	if (s->drain && mailbox_used(w->shm, w->slot) == 0)
		drained(s);
}

/*
 * A duty, step by step, each a batch.  How far it came, as it notes that for itself, is the batch's: where the batch is
 * taken back that is, too.
 */
static void
do_duty(struct storage *s, enum db_result (*duty)(struct storage *))
{
	for (unsigned steps = 0; steps < STEPS_PER_TICK; steps++) {
		struct presence_sweep sweep = s->sweep;
		struct roomless roomless = s->roomless;
		bool good;

		s->more = false;
		if (duty(s) == DB_FAILED)
			s->batch.failed = true;
		good = batch_end(s);
		if (!good) {
			s->sweep = sweep;
			s->roomless = roomless;
		}
		if (good ? !s->more : !s->batch.again)
			break;
	}
}

/*
 * Work of its own, each kind as a batch of its own so that the failure of one is not that of
 * another.
 */
static void
tick(struct worker *w)
{
	struct storage *s = storage_of(w);
	static enum db_result (*const duties[])(struct storage *) = {
		command_deadlines, command_queue_tick, presence_tick, share_tick, token_tick, quota_tick
	};
	bool idle = mailbox_used(w->shm, w->slot) == 0;

	desk_clocks(&s->desk);
	wall_follow(s);
	if (batch_has_kept(s))
		batch_retry(s);
	for (size_t i = 0; i < sizeof(duties) / sizeof(duties[0]); i++)
		do_duty(s, duties[i]);
	sample_write(s);
	tally_sweep(&s->tallies, s->desk.mono);
	if (retention_tick(s, idle) == DB_FAILED)
		s->batch.failed = true;
	batch_end(s);
	check_point(s, !idle);
	if (s->drain && idle)
		drained(s);
}

static void
reload(struct worker *w)
{
	struct storage *s = storage_of(w);
	int64_t return_ms = s->return_ms;

	read_settings(s, w->conf);
	presence_reload(s, return_ms);
	retention_soon(s);
}

static void
drain(struct worker *w, int64_t deadline_mono_ms)
{
	struct storage *s = storage_of(w);

	s->drain = true;
	s->drain_deadline = deadline_mono_ms;
}

const struct worker_role storage_role = {
	.id = ROLE_ID_STORAGE,
	.count = count,
	.check = check,
	.arrange = arrange,
	.clear_away = db_clear_away,
	.mailbox_bytes = MAILBOX_BYTES,
	.effects = true,
	.prepare = prepare,
	.start = start,
	.mail = mail,
	.batch_end = end_of_batch,
	.tick = tick,
	.reload = reload,
	.drain = drain,
	.stop = stop,
	.drain_rank = 2,
	.consume_late = true,
	.batch_max = BATCH_MAX,
};
