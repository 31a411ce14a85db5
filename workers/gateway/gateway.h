/*
 * gateway.h: the state of one gateway process, shared by the files of this folder.
 *
 * A gateway accepts clients, speaks HTTP and WebSocket with them, and holds
 * nothing that can't be lost: what must last is asked of storage.  It never
 * blocks.  README.md says which file does what.
 */
#ifndef BELAY_GATEWAY_GATEWAY_H
#define BELAY_GATEWAY_GATEWAY_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/verify.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/stats_names.h"
#include "gateway/ask.h"
#include "gateway/conn.h"
#include "gateway/follow.h"
#include "gateway/keysets.h"
#include "gateway/output.h"
#include "gateway/party.h"
#include "gateway/reads.h"
#include "gateway/refusals.h"
#include "gateway/revoke.h"
#include "gateway/room.h"
#include "gateway/tell.h"
#include "gateway/tls_conn.h"
#include "gateway/turns.h"
#include "gateway/wheel.h"
#include "http/forwarded.h"
#include "msg/envelope.h"
#include "msg/msg.h"
#include "workers/role.h"
#include "ws/deflate.h"
#include "ws/reader.h"

#define GATEWAY_READ_SIZE 65536
#define COMMAND_TIMEOUT_MS 30000		/* where the request names none */

struct gateway {
	struct worker *w;
	const struct conf *conf;	/* w->conf, for short */
	struct auth *auth;
	int64_t keys_due_ms;		/* monotonic: when key sets in files are looked at again */
	struct keysets keysets;		/* those that are had by URL */
	struct revoke revoke;
	char instance[256];		/* server.instance, or the host's name */

	struct conn_table conns;
	struct output_pool outputs;
	struct wheel wheel;
	struct ask_table asks;
	struct reads reads;
	struct turns to_storage;	/* tell.c */
	int64_t tell_retry_ms;		/* what tell_storage() refused last may be tried again so much later */
	struct event look;		/* … when it is looked whether more may go */
	struct { uint64_t waited, dropped; } turns_counted;
	struct follow_table follows;
	struct party_table parties;
	struct listener *listeners;	/* accept.c */
	struct tls_conns tls;
	struct networks trusted;	/* server.trusted_proxies: peer.c */
	struct {			/* limits.c: connections that are not read from */
		struct hush *v;
		uint32_t n, cap;
	} hushed;
	struct refusals refusals;
	struct room room;
	int64_t uncounted_ms;		/* monotonic: when a full table of limits was last logged */
	uint32_t guests;		/* connections that are only to be told why not */
	int64_t accept_again_ms;	/* monotonic; 0: accepting */
	bool accept_over;		/* no connection is taken any more, but by the admin listener */
	uint32_t lates;			/* connections that came while this process leaves */
	int64_t no_room_ms;		/* monotonic: when it was last logged that none can be taken */

	/* One of each for the whole process: used up within a call. */
	uint8_t *read_buf;		/* GATEWAY_READ_SIZE bytes */
	struct buf scratch;		/* a frame or answer being written */
	struct buf payload;		/* a message's payload being written */
	struct buf record;		/* a record being packed */
	struct envelope envelope;
	bool owed;			/* what is in it is the answer to a command: device_owes() */
	struct fields fields;

	struct ws_limits limits, echo_limits;
	struct ws_inflate *inflate;	/* NULL without ws.deflate */
	struct ws_deflate *deflate;

	int64_t since_ms;		/* monotonic: when this process began to count */
	bool stopping;			/* stop() ends what is left */
	struct {			/* drain.c */
		int64_t deadline_ms;	/* monotonic */
		double allowance;
		uint32_t position;
		int64_t last_ms;
	} drain;
};

/* Counts one event in this process's statistics. */
#define gateway_count(g, counter, n) worker_count((g)->w, STAT_##counter, (n))

/*
 * Packs a record made of struct msg_NAME for storage, where it goes in its turn.  -1: not taken, and
 * tell_refusal() says why.
 */
#define gateway_tell_storage(g, name, m) \
	(buf_clear(&(g)->record), msg_pack_##name(&(g)->record, (m)), \
	    tell_storage((g), MSG_##name, msg_whose_##name(m)))
int gateway_storage_slot(const struct gateway *g);	/* -1: there is none */
/* Does this process leave, or will the instance soon?  It is not ready then. */
static inline bool
gateway_leaves(const struct gateway *g)
{
	return g->w->draining || shm_course(g->w->shm) != SHM_STAYS;
}
int gateway_post(struct gateway *g, int slot, uint16_t kind);	/* posts g->record */

extern const struct worker_role gateway_role;

/* The gateway is leaving: see drain.c. */
void drain_start(struct gateway *g, int64_t deadline_mono_ms);
void drain_tick(struct gateway *g);

#endif
