/*
 * flight.h: how many commands each device has in flight (sent, and their result is waited for) and queued.
 *
 * What the store's rows say, in the storage process's own memory: counted from them at its start (recover.c), changed
 * with each of them (command_store()), and taken back with a batch that is rolled back.  So nobody counts rows, and a
 * device with nothing queued costs no look at the store.
 */
#ifndef BELAY_STORAGE_FLIGHT_H
#define BELAY_STORAGE_FLIGHT_H

#include <stddef.h>
#include <stdint.h>

#include "db/db.h"

#define COMMAND_FRESH (-1)		/* what a command was that is not stored yet */

struct flight {
	int64_t device_pk;		/* 0: a free place of the table */
	int64_t oldest;			/* number: no queued command is older */
	uint32_t queued, out;
};

struct flights {
	struct flight *v;		/* owned; open addressing, cap is a power of two */
	uint32_t cap, count;
	struct flight *before;		/* owned: what this batch changed, as it was, in order */
	size_t changes, changes_cap;
};

void flights_init(struct flights *f);
void flights_fini(struct flights *f);
/* Both are 0 where the device has neither. */
struct flight flight_of(const struct flights *f, int64_t device_pk);
/* A command's status was this (enum command_status, or COMMAND_FRESH) and is that. */
void flight_move(struct flights *f, const struct db_command *c, int was);
/* The oldest queued command of the device was looked for, and it is this one. */
void flight_found(struct flights *f, int64_t device_pk, int64_t oldest);
/* The batch was committed; it was rolled back. */
void flights_keep(struct flights *f);
void flights_undo(struct flights *f);

#endif
