/*
 * listeners.h: the sockets that the master keeps open for its workers.
 */
#ifndef BELAY_MASTER_LISTENERS_H
#define BELAY_MASTER_LISTENERS_H

#include <stddef.h>

struct conf;
struct upgrade;

/*
 * Sets of descriptors.  With server.accept = "shared" there is one set for all processes; with
 * "reuseport" one for each, in which the sockets that can't be had several times (unix,
 * server.admin_listen) are shared.  The order in each set: server.listen, server.tls_listen,
 * server.admin_listen if it is set.
 */
struct listeners {
	int *fd;			/* sets * per_set; owned */
	unsigned sets, per_set;
};

/*
 * processes: how many will listen.  Takes what it can of the sockets that were handed over.  0, or
 * -1 with a sentence in err; nothing stays open then.  Waits for addresses that are taken, for a second at most.
 */
int listeners_open(struct listeners *l, const struct conf *conf, unsigned processes,
    struct upgrade *given, char *err, size_t errlen);
/* Names them all in u, for the next binary; they stay ours. */
void listeners_hand_over(const struct listeners *l, const struct conf *conf, struct upgrade *u);
/* The set of the nth process; per_set descriptors.  NULL when they are closed. */
const int *listeners_of(const struct listeners *l, unsigned nth);
void listeners_close(struct listeners *l);
/* Removes the files of unix sockets. */
void listeners_unlink(const struct conf *conf);

#endif
