/*
 * conf_table.h: conf.def as a table, and values at their place in struct conf.  For the files
 * conf_*.c only.
 */
#ifndef BELAY_BASE_CONF_TABLE_H
#define BELAY_BASE_CONF_TABLE_H

#include "base/conf.h"
#include "base/conf_check.h"

enum conf_type { CONF_TYPE_STRING, CONF_TYPE_FILE, CONF_TYPE_BOOL, CONF_TYPE_INT, CONF_TYPE_MS,
    CONF_TYPE_BYTES,
    CONF_TYPE_ENUM, CONF_TYPE_LIST };

enum { CONF_LIVE = 1, CONF_SECRET = 2, CONF_PASSWORD = 4, CONF_ABSENT = 8, CONF_PRIVATE = 16 };

struct conf_option {
	const char *section, *name;
	enum conf_type type;
	unsigned flags;
	size_t offset;			/* of the value in struct conf or struct conf_issuer */
	size_t text_offset;		/* TYPE_FILE: of the content */
	const char *standard;		/* default, as text */
	const char *min, *max;		/* TYPE_INT, TYPE_MS, TYPE_BYTES */
	conf_check *check;		/* TYPE_STRING, TYPE_LIST: of each string */
	const char *const *words;	/* TYPE_ENUM, ended by NULL */
};

#define CONF_STRING(...) 1 +
#define CONF_FILE(...) 1 +
#define CONF_BOOL(...) 1 +
#define CONF_INT(...) 1 +
#define CONF_MS(...) 1 +
#define CONF_BYTES(...) 1 +
#define CONF_ENUM(...) 1 +
#define CONF_LIST(...) 1 +
enum { CONF_OPTION_COUNT =
#include "base/conf.def"
    0 };
enum { CONF_ISSUER_OPTION_COUNT =
#include "base/conf_issuer.def"
    0 };
#undef CONF_STRING
#undef CONF_FILE
#undef CONF_BOOL
#undef CONF_INT
#undef CONF_MS
#undef CONF_BYTES
#undef CONF_ENUM
#undef CONF_LIST

extern const struct conf_option conf_options[CONF_OPTION_COUNT];		/* of struct conf */
/* of struct conf_issuer */
extern const struct conf_option conf_issuer_options[CONF_ISSUER_OPTION_COUNT];

/* The index of an option in a table, -1 when there is none.  The section need not end with NUL. */
long conf_option_find(const struct conf_option *table, size_t n, struct slice section,
    const char *name);

/* base is a struct conf or a struct conf_issuer, by the table that the option is from. */
char **conf_string_at(const void *base, size_t offset);
struct conf_list *conf_list_at(const void *base, const struct conf_option *o);
uint64_t conf_number_get(const void *base, const struct conf_option *o);
void conf_number_set(void *base, const struct conf_option *o, uint64_t v);
void conf_string_set(char **at, const char *text, size_t len);
void conf_list_copy(struct conf_list *to, const struct conf_list *from);
bool conf_is_text(const struct conf_option *o);		/* a string or a file's path */
/* Where the password of an address begins, and its length; NULL: there is none. */
const char *conf_password(const char *url, size_t *len);
bool conf_value_equal(const void *a, const void *b, const struct conf_option *o);
/* Between options of one type that may be of different tables; the content of a file goes along. */
void conf_value_copy(void *to, const struct conf_option *to_option, const void *from,
    const struct conf_option *from_option);

void conf_values_init(void *base, const struct conf_option *table, size_t n);
void conf_values_fini(void *base, const struct conf_option *table, size_t n);
/* a new, empty block at the end; moves the others */
struct conf_issuer *conf_issuer_add(struct conf *conf);

#endif
