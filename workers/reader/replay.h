/*
 * replay.h: a dashboard comes back and is told what it missed, a part at a time; see replay.c.
 */
#ifndef BELAY_READER_REPLAY_H
#define BELAY_READER_REPLAY_H

#include "store/desk.h"

enum replay_phase { REPLAY_COUNTING, REPLAY_SENDING, REPLAY_GAP };
enum replay_step { REPLAY_MORE, REPLAY_DONE, REPLAY_FAILED };

/* One part.  The texts are those of its record, which must stay. */
struct replay {
	uint64_t request, ref;
	unsigned limit;			/* messages; more are a gap */
	struct requester who;
	struct db_scope scope;		/* tenant_pk 0: nothing ever happened in that tenant */
	enum replay_phase phase;
	bool gap;			/* it is one, whatever is counted */
	int64_t from;			/* the place behind which it begins */
	int64_t after;			/* the last place looked at */
	int64_t until;			/* the newest place when it began: what comes later is live */
	unsigned count;			/* sent, with earlier parts */
	unsigned looked;		/* rows, while counting */
	unsigned looks, us;		/* budget of this step */
	int64_t dropped, since;		/* what was missed: how many, as far as counted, and since when */
	struct db_device device;	/* of the last event that asked for it */
};

/* Nothing is sent yet.  DB_FAILED: the store did; else DB_OK.  replay_close() is needed in either case. */
enum db_result replay_open(struct desk *k, struct replay *r, const struct msg_resume *m);
/*
 * Looks at so many rows at most, for so many microseconds, and reads no more than some hundred kilobytes; REPLAY_DONE:
 * it has sent its resume_part.  Uses k->now, and k->cursor, k->pack and k->page up.
 */
enum replay_step replay_step(struct desk *k, struct replay *r, unsigned looks, unsigned us);
void replay_close(struct replay *r);

#endif
