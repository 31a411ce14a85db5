/*
 * lib.h: what the tests of shm/ share: real processes in slots, kill -9, random numbers, faults.
 * Each test is a plain program: it prints what it did, a line per fault, a closing line, and
 * exits with 0 or 1.  It ends by SIGALRM when it hangs.
 */
#ifndef BELAY_TESTS_SHM_LIB_H
#define BELAY_TESTS_SHM_LIB_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "shm/shm.h"

/* Counts a fault and says where; the test goes on. */
#define EXPECT(condition, ...) do { \
	if (!(condition)) \
		lib_fault(__FILE__, __LINE__, #condition, __VA_ARGS__); \
} while (0)

void lib_fault(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * Sets the alarm, the seed (SHM_SEED in the environment repeats a run) and where faults are
 * counted.
 */
void lib_start(const char *name, unsigned limit_s);
/* The closing line; returns the exit status. */
int lib_end(void);

/* SHM_KILLS in the environment, or this. */
unsigned lib_kills(unsigned usual);

uint64_t lib_random(void);		/* of this process: each child has its own sequence */
uint64_t lib_random_below(uint64_t n);
void lib_pause_us(unsigned us);		/* for kills at random moments, not to wait for something */

/* Zeroed memory that children share with us. */
void *lib_share(size_t len);

/*
 * Takes the slot, forks, calls run(shm, arg) in the child, which then ends with status 0 or,
 * after a fault, 1.
 */
pid_t lib_spawn(struct shm *shm, unsigned slot, void (*run)(struct shm *shm, void *arg), void *arg);
/* kill -9, waits, slot_died(). */
void lib_kill(struct shm *shm, unsigned slot, pid_t pid);
/* Waits for a child that ends by itself; slot_died().  Returns its wait status. */
int lib_reap(struct shm *shm, unsigned slot, pid_t pid);
/* Waits until the child is dead but leaves it unreaped: a zombie. */
void lib_wait_zombie(pid_t pid);

#endif
