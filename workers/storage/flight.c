/*
 * flight.c: see flight.h.  Only the storage process.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "storage/flight.h"

#define CAP_MIN 64u

void
flights_init(struct flights *f)
{
	memset(f, 0, sizeof(*f));
	f->cap = CAP_MIN;
	f->v = must_alloc(CAP_MIN * sizeof(*f->v));
}

void
flights_fini(struct flights *f)
{
	free(f->v);
	free(f->before);
	memset(f, 0, sizeof(*f));
}

static uint32_t
home(const struct flights *f, int64_t device_pk)
{
	return (uint32_t)((uint64_t)device_pk * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (f->cap - 1);
}

/* Where the device is, or would be. */
static uint32_t
spot(const struct flights *f, int64_t device_pk)
{
	uint32_t at = home(f, device_pk);

	while (f->v[at].device_pk != 0 && f->v[at].device_pk != device_pk)
		at = (at + 1) & (f->cap - 1);
	return at;
}

static void
grow(struct flights *f)
{
	struct flight *old = f->v;
	uint32_t cap = f->cap;

	f->cap *= 2;
	f->v = must_alloc(f->cap * sizeof(*f->v));
	for (uint32_t i = 0; i < cap; i++)
		if (old[i].device_pk != 0)
			f->v[spot(f, old[i].device_pk)] = old[i];
	free(old);
}

/* Those behind it that it kept from their homes move up. */
static void
take_out(struct flights *f, uint32_t at)
{
	uint32_t mask = f->cap - 1;

	for (uint32_t next = (at + 1) & mask; f->v[next].device_pk != 0; next = (next + 1) & mask) {
		if (((next - home(f, f->v[next].device_pk)) & mask) >= ((next - at) & mask)) {
			f->v[at] = f->v[next];
			at = next;
		}
	}
	f->v[at].device_pk = 0;
	f->count--;
}

static void
set(struct flights *f, const struct flight *now)
{
	uint32_t at = spot(f, now->device_pk);
	bool there = f->v[at].device_pk != 0;

	if (now->queued == 0 && now->out == 0) {
		if (there)
			take_out(f, at);
		return;
	}
	if (!there && ++f->count > f->cap / 2) {
		grow(f);
		at = spot(f, now->device_pk);
	}
	f->v[at] = *now;
}

static void
change(struct flights *f, const struct flight *was, const struct flight *now)
{
	if (f->changes == f->changes_cap) {
		f->changes_cap = f->changes_cap > 0 ? f->changes_cap * 2 : CAP_MIN;
		f->before = must_realloc(f->before, f->changes_cap * sizeof(*f->before));
	}
	f->before[f->changes++] = *was;
	set(f, now);
}

struct flight
flight_of(const struct flights *f, int64_t device_pk)
{
	const struct flight *at = &f->v[spot(f, device_pk)];

	return at->device_pk != 0 ? *at : (struct flight){ .device_pk = device_pk };
}

static bool
is_out(int status)
{
	return status == COMMAND_SENT || status == COMMAND_ACCEPTED;
}

void
flight_move(struct flights *f, const struct db_command *c, int was)
{
	struct flight before = flight_of(f, c->device_pk), now = before;

	if (was == (int)c->status || (is_out(was) && is_out(c->status)))
		return;
	now.out += (uint32_t)is_out(c->status) - (uint32_t)is_out(was);
	now.queued += (uint32_t)(c->status == COMMAND_QUEUED) - (uint32_t)(was == COMMAND_QUEUED);
	if (c->status == COMMAND_QUEUED && (before.queued == 0 || c->number < before.oldest))
		now.oldest = c->number;
	if (now.out != before.out || now.queued != before.queued)
		change(f, &before, &now);
}

void
flight_found(struct flights *f, int64_t device_pk, int64_t oldest)
{
	struct flight before = flight_of(f, device_pk), now = before;

	now.oldest = oldest;
	if (before.queued > 0 && before.oldest != oldest)
		change(f, &before, &now);
}

void
flights_keep(struct flights *f)
{
	f->changes = 0;
}

void
flights_undo(struct flights *f)
{
	while (f->changes > 0)
		set(f, &f->before[--f->changes]);
}
