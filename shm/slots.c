/*
 * Slots: one record per process of the instance.  The master takes and frees
 * them and declares their processes dead; each process notes its own state and
 * heartbeat; everyone looks.
 */
#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/must.h"

#include "shm/segment.h"

/*
 *	who writes	the master; pid also the child itself; state and heartbeat the slot's
 *			process
 *	who reads	any process
 *	lock		none: ident is one word, the others stand alone
 *	fixed		role and nth while ident says live
 *	writer dies	a process: nothing to repair, slot_died() marks it; the master:
 *			everything ends
 */
struct slot_record {
	_Atomic uint32_t ident;		/* generation << 1 | live */
	_Atomic int32_t pid;
	_Atomic uint32_t role;
	_Atomic uint32_t nth;
	_Atomic uint32_t state;
	uint32_t unused;
	_Atomic int64_t heartbeat_mono_ms;
} __attribute__((aligned(SEGMENT_LINE)));

_Static_assert(sizeof(struct slot_record) == SEGMENT_LINE, "a cache line each");

static size_t
slots_size(const struct shm_sizes *sizes)
{
	return sizes->slots * sizeof(struct slot_record);
}

static void
slots_attach(struct shm *shm, uint8_t *at)
{
	shm->slots = (struct slot_record *)at;
}

const struct segment_part_ops slots_part = {
	.name = "slots", .version = 1, .size = slots_size, .attach = slots_attach,
};

static struct slot_record *
record(const struct shm *shm, unsigned slot)
{
	must(slot < shm->segment->sizes.slots);
	return &shm->slots[slot];
}

static uint16_t
next_generation(uint32_t ident)
{
	uint16_t generation = (uint16_t)((ident >> 1) + 1);

	return generation != 0 ? generation : 1;
}

uint16_t
slot_take(struct shm *shm, unsigned slot, unsigned role, unsigned nth)
{
	struct slot_record *r = record(shm, slot);
	uint32_t ident = shm_get(&r->ident);
	uint16_t generation = next_generation(ident);
	int same;

	must((ident & 1) == 0);		/* slot_died() comes first */
	same =
	    shm_get(&r->state) != SLOT_FREE && shm_get(&r->role) == role && shm_get(&r->nth) == nth;
	if (!same)
		mailbox_discard(shm, slot);
	/* Not what it was at creation, if the master went into the background since. */
	shm_put(&shm->segment->master_pid, getpid());
	shm_put(&r->ident, (uint32_t)generation << 1);
	shm_put(&r->pid, 0);
	shm_put(&r->role, role);
	shm_put(&r->nth, nth);
	shm_put(&r->heartbeat_mono_ms, clock_mono_ms());
	shm_put(&r->state, SLOT_STARTING);
	shm_put(&r->ident, (uint32_t)generation << 1 | 1);
	return generation;
}

void
slot_set_pid(struct shm *shm, unsigned slot, int pid)
{
	shm_put(&record(shm, slot)->pid, pid);
}

void
slot_set_state(struct shm *shm, unsigned slot, enum slot_state state)
{
	must(state == SLOT_STARTING || state == SLOT_READY || state == SLOT_DRAINING);
	shm_put(&record(shm, slot)->state, state);
}

void
slot_heartbeat(struct shm *shm, unsigned slot, int64_t mono_ms)
{
	shm_put(&record(shm, slot)->heartbeat_mono_ms, mono_ms);
}

void
slot_died(struct shm *shm, unsigned slot)
{
	static const struct segment_part_ops *const parts[] = {
		&mailbox_part, &directory_part, &pending_part, &topics_part, &holdings_part,
		&buckets_part,
	};
	struct slot_record *r = record(shm, slot);
	uint32_t ident = shm_get(&r->ident);
	size_t i;

	if ((ident & 1) == 0)
		return;
	/*
	 * First nobody takes it for alive any more, then its locks are broken: so no new waiter
	 * waits in vain.
	 */
	shm_put(&r->ident, ident & ~1u);
	shm_put(&r->state, SLOT_DEAD);
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		parts[i]->died(shm, slot, (uint16_t)(ident >> 1));
	shm_put(&r->pid, 0);
	atomic_fetch_add_explicit(&shm->segment->deaths, 1, memory_order_release);
	mailbox_ring_sleepers(shm);
}

void
slot_free(struct shm *shm, unsigned slot)
{
	struct slot_record *r = record(shm, slot);

	must((shm_get(&r->ident) & 1) == 0);
	shm_put(&r->state, SLOT_FREE);
	mailbox_discard(shm, slot);
}

void
slot_get(const struct shm *shm, unsigned slot, struct slot_view *out)
{
	const struct slot_record *r = record(shm, slot);
	uint32_t ident;

	do {
		ident = shm_get(&r->ident);
		out->pid = shm_get(&r->pid);
		out->role = shm_get(&r->role);
		out->nth = shm_get(&r->nth);
		out->generation = (uint16_t)(ident >> 1);
		out->state = (enum slot_state)shm_get(&r->state);
		out->heartbeat_mono_ms = shm_get(&r->heartbeat_mono_ms);
	} while (shm_get(&r->ident) != ident);
}

int
slot_is_live(const struct shm *shm, unsigned slot, uint16_t generation)
{
	if (slot >= shm->segment->sizes.slots)
		return 0;
	return shm_get(&shm->slots[slot].ident) == ((uint32_t)generation << 1 | 1);
}

int
slot_find(const struct shm *shm, unsigned role, unsigned nth)
{
	const struct slot_record *r;
	int draining = -1;
	uint32_t state;
	unsigned i;

	for (i = 0; i < shm->segment->sizes.slots; i++) {
		r = &shm->slots[i];
		state = shm_get(&r->state);
		if (state == SLOT_FREE || shm_get(&r->role) != role || shm_get(&r->nth) != nth)
			continue;
		if (state != SLOT_DRAINING)
			return (int)i;
		draining = (int)i;
	}
	return draining;
}

uint32_t
slot_deaths(const struct shm *shm)
{
	return shm_get(&shm->segment->deaths);
}

void
shm_set_self(struct shm *shm, unsigned slot)
{
	uint32_t ident = shm_get(&record(shm, slot)->ident);

	must(ident & 1);
	must(shm->held == NULL);
	shm->self_slot = slot;
	shm->self_generation = (uint16_t)(ident >> 1);
	shm->self = lock_owner_word(slot, shm->self_generation);
}

unsigned
shm_self(const struct shm *shm)
{
	return shm->self_slot;
}

uint16_t
shm_self_generation(const struct shm *shm)
{
	return shm->self_generation;
}

/* Has the kernel ended this process?  A zombie has ended too.  Doubt means no. */
static int
process_has_ended(int pid)
{
	struct pollfd pfd = { .events = POLLIN };
	int ended;

	pfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pfd.fd == -1)
		return errno == ESRCH;
	ended = poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN);
	close(pfd.fd);
	return ended;
}

/*
 * The master may itself wait for a lock whose owner it has not yet reaped:
 * hence the question to the kernel.
 */
int
slot_is_gone(const struct shm *shm, unsigned slot, uint16_t generation)
{
	int pid;

	if (slot == SHM_SLOT_MASTER)
		return process_has_ended(shm_get(&shm->segment->master_pid));
	if (!slot_is_live(shm, slot, generation))
		return 1;
	pid = shm_get(&shm->slots[slot].pid);
	if (pid == 0 || !process_has_ended(pid))
		return 0;
	/* The pid was of this generation if that is still there; otherwise it is gone anyway. */
	return 1;
}
