/*
 * room.c: the descriptors of a gateway process: how many there are for connections, the lists of
 * those that have no session, and the choice of who is ended when a newcomer finds none free.
 *
 * Owns the links of struct conn that are named after it.  Never ends a session, nor a request of
 * somebody known that is in hand.
 */
#include <dirent.h>
#include <sys/resource.h>

#include "base/log.h"
#include "gateway/accept.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/peer.h"
#include "gateway/room.h"
#include "shm/ref.h"

#define SPARE		8		/* descriptors for files that are opened now and then */
#define ADMIN_MAX	8
#define ENTRY_MIN	4
#define ENTRY_MAX	256
#define LOOKED_AT	64		/* of the oldest, for the one whose address has the most */
#define CHANCE_S	2		/* in which a client says what it wants */
#define ROOM_RETRY_MS	5000
#define TELL_EVERY_MS	10000

static unsigned
open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	if (dir == NULL)
		return 64;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

void
room_init(struct gateway *g)
{
	unsigned used = open_descriptors() + SPARE;
	struct room *r = &g->room;
	struct rlimit limit;

	r->most = REF_INDEX_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < r->most)
		r->most = limit.rlim_cur > used ? (uint32_t)limit.rlim_cur - used : 1;
	r->kept_admin = g->conf->server_admin_listen[0] == '\0' ? 0 :
	    r->most / 8 < ADMIN_MAX ? r->most / 8 : ADMIN_MAX;
	r->kept_entry = r->most / 8 < ENTRY_MIN ? ENTRY_MIN :
	    r->most / 8 > ENTRY_MAX ? ENTRY_MAX : r->most / 8;
}

/* --- the lists */

static void
unlink_from(struct gateway *g, struct conn *c)
{
	struct room *r = &g->room;

	if (c->room_list == ROOM_NONE)
		return;
	*(c->room_prev != 0 ? &conn_at(&g->conns, c->room_prev - 1)->room_next :
	    &r->list[c->room_list].first) = c->room_next;
	*(c->room_next != 0 ? &conn_at(&g->conns, c->room_next - 1)->room_prev :
	    &r->list[c->room_list].last) = c->room_prev;
	r->list[c->room_list].n--;
	if (c->room_list == ROOM_STRANGERS)
		r->of_address[c->room_address]--;
	c->room_next = c->room_prev = 0;
	c->room_list = ROOM_NONE;
}

void
room_enter(struct gateway *g, struct conn *c, enum room_list list)
{
	struct room *r = &g->room;
	uint32_t last;

	unlink_from(g, c);
	last = r->list[list].last;
	c->room_prev = last;
	*(last != 0 ? &conn_at(&g->conns, last - 1)->room_next : &r->list[list].first) = c->index + 1;
	r->list[list].last = c->index + 1;
	r->list[list].n++;
	if (list == ROOM_STRANGERS)
		r->of_address[c->room_address]++;
	c->room_list = (uint8_t)list;
	c->room_s = g->wheel.now;
}

void
room_begin(struct gateway *g, struct conn *c, enum room_list list)
{
	g->room.held++;
	/* A proxy's connections are of many clients. */
	if (!c->by_proxy)
		c->room_address = (uint16_t)(1 + peer_address_hash(g, c->address) % (ROOM_ADDRESSES - 1));
	room_enter(g, c, list);
}

bool
room_open(struct gateway *g, struct conn *c, bool replaces)
{
	const struct room *r = &g->room;
	uint32_t kept = r->kept_admin + r->kept_entry, sessions = r->held;

	for (unsigned i = ROOM_NONE + 1; i < ROOM_LISTS; i++)
		sessions -= r->list[i].n;
	if (!replaces && sessions + kept >= r->most) {
		gateway_count(g, CONNECTIONS_REFUSED, 1);
		return false;
	}
	unlink_from(g, c);
	return true;
}

void
room_leave(struct gateway *g, struct conn *c)
{
	unlink_from(g, c);
	g->room.held--;
}

/* --- who leaves */

/* Something is done for it that ends soon by itself. */
static bool
is_busy(const struct conn *c)
{
	if (c->drop_when_sent || conn_phase(c) == CONN_CLOSING)
		return false;
	if (conn_phase(c) != CONN_HTTP)
		return conn_phase(c) == CONN_AUTH || conn_phase(c) == CONN_RESUMING;
	return c->http->state == REQUEST_ASKED || c->http->state == REQUEST_HELD ||
	    (c->room_list == ROOM_KNOWN && c->http->state == REQUEST_BODY);
}

/*
 * The oldest; of strangers, and as far as is looked, the oldest of the address that has the most of
 * them, so that who comes one at a time is not ended for one who comes in crowds.  Those who are busy
 * are put behind the others.  NULL: none was found.
 */
static struct conn *
choose(struct gateway *g, enum room_list list)
{
	struct conn *c, *best = NULL;
	uint32_t next = g->room.list[list].first, most = 0, n;

	for (unsigned i = 0; i < LOOKED_AT && next != 0; i++) {
		c = conn_at(&g->conns, next - 1);
		next = c->room_next;
		if (is_busy(c)) {
			room_enter(g, c, list);
			continue;
		}
		n = list == ROOM_STRANGERS && c->room_address != 0 ? g->room.of_address[c->room_address] : 1;
		if (n > most) {
			most = n;
			best = c;
		}
		if (list != ROOM_STRANGERS)
			break;
	}
	return best;
}

static void
tell(struct gateway *g)
{
	struct room *r = &g->room;

	gateway_count(g, CONNECTIONS_ENDED_FOR_OTHERS, 1);
	r->ended++;
	if (r->told_ms != 0 && g->w->mono_ms - r->told_ms < TELL_EVERY_MS)
		return;
	log_warn("%u connections of clients that had not said who they are were ended to make room for others "
	    "(%u of %u connections)", r->ended, r->held, r->most);
	r->told_ms = g->w->mono_ms;
	r->ended = 0;
}

/* With a word in HTTP, where nothing else may have been said. */
static void
end(struct gateway *g, struct conn *c)
{
	if (conn_phase(c) == CONN_HTTP && !c->over_tls && !c->by_proxy && !c->drop_when_sent && !c->http->answered)
		accept_say_no(g, conn_fd(c), 503, ROOM_RETRY_MS);
	conn_drop(g, c);
	tell(g);
}

static bool
end_of(struct gateway *g, enum room_list list)
{
	struct conn *c = choose(g, list);

	if (c == NULL)
		return false;
	end(g, c);
	return true;
}

bool
room_end_one(struct gateway *g)
{
	return end_of(g, ROOM_GUESTS) || end_of(g, ROOM_STRANGERS) || end_of(g, ROOM_KNOWN);
}

bool
room_make(struct gateway *g, bool admin)
{
	const struct room *r = &g->room;

	while (r->held >= r->most ||
	    (!admin && r->held - r->list[ROOM_ADMIN].n >= r->most - r->kept_admin)) {
		/* Who has what is kept for him takes from nobody else. */
		if (admin && r->list[ROOM_ADMIN].n >= r->kept_admin && end_of(g, ROOM_ADMIN))
			continue;
		if (!room_end_one(g))
			return false;
	}
	return true;
}

void
room_end_guest(struct gateway *g)
{
	(void)end_of(g, ROOM_GUESTS);
}

bool
room_end_stranger(struct gateway *g)
{
	struct conn *c = choose(g, ROOM_STRANGERS);

	if (c == NULL || g->wheel.now - c->room_s < CHANCE_S)
		return false;
	end(g, c);
	return true;
}
