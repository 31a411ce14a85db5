/*
 * gateway.c: the role: start, records from other processes, time, reload,
 * drain and stop of a gateway process.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cores.h"
#include "base/log.h"
#include "base/must.h"
#include "gateway/accept.h"
#include "gateway/conn.h"
#include "gateway/deliver.h"
#include "gateway/device.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/own.h"
#include "gateway/peer.h"
#include "gateway/refusals.h"
#include "gateway/resume.h"
#include "gateway/session.h"
#include "gateway/ticket.h"
#include "gateway/upgrade.h"
#include "gateway/users.h"
#include "auth/from_conf.h"

#define MAX_FRAGMENTS	10000		/* frames of one message */
#define ECHO_MESSAGE	(16u << 20)	/* conformance tests send large ones */

static unsigned
gateway_count_for(const struct conf *conf)
{
	unsigned cores;

	if (conf->server_workers > 0)
		return conf->server_workers;
	cores = cores_usable();
	return cores > SHM_MAX_SLOTS - 4 ? SHM_MAX_SLOTS - 4 : cores;
}

int
gateway_storage_slot(const struct gateway *g)
{
	return worker_slot_of(g->w, ROLE_ID_STORAGE, 0);
}

int
gateway_post(struct gateway *g, int slot, uint16_t kind)
{
	struct iovec iov = { g->record.data, g->record.len };

	return slot == -1 ? -1 : worker_post(g->w, (unsigned)slot, kind, &iov, 1);
}

static void
apply_limits(struct gateway *g)
{
	g->limits = (struct ws_limits){
		.max_message = (uint32_t)g->conf->limits_message_size_bytes,
		.max_fragments = MAX_FRAGMENTS,
		.inflate = g->inflate
	};
	g->echo_limits = g->limits;
	g->echo_limits.max_message = ECHO_MESSAGE;
	g->echo_limits.max_fragments = 1u << 20;
	g->envelope.depth = g->fields.depth = (unsigned)g->conf->limits_json_depth;
}

static int
load_auth(struct gateway *g)
{
	char err[256];
	struct auth *auth = auth_new_from_conf(g->conf, keysets_unknown_kid, g, err, sizeof(err));

	if (auth == NULL) {
		log_error("%s", err);
		return -1;
	}
	auth_free(&g->auth);
	g->auth = auth;
	g->revoke.version = 0;		/* versions are counted anew */
	keysets_take_up(g);
	return 0;
}

/*
 * In the master: are the keys, and the certificate, good?  A bad one is refused before anything is
 * started or reloaded.
 */
static int
gateway_check(const struct conf *conf, char *why, size_t len)
{
	struct auth *auth = auth_new_from_conf(conf, NULL, NULL, why, len);

	if (auth == NULL)
		return -1;
	auth_free(&auth);
	return tls_conn_check(conf, why, len);
}

static void
set_up_deflate(struct gateway *g)
{
	if (g->conf->ws_deflate && g->inflate == NULL) {
		g->inflate = ws_inflate_new();
		g->deflate = ws_deflate_new(6);
	}
}

static int
gateway_start(struct worker *w)
{
	struct gateway *g = must_alloc(sizeof(*g));

	w->data = g;
	g->w = w;
	g->conf = w->conf;
	g->since_ms = worker_counts_since(w, clock_mono_ms());
	w->stats[STAT_CONNECTIONS_OPEN] = 0;	/* those of a predecessor are gone */
	w->stats[STAT_WS_USERS] = 0;
	w->stats[STAT_WS_DEVICES] = 0;
	if (g->conf->server_instance[0] != '\0')
		snprintf(g->instance, sizeof(g->instance), "%s", g->conf->server_instance);
	else if (gethostname(g->instance, sizeof(g->instance) - 1) == -1)
		memcpy(g->instance, "belay", 6);
	g->read_buf = must_alloc(GATEWAY_READ_SIZE);
	output_pool_init(&g->outputs);
	wheel_init(&g->wheel, (uint32_t)(w->mono_ms / 1000));
	/*
	 * Numbers of questions start anew with each generation, so that a predecessor's answers are
	 * not taken for ours.
	 */
	ask_init(&g->asks, (uint64_t)w->generation << 48);
	reads_init(g);
	tell_start(g);
	follow_init(&g->follows);
	party_init(&g->parties);
	peer_load(g);
	envelope_init(&g->envelope);
	fields_init(&g->fields);
	set_up_deflate(g);
	apply_limits(g);
	if (load_auth(g) == -1 || tls_conn_load(g) == -1)
		return -1;
	return accept_start(g);
}

#define UNPACK(name, mail, m) \
	must(msg_unpack_##name((m), (mail)->data, (mail)->len) == 0)

/* A right was withdrawn, and from now on an open connection is held to it. */
static void
note_revocation(struct gateway *g, int64_t asked_ms)
{
	if (asked_ms != 0)
		worker_observe(g->w, STAT_REVOCATION_US,
		    g->w->mono_ms > asked_ms ? (uint64_t)(g->w->mono_ms - asked_ms) * 1000 : 0);
}

static void
on_kick(struct gateway *g, const struct msg_kick *m)
{
	struct conn *c = conn_of_ref(g, m->ref);

	if (c == NULL || conn_phase(c) == CONN_HTTP)
		return;
	conn_close(g, c, (enum ws_close)m->why);
	note_revocation(g, m->asked_ms);
}

static void
gateway_mail(struct worker *w, const struct mail *mail)
{
	struct gateway *g = w->data;

	switch (mail->kind) {
	case MSG_publish: {
		struct msg_publish m;

		UNPACK(publish, mail, &m);
		deliver_here(g, &m);
		break;
	}
	case MSG_gap: {
		struct msg_gap m;

		UNPACK(gap, mail, &m);
		deliver_gap(g, &m);
		break;
	}
	case MSG_store_reply: {
		struct msg_store_reply m;

		UNPACK(store_reply, mail, &m);
		if (m.request == 0)
			device_refused(g, &m);
		else
			ask_answer(g, &m);
		break;
	}
	case MSG_device_send: {
		struct msg_device_send m;

		UNPACK(device_send, mail, &m);
		device_deliver(g, &m);
		break;
	}
	case MSG_device_welcome: {
		struct msg_device_welcome m;

		UNPACK(device_welcome, mail, &m);
		upgrade_welcome(g, &m);
		break;
	}
	case MSG_device_is: {
		struct msg_device_is m;

		UNPACK(device_is, mail, &m);
		own_answer(g, &m);
		break;
	}
	case MSG_kick: {
		struct msg_kick m;

		UNPACK(kick, mail, &m);
		on_kick(g, &m);
		break;
	}
	case MSG_audience: {
		struct msg_audience m;
		struct conn *c;

		UNPACK(audience, mail, &m);
		c = conn_of_ref(g, m.ref);
		if (c != NULL && conn_phase(c) == CONN_OPEN && c->kind == CONN_DEVICE) {
			device_set_audience(c->device, m.audience);
			note_revocation(g, m.asked_ms);
		}
		break;
	}
	case MSG_user_task: {
		struct msg_user_task m;

		UNPACK(user_task, mail, &m);
		users_task(g, &m, mail->from);
		break;
	}
	case MSG_user_done: {
		struct msg_user_done m;

		UNPACK(user_done, mail, &m);
		users_done(g, &m);
		break;
	}
	case MSG_resume_part: {
		struct msg_resume_part m;

		UNPACK(resume_part, mail, &m);
		resume_part(g, &m);
		break;
	}
	case MSG_keys_set: {
		struct msg_keys_set m;

		UNPACK(keys_set, mail, &m);
		keysets_part(g, &m);
		break;
	}
	case MSG_keys_checked: {
		struct msg_keys_checked m;

		UNPACK(keys_checked, mail, &m);
		keysets_checked(g, &m);
		break;
	}
	case MSG_ticket_taken: {
		struct msg_ticket_taken m;

		UNPACK(ticket_taken, mail, &m);
		ticket_taken(g, &m);
		break;
	}
	default:			/* role.c lets in what msg.def has for gateways, and each of it is above */
		must(mail->kind == MSG_none);
	}
}

static void
gateway_batch_end(struct worker *w)
{
	struct gateway *g = w->data;

	output_flush_all(g);
	tell_turn(g);
	conn_reap(g);
	tls_conn_turn(g);
}

static void
fire(void *arg, struct conn *c)
{
	conn_timer(arg, c);
}

static void
gateway_tick(struct worker *w)
{
	struct gateway *g = w->data;

	wheel_turn(&g->wheel, &g->conns, (uint32_t)(w->mono_ms / 1000), fire, g);
	ask_tick(g);
	reads_tick(g);
	tell_tick(g);
	keysets_tick(g);
	tenant_sweep(g);
	accept_tick(g);
	limits_tick(g);
	refusals_tick(g);
	tls_conn_tick(g);
	drain_tick(g);
	if (w->mono_ms >= g->keys_due_ms) {
		g->keys_due_ms = w->mono_ms + g->conf->auth_jwks_refresh_ms;
		auth_refresh(g->auth, w->now_ms);
	}
	revoke_tick(g);
}

static void
gateway_reload(struct worker *w)
{
	struct gateway *g = w->data;
	struct conn *c;

	g->conf = w->conf;
	set_up_deflate(g);
	apply_limits(g);
	peer_load(g);
	limits_reload(g);
	tell_reload(g);
	for (uint32_t i = 0; (c = conn_at(&g->conns, i)) != NULL; i++)
		if (conn_phase(c) == CONN_OPEN || conn_phase(c) == CONN_AUTH || conn_phase(c) == CONN_RESUMING)
			session_rights_changed(g, c);
	if (load_auth(g) == -1)
		log_error("the keys in force stay as they were");
	if (tls_conn_load(g) == -1)
		log_error("the certificate in force stays as it was");
}

static void
gateway_drain(struct worker *w, int64_t deadline_mono_ms)
{
	drain_start(w->data, deadline_mono_ms);
}

static void
gateway_stop(struct worker *w)
{
	struct gateway *g = w->data;

	if (g == NULL)
		return;
	g->stopping = true;
	accept_stop(g);
	refusals_end(g);
	free(g->listeners);
	conn_table_fini(g);
	tell_stop(g);
	keysets_fini(g);
	tls_conn_fini(g);
	peer_fini(g);
	limits_fini(g);
	output_pool_fini(&g->outputs);
	reads_fini(g);
	ask_fini(&g->asks);
	follow_fini(&g->follows);
	party_fini(&g->parties);
	envelope_fini(&g->envelope);
	fields_fini(&g->fields);
	buf_fini(&g->scratch);
	buf_fini(&g->payload);
	buf_fini(&g->record);
	ws_inflate_free(&g->inflate);
	ws_deflate_free(&g->deflate);
	auth_free(&g->auth);
	free(g->read_buf);
	free(g);
	w->data = NULL;
}

const struct worker_role gateway_role = {
	.id = ROLE_ID_GATEWAY,
	.listens = true,
	.count = gateway_count_for,
	.check = gateway_check,
	.start = gateway_start,
	.mail = gateway_mail,
	.batch_end = gateway_batch_end,
	.tick = gateway_tick,
	.reload = gateway_reload,
	.drain = gateway_drain,
	.stop = gateway_stop,
	.drain_rank = 0
};
