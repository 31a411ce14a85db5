/*
 * storage_world.c: see storage_world.h.  Defines what role.c offers to roles, so that role.c is not linked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/must.h"
#include "base/stats_names.h"
#include "storage_world.h"

static struct world *the_world;

int
worker_post(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt)
{
	must(mailbox_post(w->shm, to, kind, iov, iovcnt) == 0);
	return 0;
}

int
worker_post_now(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt)
{
	return mailbox_post(w->shm, to, kind, iov, iovcnt);
}

int
worker_post_idly(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt)
{
	return mailbox_post_idly(w->shm, to, kind, iov, iovcnt);
}

int
worker_slot_of(const struct worker *w, enum worker_role_id role, unsigned nth)
{
	return slot_find(w->shm, role, nth);
}

void
worker_alive(struct worker *w)
{
	(void)w;
}

void
worker_soon(struct worker *w)
{
	(void)w;
}

void
worker_done(struct worker *w)
{
	w->draining = true;
}

void
worker_observe(struct worker *w, unsigned histogram, uint64_t us)
{
	worker_count(w, histogram + stat_bucket(us), 1);
	worker_count(w, histogram + STAT_HISTOGRAM_CELLS - 1, us);
}

void
world_open(struct world *t, const char *url, bool members_view)
{
	struct shm_sizes sizes = {
		.slots = 4, .devices = 20000, .commands = 20000, .topics = 1000, .limits = 16,
		.mailbox_bytes = 8u << 20, .counters = STAT_CELLS, .effects = 1u << STORAGE_SLOT
	};

	memset(t, 0, sizeof(*t));
	the_world = t;
	t->shm = shm_create(&sizes);
	must(t->shm != NULL);
	t->conf = must_alloc(sizeof(*t->conf));
	t->conf->limits_send_buffer_bytes = 1u << 20;
	t->conf->store_url = must_strndup(url, strlen(url));
	t->conf->store_processes = 1;
	t->conf->server_instance = must_strndup("belay-test", 10);
	t->conf->auth_tenant_members = members_view ? CONF_TENANT_MEMBERS_VIEW : CONF_TENANT_MEMBERS_NONE;
	t->conf->store_event_retention_ms = INT64_C(90) * 24 * 3600 * 1000;
	t->conf->store_telemetry_retention_ms = INT64_C(24) * 3600 * 1000;
	t->conf->limits_heartbeat_ms = 30000;
	t->conf->limits_commands_in_flight = 32;
	t->conf->server_return_time_ms = 30000;
	for (unsigned slot = 0; slot < 4; slot++) {
		bool gateway = slot != STORAGE_SLOT && slot != READER_SLOT;

		slot_take(t->shm, slot, gateway ? ROLE_ID_GATEWAY : slot == STORAGE_SLOT ? ROLE_ID_STORAGE : ROLE_ID_READER,
		    gateway ? slot - 1 : 0);
		slot_set_pid(t->shm, slot, getpid());
		slot_set_state(t->shm, slot, SLOT_READY);
	}
	shm_set_self(t->shm, STORAGE_SLOT);
	for (unsigned slot = 1; slot < 3; slot++)
		mailbox_reader_init(&t->inbox[slot], t->shm, slot);
	t->keep_posted = true;
}

void
world_close(struct world *t)
{
	if (t->reader.data != NULL)
		reader_role.stop(&t->reader);
	if (t->reader.base != NULL)
		event_base_free(t->reader.base);
	if (t->w.data != NULL)
		world_stop(t);
	world_forget(t);
	free(t->posted);
	buf_fini(&t->record);
	free(t->conf->store_url);
	free(t->conf->server_instance);
	free(t->conf);
	shm_free(t->shm);
	the_world = NULL;
}

void
world_start(struct world *t)
{
	struct slot_view v;

	slot_get(t->shm, STORAGE_SLOT, &v);
	memset(&t->w, 0, sizeof(t->w));
	t->w.role = &storage_role;
	t->w.slot = STORAGE_SLOT;
	t->w.generation = v.generation;
	t->w.shm = t->shm;
	t->w.conf = t->conf;
	t->w.stats = stats_block(t->shm, STORAGE_SLOT);
	mailbox_reader_init(&t->w.mailbox, t->shm, STORAGE_SLOT);
	must(storage_role.start(&t->w) == 0);
}

void
world_stop(struct world *t)
{
	storage_role.stop(&t->w);
}

void
world_kill(struct world *t)
{
	storage_role.stop(&t->w);
	slot_died(t->shm, STORAGE_SLOT);
	slot_take(t->shm, STORAGE_SLOT, ROLE_ID_STORAGE, 0);
	slot_set_pid(t->shm, STORAGE_SLOT, getpid());
	shm_set_self(t->shm, STORAGE_SLOT);
}

static void
start_reader(struct world *t)
{
	struct slot_view v;

	slot_get(t->shm, READER_SLOT, &v);
	t->reader = (struct worker){
		.role = &reader_role, .slot = READER_SLOT, .generation = v.generation, .shm = t->shm, .conf = t->conf,
		.base = event_base_new(), .stats = stats_block(t->shm, READER_SLOT)
	};
	mailbox_reader_init(&t->reader.mailbox, t->shm, READER_SLOT);
	must(reader_role.start(&t->reader) == 0);
}

void
world_read_record(struct world *t, uint16_t kind)
{
	struct iovec iov = { t->record.data, t->record.len };
	struct mail mail;

	if (t->reader.data == NULL)
		start_reader(t);
	must(mailbox_post(t->shm, READER_SLOT, kind, &iov, 1) == 0);
	while (mailbox_next(&t->reader.mailbox, &mail) == 1)
		reader_role.mail(&t->reader, &mail);
	mailbox_consume(&t->reader.mailbox);
	do {
		(void)event_base_loop(t->reader.base, EVLOOP_NONBLOCK);
		reader_role.batch_end(&t->reader);
	} while (t->reader.stats[STAT_READS_WAITING] > 0);
	world_collect(t);
}

void
world_post_record(struct world *t, uint16_t kind)
{
	struct iovec iov = { t->record.data, t->record.len };

	must(mailbox_post(t->shm, STORAGE_SLOT, kind, &iov, 1) == 0);
}

/* As role.c does, until nothing comes any more. */
void
world_run(struct world *t)
{
	struct mail mail;
	unsigned n;

	do {
		t->w.now_ms = clock_now_ms();
		t->w.mono_ms = clock_mono_ms();
		for (n = 0; n < storage_role.batch_max && mailbox_next(&t->w.mailbox, &mail) == 1; n++)
			if (!mailbox_had(&mail, t->own_tags))
				storage_role.mail(&t->w, &mail);
		storage_role.batch_end(&t->w);
		mailbox_consume(&t->w.mailbox);
	} while (n > 0);
	world_collect(t);
}

void
world_tick(struct world *t)
{
	storage_role.tick(&t->w);
	world_collect(t);
}

void
world_collect(struct world *t)
{
	struct mail mail;

	for (unsigned slot = 1; slot < 3; slot++) {
		while (mailbox_next(&t->inbox[slot], &mail) == 1) {
			struct posted *p;

			if (mailbox_had(&mail, t->tags[slot]))
				continue;
			t->posted_total++;
			if (!t->keep_posted)
				continue;
			if (t->posted_count == t->posted_cap) {
				t->posted_cap = t->posted_cap > 0 ? t->posted_cap * 2 : 64;
				t->posted = must_realloc(t->posted, t->posted_cap * sizeof(*t->posted));
			}
			p = &t->posted[t->posted_count++];
			p->slot = slot;
			p->kind = mail.kind;
			p->bytes = (struct buf)BUF_INIT;
			buf_put(&p->bytes, mail.data, mail.len);
		}
		mailbox_consume(&t->inbox[slot]);
	}
}

void
world_forget(struct world *t)
{
	for (size_t i = 0; i < t->posted_count; i++)
		buf_fini(&t->posted[i].bytes);
	t->posted_count = 0;
}

struct posted *
world_posted(struct world *t, uint16_t kind, unsigned nth)
{
	for (size_t i = 0; i < t->posted_count; i++)
		if (t->posted[i].kind == kind && nth-- == 0)
			return &t->posted[i];
	return NULL;
}

unsigned
world_count(struct world *t, uint16_t kind)
{
	unsigned n = 0;

	for (size_t i = 0; i < t->posted_count; i++)
		n += t->posted[i].kind == kind;
	return n;
}
