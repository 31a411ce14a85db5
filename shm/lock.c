/*
 * The segment's lock: takes, waits, takes over from the dead.  Run by every
 * process; owns nothing.  It never waits for a process that the kernel knows to be dead.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/must.h"

#include "shm/lock.h"
#include "shm/segment.h"

#define SPINS		200		/* sections are some hundred nanoseconds long */
#define WAIT_FIRST_US	500
#define WAIT_LONGEST_US	10000

static void
relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void
futex_wait(_Atomic uint32_t *word, uint32_t seen, long timeout_us)
{
	struct timespec ts = { 0, timeout_us * 1000 };

	/* Woken, timed out, interrupted or changed before: the caller looks again in each case. */
	syscall(SYS_futex, word, FUTEX_WAIT, seen, &ts, NULL, 0);
}

static void
futex_wake_one(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool
swap(struct shm_lock *lock, uint32_t *seen, uint32_t to)
{
	return atomic_compare_exchange_strong_explicit(&lock->word, seen, to, memory_order_acquire,
	    memory_order_relaxed);
}

/*
 * Only the owner drops a lock, and a dead owner does nothing more: so a word
 * that still names it can be replaced, whoever else tries the same.
 */
static bool
take_from_dead(
    struct shm *shm, struct shm_lock *lock, uint32_t seen, const struct lock_guard *guard)
{
	if (!slot_is_gone(shm, seen >> 16 & 0xff, (uint16_t)seen))
		return false;
	if (!swap(lock, &seen, shm->self | LOCK_WAITERS))
		return false;
	SHM_TEST_POINT("lock: taken over");
	guard->repair(shm, guard->what, guard->nth);
	return true;
}

static void
take_slowly(struct shm *shm, struct shm_lock *lock, const struct lock_guard *guard)
{
	long wait_us = WAIT_FIRST_US;
	uint32_t seen;
	int i;

	for (i = 0; i < SPINS; i++) {
		seen = atomic_load_explicit(&lock->word, memory_order_relaxed);
		if (seen == 0 && swap(lock, &seen, shm->self))
			return;
		relax();
	}
	/*
	 * From here on the lock is taken with the waiters' bit: others may sleep, and only the
	 * kernel knows.
	 */
	for (;;) {
		seen = atomic_load_explicit(&lock->word, memory_order_relaxed);
		if (seen == 0) {
			if (swap(lock, &seen, shm->self | LOCK_WAITERS))
				return;
			continue;
		}
		if (!(seen & LOCK_WAITERS)) {
			if (!atomic_compare_exchange_strong_explicit(&lock->word, &seen,
				seen | LOCK_WAITERS, memory_order_relaxed, memory_order_relaxed))
				continue;
			seen |= LOCK_WAITERS;
		}
		futex_wait(&lock->word, seen, wait_us);
		if (atomic_load_explicit(&lock->word, memory_order_relaxed) != seen)
			continue;
		if (take_from_dead(shm, lock, seen, guard))
			return;
		if (wait_us < WAIT_LONGEST_US)
			wait_us *= 2;
	}
}

void
lock_take(struct shm *shm, struct shm_lock *lock, const struct lock_guard *guard)
{
	uint32_t seen = 0;

	must(shm->held == NULL);
	if (!swap(lock, &seen, shm->self))
		take_slowly(shm, lock, guard);
	shm->held = lock;
}

bool
lock_try(struct shm *shm, struct shm_lock *lock)
{
	uint32_t seen = 0;

	must(shm->held == NULL);
	if (!swap(lock, &seen, shm->self))
		return false;
	shm->held = lock;
	return true;
}

void
lock_drop(struct shm *shm, struct shm_lock *lock)
{
	uint32_t was;

	must(shm->held == lock);
	shm->held = NULL;
	was = atomic_exchange_explicit(&lock->word, 0, memory_order_release);
	must((was & ~LOCK_WAITERS) == shm->self);
	SHM_TEST_POINT("lock: dropped");
	if (was & LOCK_WAITERS)
		futex_wake_one(&lock->word);
}

void
lock_break(struct shm *shm, struct shm_lock *lock, unsigned slot, uint16_t generation,
    const struct lock_guard *guard)
{
	uint32_t seen = atomic_load_explicit(&lock->word, memory_order_relaxed);

	must(shm->held == NULL);
	while ((seen & ~LOCK_WAITERS) == lock_owner_word(slot, generation)) {
		if (!swap(lock, &seen, shm->self | LOCK_WAITERS))
			continue;
		shm->held = lock;
		guard->repair(shm, guard->what, guard->nth);
		lock_drop(shm, lock);
		return;
	}
}
