/*
 * memory_series.c: see memory_series.h.  Only the storage process; a series belongs to the store
 * that holds it, the rows do not belong to the series.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "db/memory_series.h"

#define PLACES 256

struct memory_series_piece {
	unsigned rows;
	void *row[PLACES];
};

static struct memory_series_piece *
piece_of(const struct memory_series *s, int64_t number)
{
	int64_t at = number / PLACES - s->first;

	return at >= 0 && (uint64_t)at < s->count ? s->piece[at] : NULL;
}

void *
memory_series_get(const struct memory_series *s, int64_t number)
{
	const struct memory_series_piece *piece = number > 0 ? piece_of(s, number) : NULL;

	return piece != NULL ? piece->row[number % PLACES] : NULL;
}

/* Room in the table of pieces for that of the number; it may be before all others. */
static struct memory_series_piece **
reach(struct memory_series *s, int64_t number)
{
	int64_t at = number / PLACES;
	size_t before = 0, count;

	if (s->count == 0) {
		s->first = at;
		s->low = number;
	}
	must(at - s->first < (int64_t)s->count + MEMORY_SERIES_GAP / PLACES + 1);
	if (at < s->first)
		before = (size_t)(s->first - at);
	count = before > 0 ? s->count + before : (size_t)(at - s->first) + 1;
	if (count > s->count) {
		if (count > s->cap) {
			s->cap = count > 2 * s->cap ? count + 16 : 2 * s->cap;
			s->piece = must_realloc(s->piece, s->cap * sizeof(*s->piece));
		}
		memmove(s->piece + before, s->piece, s->count * sizeof(*s->piece));
		memset(before > 0 ? s->piece : s->piece + s->count, 0,
		    (count - s->count) * sizeof(*s->piece));
		s->count = count;
		s->first -= (int64_t)before;
	}
	return &s->piece[at - s->first];
}

void
memory_series_put(struct memory_series *s, int64_t number, void *row)
{
	struct memory_series_piece **piece;

	must(number > 0);
	piece = reach(s, number);
	if (*piece == NULL)
		*piece = must_alloc(sizeof(**piece));
	must((*piece)->row[number % PLACES] == NULL);
	(*piece)->row[number % PLACES] = row;
	(*piece)->rows++;
	if (number < s->low)
		s->low = number;
}

/* Pieces without rows at the ends of the table go. */
static void
trim(struct memory_series *s)
{
	size_t empty = 0;

	while (s->count > 0 && s->piece[s->count - 1] == NULL)
		s->count--;
	while (empty < s->count && s->piece[empty] == NULL)
		empty++;
	s->count -= empty;
	s->first += (int64_t)empty;
	memmove(s->piece, s->piece + empty, s->count * sizeof(*s->piece));
}

void
memory_series_remove(struct memory_series *s, int64_t number)
{
	struct memory_series_piece *piece = piece_of(s, number);

	must(piece != NULL && piece->row[number % PLACES] != NULL);
	piece->row[number % PLACES] = NULL;
	if (number == s->low)
		s->low++;
	if (--piece->rows == 0) {
		s->piece[number / PLACES - s->first] = NULL;
		free(piece);
		trim(s);
	}
}

void *
memory_series_above(const struct memory_series *s, int64_t number)
{
	int64_t begin = s->first * PLACES, end = begin + (int64_t)s->count * PLACES;

	if (number >= end)
		return NULL;
	begin = begin < s->low ? s->low : begin;
	number = number < begin ? begin : number + 1;
	while (number < end) {
		const struct memory_series_piece *piece = piece_of(s, number);

		if (piece == NULL)
			number += PLACES - number % PLACES;
		else if (piece->row[number % PLACES] != NULL)
			return piece->row[number % PLACES];
		else
			number++;
	}
	return NULL;
}

void *
memory_series_below(const struct memory_series *s, int64_t number)
{
	int64_t begin = s->first * PLACES, end = begin + (int64_t)s->count * PLACES;

	if (number <= begin)
		return NULL;
	number = number > end ? end - 1 : number - 1;
	while (number >= begin) {
		const struct memory_series_piece *piece = piece_of(s, number);

		if (piece == NULL)
			number -= number % PLACES + 1;
		else if (piece->row[number % PLACES] != NULL)
			return piece->row[number % PLACES];
		else
			number--;
	}
	return NULL;
}

void
memory_series_fini(struct memory_series *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->piece[i]);
	free(s->piece);
	*s = (struct memory_series){ NULL, 0, 0, 0, 0 };
}
