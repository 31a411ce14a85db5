/*
 * resume.h: a dashboard comes back and is told what it missed; see resume.c.  The state is kept between steps,
 * each of which looks at few rows and sends little, so that whoever drives it can do other work in between.
 */
#ifndef BELAY_STORE_RESUME_H
#define BELAY_STORE_RESUME_H

#include "store/desk.h"

enum resume_phase { RESUME_COUNTING, RESUME_SENDING, RESUME_GAP, RESUME_OVER };
enum resume_step { RESUME_MORE, RESUME_DONE, RESUME_FAILED };

struct resume {
	uint64_t request, ref;
	unsigned limit;			/* messages; more are a gap */
	size_t room;			/* bytes of payload; more are a gap; 0: any */
	struct requester who;		/* its texts are in `text` */
	struct db_scope scope;		/* tenant_pk 0: nothing ever happened in that tenant */
	struct buf text;
	enum resume_phase phase;
	bool gap;			/* it is one, whatever is counted */
	int64_t from;			/* the cursor's place */
	int64_t after;			/* the last place looked at */
	int64_t until;			/* the newest place when it began: what comes later is live */
	unsigned count;			/* sent */
	unsigned looked;		/* rows, while counting */
	int64_t dropped, since;		/* what was missed: how many, as far as counted, and since when */
	size_t bytes;			/* of the payloads that were counted */
	struct db_device device;	/* of the last event that asked for it */
};

/*
 * room: bytes of payload that may be sent in all; 0: any number.  Nothing is sent yet.  DB_FAILED: the store did;
 * else DB_OK. resume_close() is needed in either case.
 */
enum db_result resume_open(struct desk *k, struct resume *r, const struct msg_resume *m, size_t room);
/*
 * Looks at no more than so many rows (above 0), reads no more than some hundred kilobytes, and sends what it has as
 * resume_part records; RESUME_DONE: the last one was sent.  Uses k->now, and k->cursor and k->pack up.
 */
enum resume_step resume_step(struct desk *k, struct resume *r, unsigned rows);
/* While it still counts: what was counted so far becomes a gap. */
void resume_give_up(struct resume *r);
void resume_close(struct resume *r);

#endif
