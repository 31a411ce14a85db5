/*
 * room.h: descriptors for connections, and who leaves when they run out.
 *
 * A process may have only so many descriptors.  Whoever has not said yet who he is gets the one of
 * another who has not either, the oldest first: so those that say nothing, or only half of it, keep
 * nobody out, however many they are.  Some are kept back all the time: for server.admin_listen, and
 * for newcomers, among them those that come again for a session that they had.
 *
 *	all ──┬─ connections of server.admin_listen, ADMIN at least
 *	      └─ others ──┬─ sessions
 *	                  └─ no session yet, or no more; ENTRY at least
 */
#ifndef BELAY_GATEWAY_ROOM_H
#define BELAY_GATEWAY_ROOM_H

#include <stdbool.h>
#include <stdint.h>

struct conn;
struct gateway;

/* Connections without a session, in the order in which they are ended for others. */
enum room_list {
	ROOM_NONE,			/* a session, or not here any more */
	ROOM_GUESTS,			/* beyond a limit: are only to be told so */
	ROOM_STRANGERS,			/* showed no good token so far */
	ROOM_KNOWN,			/* their last request did */
	ROOM_ADMIN,
	ROOM_LISTS
};

#define ROOM_ADDRESSES 1024

/* In struct gateway. */
struct room {
	uint32_t most;			/* connections that there are descriptors for */
	uint32_t kept_admin, kept_entry;
	uint32_t held;			/* connections */
	struct {
		uint32_t first, last;	/* index + 1; the oldest first */
		uint32_t n;
	} list[ROOM_LISTS];
	uint32_t of_address[ROOM_ADDRESSES];	/* strangers, by a hash of their address; [0]: not counted */
	uint32_t ended;			/* for others, since that was last logged */
	int64_t told_ms;		/* monotonic: when it was */
};

/* At the start, when all other descriptors are open. */
void room_init(struct gateway *g);

/*
 * Is there a descriptor for one more connection, which has been accepted already?  Ends others for
 * it where that is needed.
 */
bool room_make(struct gateway *g, bool admin);
/* Ends the next one, for whatever lacks room.  false: there is none that may be ended. */
bool room_end_one(struct gateway *g);
/* The oldest guest has to make room for another. */
void room_end_guest(struct gateway *g);
/* The oldest stranger, of some seconds at least, has had its chance.  false: there is none. */
bool room_end_stranger(struct gateway *g);

/* A new connection. */
void room_begin(struct gateway *g, struct conn *c, enum room_list list);
/* It is something else now, and the youngest of that list. */
void room_enter(struct gateway *g, struct conn *c, enum room_list list);
/* Its session begins.  false: there is no room for more of them. */
bool room_open(struct gateway *g, struct conn *c, bool replaces);
/* The connection has ended. */
void room_leave(struct gateway *g, struct conn *c);

#endif
