/*
 * memory_list.h: a doubly linked list in the order of numbers.  The links live inside the rows.
 *
 * Rows come with growing numbers and the oldest go first, so that the place of one is at an end;
 * for others it is searched from both ends.
 */
#ifndef BELAY_DB_MEMORY_LIST_H
#define BELAY_DB_MEMORY_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory_link {
	struct memory_link *prev, *next;
	int64_t number;
};

/* All zero: an empty list. */
struct memory_list {
	struct memory_link *first, *last;
};

static inline bool
memory_list_empty(const struct memory_list *l)
{
	return l->first == NULL;
}

static inline void
memory_list_put(struct memory_list *l, struct memory_link *link, int64_t number)
{
	struct memory_link *low = l->first, *high = l->last;

	/* It belongs before low's successors and behind high's predecessors: they meet there. */
	while (high != NULL && high->number > number && low->number < number) {
		high = high->prev;
		low = low->next;
	}
	link->number = number;
	if (high == NULL || high->number < number) {
		link->prev = high;
		link->next = high != NULL ? high->next : l->first;
	} else {
		link->next = low;
		link->prev = low->prev;
	}
	*(link->prev != NULL ? &link->prev->next : &l->first) = link;
	*(link->next != NULL ? &link->next->prev : &l->last) = link;
}

static inline void
memory_list_remove(struct memory_list *l, struct memory_link *link)
{
	*(link->prev != NULL ? &link->prev->next : &l->first) = link->next;
	*(link->next != NULL ? &link->next->prev : &l->last) = link->prev;
}

#endif
