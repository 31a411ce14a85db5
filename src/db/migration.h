/*
 * migration.h: the numbered steps of the store's schema, carried in the binary.
 *
 * Written at build time by sql/embed.awk from sql/ENGINE/NNNN_name.sql, in
 * the order of their numbers.  A step that was released is never changed.
 */
#ifndef BELAY_DB_MIGRATION_H
#define BELAY_DB_MIGRATION_H

#include <stddef.h>

struct migration {
	int number;		/* from the file's name: 0001_initial.sql is 1 */
	const char *name;	/* "initial" */
	const char *sql;	/* the file's text: one or more statements */
};

extern const struct migration migrations_sqlite[];
extern const size_t migrations_sqlite_count;

#endif
