/*
 * memory_series.h: rows by the number they were given, in order.
 *
 * Numbers grow by one and old ones go first, so that they are an index: pieces of 256 places, and
 * a table of the pieces.  A piece without a row is freed.
 */
#ifndef BELAY_DB_MEMORY_SERIES_H
#define BELAY_DB_MEMORY_SERIES_H

#include <stddef.h>
#include <stdint.h>

#define MEMORY_SERIES_GAP (1 << 20)	/* the most that a number may be beyond those that are there */

struct memory_series_piece;

/* All zero: an empty series. */
struct memory_series {
	struct memory_series_piece **piece;	/* owned; NULL: no row in it */
	size_t count, cap;
	int64_t first;				/* number of the first piece */
	int64_t low;				/* no row is below: the oldest is found at once */
};

/* NULL: there is none. */
void *memory_series_get(const struct memory_series *s, int64_t number);
/* The place must be free; the number above 0. */
void memory_series_put(struct memory_series *s, int64_t number, void *row);
/* A row must be there. */
void memory_series_remove(struct memory_series *s, int64_t number);
/* The first row above the number, the last one below it; NULL: there is none. */
void *memory_series_above(const struct memory_series *s, int64_t number);
void *memory_series_below(const struct memory_series *s, int64_t number);
void memory_series_fini(struct memory_series *s);

#endif
