/*
 * conn.h: one client's connection, from accept to close.
 *
 *	HTTP ──► AUTH ──► OPEN ──► CLOSING ──► free
 *	  │        ▲        ▲
 *	  │        │        └── a user's JWT is verified at once
 *	  ├──► RESUMING (?resume=) ──► OPEN
 *	  └──► SILENT (?auth=message: the token comes in the first message)
 *
 * The struct is small and lives in slabs: tens of thousands are idle at a time.
 * An idle one owns no buffer.
 */
#ifndef BELAY_GATEWAY_CONN_H
#define BELAY_GATEWAY_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "gateway/ws.h"
#include "ws/reader.h"

struct device;
struct filter;
struct gateway;
struct http;
struct output;
struct slab;
struct tls_conn;
struct user;

enum conn_phase {
	CONN_FREE,
	CONN_HTTP,
	CONN_AUTH,		/* 101 is written; storage is asked about a device's token */
	CONN_RESUMING,		/* accepted, and given what it missed before it takes and gives: resume.h */
	CONN_SILENT,		/* 101 is sent; the first message has to bring the token */
	CONN_OPEN,
	CONN_CLOSING		/* our close frame is sent, the peer's is waited for */
};

/*
 * What a connection is at the moment: each state is a table beside the code that does what it says.  Only input and
 * timer are always there.
 */
struct conn_state {
	enum conn_phase phase;
	/* Bytes came, in the clear; they may be changed. */
	void (*input)(struct gateway *g, struct conn *c, uint8_t *p, size_t n);
	/* The peer sends no more.  true: it is to be answered still; false, or NULL: the connection ends. */
	bool (*ended)(struct gateway *g, struct conn *c);
	/* Its second has come: wheel.h. */
	void (*timer)(struct gateway *g, struct conn *c);
	/* All that waited has left. */
	void (*sent)(struct gateway *g, struct conn *c);
	/* There is more to send than may wait. */
	void (*full)(struct gateway *g, struct conn *c);
	/* The connection ends: what the state has of it is freed. */
	void (*lost)(struct gateway *g, struct conn *c);
};

enum conn_kind { CONN_NOBODY, CONN_USER, CONN_DEVICE, CONN_ECHO };

struct conn {
	struct event ev;
	struct output *out;		/* owned; NULL: nothing waits */
	struct tls_conn *tls;		/* owned; NULL: the connection is in the clear */
	struct ws_reader reader;
	struct http *http;		/* owned; HTTP, and until a session is open */
	struct filter *filter;		/* owned; of users: which devices, NULL = all */
	union {
		struct user *user;	/* a reference; kind USER */
		struct device *device;	/* owned; kind DEVICE */
	};
	int64_t expires_ms;		/* wall clock; 0: never */
	uint32_t key, token;		/* by which it came: identity.h; 0: none */

	uint32_t index, generation;	/* what a reference names */
	uint32_t wheel_next, wheel_prev, due_s;
	uint32_t user_next, user_prev;	/* index + 1; all connections of one user */
	uint32_t tenant_next, tenant_prev;	/* those that see all of their tenant */
	uint32_t room_next, room_prev;	/* room.c: those without a session, the oldest first */
	uint32_t room_s;		/* since when it is in that list */
	uint16_t room_address;
	uint8_t room_list;		/* enum room_list */
	uint32_t ping_s;		/* when the next ping is due */

	uint32_t rate_ms;		/* limits.c: when the bucket was last looked at */
	uint32_t abuse_ms;		/* since when messages were dropped; 0: not */
	uint32_t invalid_s;		/* start of the minute in which bad messages are counted */
	float tokens;
	float auths;			/* limits.c: how often it may refresh its token now … */
	uint32_t auth_ms;		/* … as of then */
	uint32_t invalid_count;
	uint32_t refused_ms;		/* limits.c: when one was last refused for its rate */
	uint16_t refused_count;
	uint16_t warn_ms;		/* token_expiring comes so long before the end */

	const struct conn_state *state;	/* NULL: a free place */
	uint8_t kind;
	bool sees_all : 1, heard : 1, pinged : 1, warned : 1, deflate : 1, writing : 1,
	    drop_when_sent : 1, doomed : 1, reconnect_told : 1, any_tenant : 1, closed_by_peer : 1,
	    paused : 1, reads : 1, waits : 1;	/* reads: a reader was asked for it; waits: not read from while
						 * records of its own do: tell.c */
	uint8_t role;			/* enum role */
	uint8_t deflate_bits;
	bool admin : 1;			/* came by server.admin_listen */
	bool over_tls : 1;		/* came by server.tls_listen */
	bool awaits_proxy : 1;		/* the PROXY header comes first */
	bool by_proxy : 1;		/* a trusted proxy speaks: peer.c */
	bool hushed : 1;		/* not read from for a while: limits.c */
	bool guest : 1;			/* beyond a limit: is told so in answer to its request */
	bool charger : 1;		/* asked for a feed of chargers */
	bool pong_owed : 1;		/* a ping of ours is not answered */
	bool late : 1;			/* came while this process leaves: drain.c */
	uint8_t holds;			/* enum limits_place: where it is counted */
	uint8_t id[16];			/* connectionId of its greeting */
	uint8_t address[16];		/* the client's; v4 mapped into v6, zeros: unix socket */
};

static inline enum conn_phase
conn_phase(const struct conn *c)
{
	return c->state == NULL ? CONN_FREE : c->state->phase;
}
static inline bool session_is_open(const struct conn *c) { return conn_phase(c) == CONN_OPEN; }

struct conn_table {
	struct slab **slabs;
	uint32_t slab_count;
	uint32_t free;			/* index + 1 of a free one, linked by wheel_next */
	uint32_t open;
	/* index + 1 list of those to be freed at the end of the turn, by user_next */
	uint32_t doomed;
};

/* It is that from now on. */
void conn_become(struct conn *c, const struct conn_state *state);
void conn_timer(struct gateway *g, struct conn *c);

/* A connection by index; NULL when out of range. */
struct conn *conn_at(struct conn_table *t, uint32_t index);
/* registers the read event; NULL when full or out of memory */
struct conn *conn_new(struct gateway *g, int fd);
void conn_table_fini(struct gateway *g);

uint64_t conn_ref(const struct gateway *g, const struct conn *c);
/* NULL: stale, or another process's */
struct conn *conn_of_ref(struct gateway *g, uint64_t ref);

/* Numeric address for the log, without port, or "unix". */
void conn_peer(const struct conn *c, char out[INET6_ADDRSTRLEN]);
int conn_fd(const struct conn *c);

/* The peer sends no more; orderly: it said so, and may wait for an answer. */
void conn_ended(struct gateway *g, struct conn *c, bool orderly);
/* Ends the TCP connection without a word.  The struct is freed at the end of the turn. */
void conn_drop(struct gateway *g, struct conn *c);
/*
 * The same once all that waits has been sent (HTTP's last response, a close frame that was
 * answered).
 */
void conn_drop_when_sent(struct gateway *g, struct conn *c);
/* It is closing, and the peer has had time enough to read why. */
void conn_hurry(struct gateway *g, struct conn *c);
/* Nothing waits any more: if it was to be dropped then, now is the time. */
void conn_sent(struct gateway *g, struct conn *c);
void conn_reap(struct gateway *g);			/* at the end of each turn */

/* Switches the events that are waited for. */
void conn_want_write(struct gateway *g, struct conn *c, bool want);
void conn_pause_reading(struct gateway *g, struct conn *c, bool pause);
/* The same for a reason of its own: what it has said waits for its turn. */
void conn_hold_reading(struct gateway *g, struct conn *c, bool hold);
static inline bool conn_is_read(const struct conn *c) { return !c->paused && !c->waits; }
/* tls_conn_events() says something else than before. */
void conn_change_events(struct gateway *g, struct conn *c);
/* n bytes in g->read_buf came from the client, in the clear. */
void conn_input(struct gateway *g, struct conn *c, size_t n);

#endif
