/*
 * memory_undo.c: transactions: what is written is written at once, and how to take it back is
 * noted.  Only the storage process; owns the undo log, and with it the values and rows that are
 * no longer shown but would be again after a rollback.
 *
 *	inserted	back: unlinked and freed
 *	changed		back: the old values take the place of the new;  kept: the old ones are freed
 *	removed		back: linked again;  kept: freed
 *
 * Taken back from the last to the first, each finds all as it was when it was noted.
 */
#include <stdlib.h>

#include "base/must.h"
#include "db/memory.h"

#define UNDO_KEPT 4096		/* entries for which room is kept from one transaction to the next */

static void
note(struct memory_db *m, struct memory_undo undo)
{
	if (m->undo_count == m->undo_cap) {
		m->undo_cap = m->undo_cap > 0 ? m->undo_cap * 2 : 256;
		m->undo = must_realloc(m->undo, m->undo_cap * sizeof(*m->undo));
	}
	m->undo[m->undo_count++] = undo;
	if (!m->begun)
		memory_keep(m);
}

static void
link_row(struct memory_db *m, const struct memory_table *table, struct memory_row *row)
{
	if (table->enter != NULL)
		table->enter(m, row);
	if (table->file != NULL)
		table->file(m, row);
}

static void
unlink_row(struct memory_db *m, const struct memory_table *table, struct memory_row *row)
{
	if (table->unfile != NULL)
		table->unfile(m, row);
	if (table->leave != NULL)
		table->leave(m, row);
}

static void
free_row(const struct memory_table *table, struct memory_row *row)
{
	if (!table->in_row)
		free(row->values);
	free(row);
}

static void *
exchange(struct memory_db *m, const struct memory_table *table, struct memory_row *row, void *values)
{
	void *old = row->values;
	bool moves = table->file != NULL && !table->same_places(old, values);

	if (moves)
		table->unfile(m, row);
	row->values = values;
	if (moves)
		table->file(m, row);
	return old;
}

void
memory_insert(struct memory_db *m, const struct memory_table *table, struct memory_row *row)
{
	must(m->listing == 0);
	link_row(m, table, row);
	note(m, (struct memory_undo){ table, row, NULL, MEMORY_INSERTED });
}

void
memory_change(struct memory_db *m, const struct memory_table *table, struct memory_row *row,
    void *values)
{
	void *old;

	must(m->listing == 0);
	old = exchange(m, table, row, values);
	note(m, (struct memory_undo){ table, row, old, MEMORY_CHANGED });
}

void
memory_remove(struct memory_db *m, const struct memory_table *table, struct memory_row *row)
{
	must(m->listing == 0);
	unlink_row(m, table, row);
	note(m, (struct memory_undo){ table, row, NULL, MEMORY_REMOVED });
}

static void
end(struct memory_db *m)
{
	m->undo_count = 0;
	m->begun = false;
	if (m->undo_cap > UNDO_KEPT) {
		free(m->undo);
		m->undo = NULL;
		m->undo_cap = 0;
	}
	memory_device_free_idle(m);
}

void
memory_keep(struct memory_db *m)
{
	for (size_t i = 0; i < m->undo_count; i++) {
		const struct memory_undo *u = &m->undo[i];

		if (u->what == MEMORY_CHANGED)
			free(u->old);
		else if (u->what == MEMORY_REMOVED)
			free_row(u->table, u->row);
	}
	end(m);
}

void
memory_take_back(struct memory_db *m)
{
	for (size_t i = m->undo_count; i-- > 0;) {
		const struct memory_undo *u = &m->undo[i];

		switch (u->what) {
		case MEMORY_INSERTED:
			unlink_row(m, u->table, u->row);
			free_row(u->table, u->row);
			break;
		case MEMORY_CHANGED:
			free(exchange(m, u->table, u->row, u->old));
			break;
		case MEMORY_REMOVED:
			link_row(m, u->table, u->row);
			break;
		}
	}
	m->last = m->last_before;
	end(m);
}
