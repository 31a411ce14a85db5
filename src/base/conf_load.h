/*
 * conf_load.h: what lives as long as one conf_load().  For conf_load.c and conf_finish.c only.
 */
#ifndef BELAY_BASE_CONF_LOAD_H
#define BELAY_BASE_CONF_LOAD_H

#include <sys/types.h>

#include "base/conf_table.h"

/* Where a value came from.  A later source outranks an earlier one. */
enum rank { RANK_DEFAULT, RANK_FILE, RANK_ENVIRONMENT, RANK_OVERRIDE };

struct conf_origin {
	enum rank rank;
	/* "belayd.conf:7", "BELAY_SERVER_USER"; owned, NULL for a default */
	char *where;
};

/* One issuer block while it is read: which of its options it set, and where it stands. */
struct conf_block {
	bool set[CONF_ISSUER_OPTION_COUNT];
	char *where;			/* owned */
};

/* Everything that lives as long as one conf_load(). */
struct conf_load {
	struct conf *conf;
	struct conf_findings *findings;
	struct conf_origin origins[CONF_OPTION_COUNT];
	struct conf_block *blocks;		/* as many as conf->auth_issuers_n; owned */
	struct conf_list exposed;		/* a sentence for each secret in a file that every user can read */
};

/* Notes a fault; where (may be NULL) is "file:line" or the name of a variable. */
void conf_fault(struct conf_load *l, const char *where, const char *fmt,
    ...) __attribute__((format(printf, 3, 4)));
/* Sets any option from one text; what is wrong is noted and changes nothing. */
void conf_set_text(struct conf_load *l, void *base, const struct conf_option *o, const char *text,
    const char *where);
/* Notes a secret of the option in a file of that mode, if every user can read the file.  path: NULL: as in where. */
void conf_expose(struct conf_load *l, const char *where, const struct conf_option *o, const char *path,
    mode_t mode);

/*
 * When all sources were read: key files, blocks of issuers, what must hold between options, what is
 * left to fill in.
 */
void conf_finish(struct conf_load *l);

/*
 * conf_numbers.c.  Whether no whole number in the file, and in those that it includes (from dir), is beyond
 * what libconfig reads without an L at its end; each that is has become a fault with its place.
 */
bool conf_numbers_fit(struct conf_load *l, const char *file, const char *dir);

#endif
