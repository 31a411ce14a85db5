/*
 * ref.h: a reference to a connection anywhere on this machine, 64 bits.
 *
 *	who writes	nobody: a value, made once by the process that owns the connection
 *	who reads	any process; the one named by (slot, generation) finds the connection
 *	lock		none
 *	fixed		all of it
 *	writer dies	the slot's generation moves on, and the reference is stale
 *
 *	 63    56 55          40 39              20 19               0
 *	+--------+--------------+------------------+------------------+
 *	|  slot  |  slot's gen  | connection index | connection's gen |
 *	+--------+--------------+------------------+------------------+
 *
 * Both generations grow with each reuse, so a stale reference is always seen
 * by the process that it names.  0 is no reference: generations start at 1.
 */
#ifndef BELAY_SHM_REF_H
#define BELAY_SHM_REF_H

#include <stdint.h>

#define REF_NONE       ((uint64_t)0)
#define REF_INDEX_MAX  (1u << 20)
#define REF_GEN_MASK   ((1u << 20) - 1)
#define REF_SLOT_GEN_MASK 0xffffu

static inline uint64_t
ref_make(unsigned slot, unsigned slot_gen, uint32_t index, uint32_t gen)
{
	return (uint64_t)(slot & 0xff) << 56 | (uint64_t)(slot_gen & REF_SLOT_GEN_MASK) << 40 |
	    (uint64_t)(index & (REF_INDEX_MAX - 1)) << 20 | (gen & REF_GEN_MASK);
}

static inline unsigned ref_slot(uint64_t ref) { return ref >> 56; }
static inline unsigned ref_slot_gen(uint64_t ref) { return ref >> 40 & REF_SLOT_GEN_MASK; }
static inline uint32_t ref_index(uint64_t ref) { return ref >> 20 & (REF_INDEX_MAX - 1); }
static inline uint32_t ref_gen(uint64_t ref) { return ref & REF_GEN_MASK; }

#endif
