/*
 * resume.h: a dashboard is greeted with the place where it begins; one that comes back is given what it missed, before
 * it hears what happens.
 *
 * It listens from the moment on when its token was accepted (party_join()).  Readers replay the log for it, a part at a
 * time, and the next part is asked for when the one before has left, so that a slow client costs no more memory than
 * another.  What is published meanwhile is held; what has a place that was replayed is dropped in the end, and the
 * rest is given.  Places have no holes, so that this is exact; and since a reader may see what storage has not told of
 * yet, it goes on so until something from behind that place comes (dashboard_is_news()).  When more is held than may
 * be, it is forgotten, and the log is read on instead.
 */
#ifndef BELAY_GATEWAY_RESUME_H
#define BELAY_GATEWAY_RESUME_H

#include <stdbool.h>
#include <stdint.h>

struct ask;
struct conn;
struct frame;
struct gateway;
struct msg_resume_part;
struct resuming;

/* Phase RESUMING begins; where c->http->resumes, c->http->resume is the cursor. */
void resume_begin(struct gateway *g, struct conn *c);
void resume_part(struct gateway *g, const struct msg_resume_part *m);
/*
 * Nobody answers: one that comes back is closed, to try again; one that resumes nothing begins all the same, without
 * knowing its place.
 */
void resume_failed(struct gateway *g, struct conn *c);
/*
 * A publication that may not be lost, for a connection that resumes: f is its frame, of which a reference is taken;
 * place and status as of dashboard_is_news().
 */
void resume_hold(struct gateway *g, struct conn *c, int64_t place, bool status, struct frame *f);
/* Publications to it were dropped. */
void resume_dropped(struct conn *c);
/* All that waited has been sent. */
void resume_sent(struct gateway *g, struct conn *c);
void resume_free(struct resuming **r);

#endif
