/*
 * conf.h: the settings.
 *
 * The options are listed in conf.def and become the fields of struct conf, named section_option;
 * durations end in _ms, sizes in _bytes.  A struct conf is made whole, checked, and never changed
 * after that: a reload makes a new one. The master makes it from the file, the environment and -o;
 * it reaches workers as bytes (conf_pack).
 */
#ifndef BELAY_BASE_CONF_H
#define BELAY_BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/slice.h"

struct conf_list {
	char **v;		/* n strings, each owned; NULL when n is 0 */
	size_t n;
};

/* Words of the options that take one of a few: WORD(constant, as written in the file). */
#define CONF_WORDS_log_level(WORD) \
	WORD(CONF_LOG_LEVEL_ERROR, "error") WORD(CONF_LOG_LEVEL_WARN, "warn") \
	WORD(CONF_LOG_LEVEL_INFO, "info") WORD(CONF_LOG_LEVEL_DEBUG, "debug")
#define CONF_WORDS_accept(WORD) \
	WORD(CONF_ACCEPT_SHARED, "shared") WORD(CONF_ACCEPT_REUSEPORT, "reuseport")
#define CONF_WORDS_device_tokens(WORD) \
	WORD(CONF_DEVICE_TOKENS_BELAY, "belay") WORD(CONF_DEVICE_TOKENS_ANY, "any")
#define CONF_WORDS_tenant_members(WORD) \
	WORD(CONF_TENANT_MEMBERS_NONE, "none") WORD(CONF_TENANT_MEMBERS_VIEW, "view")
#define CONF_WORDS_forwarded(WORD) \
	WORD(CONF_FORWARDED_X, "x-forwarded-for") WORD(CONF_FORWARDED_RFC7239, "forwarded") \
	WORD(CONF_FORWARDED_NONE, "none")
#define CONF_WORDS_close_codes(WORD) \
	WORD(CONF_CLOSE_CODES_REGISTERED, "registered") WORD(CONF_CLOSE_CODES_CLASSIC, "classic")
#define CONF_WORDS_feed_mode(WORD) \
	WORD(CONF_FEED_MODE_POLL, "poll") WORD(CONF_FEED_MODE_BINLOG, "binlog")
#define CONF_WORDS_feed_access(WORD) \
	WORD(CONF_FEED_ACCESS_DEVICES, "devices") WORD(CONF_FEED_ACCESS_TENANT, "tenant")

#define CONF_WORD_CONSTANT(constant, text) constant,
/* the order of enum log_level */
enum conf_log_level { CONF_WORDS_log_level(CONF_WORD_CONSTANT) };
enum conf_accept { CONF_WORDS_accept(CONF_WORD_CONSTANT) };
enum conf_device_tokens { CONF_WORDS_device_tokens(CONF_WORD_CONSTANT) };
enum conf_tenant_members { CONF_WORDS_tenant_members(CONF_WORD_CONSTANT) };
enum conf_forwarded { CONF_WORDS_forwarded(CONF_WORD_CONSTANT) };
enum conf_close_codes { CONF_WORDS_close_codes(CONF_WORD_CONSTANT) };
enum conf_feed_mode { CONF_WORDS_feed_mode(CONF_WORD_CONSTANT) };
enum conf_feed_access { CONF_WORDS_feed_access(CONF_WORD_CONSTANT) };
#undef CONF_WORD_CONSTANT

/*
 * One block of auth.issuers.  What it did not set was filled in from the flat options: all of it
 * but the key sources (jwt_secret, …_file, jwks_…), which are taken over together, and only by a
 * block that names none of its own.
 */
struct conf_issuer {
#define CONF_STRING(section, name, ...)	char *name;
#define CONF_FILE(section, name, ...)	char *name; char *name##_text;
#define CONF_BOOL(section, name, ...)	bool name;
#define CONF_LIST(section, name, ...)	struct conf_list name;
#include "base/conf_issuer.def"
#undef CONF_STRING
#undef CONF_FILE
#undef CONF_BOOL
#undef CONF_LIST
};

struct conf {
	/* Strings are never NULL; not set is "".  The text of a file that is not set is "". */
#define CONF_STRING(section, name, ...)	char *section##_##name;
#define CONF_FILE(section, name, ...)	char *section##_##name; char *section##_##name##_text;
#define CONF_BOOL(section, name, ...)	bool section##_##name;
#define CONF_INT(section, name, ...)	unsigned section##_##name;
#define CONF_MS(section, name, ...)	int64_t section##_##name##_ms;
#define CONF_BYTES(section, name, ...)	uint64_t section##_##name##_bytes;
#define CONF_ENUM(section, name, ...)	unsigned section##_##name;
#define CONF_LIST(section, name, ...)	struct conf_list section##_##name;
#include "base/conf.def"
#undef CONF_STRING
#undef CONF_FILE
#undef CONF_BOOL
#undef CONF_INT
#undef CONF_MS
#undef CONF_BYTES
#undef CONF_ENUM
#undef CONF_LIST
	struct conf_issuer *auth_issuers;	/* blocks, each with its own `issuer` */
	size_t auth_issuers_n;

	bool insecure_short_secret;		/* the command line allows it */
};

/* Where settings come from; the later win: defaults, file, environment, overrides. */
struct conf_sources {
	const char *file;		/* NULL: none */
	bool file_required;		/* a file that isn't there is a fault */
	char *const *environment;	/* as environ; NULL: none */
	const char *const *overrides;	/* "section.option=value" */
	size_t override_count;
	bool insecure_short_secret;	/* take a JWT secret of less than 32 bytes */
	bool exposed_secret;		/* take secrets from files that every user can read, without a word */
};

/* What was found wrong, one text each: "belayd.conf:7: limits.heartbeat: …". */
struct conf_findings {
	struct conf_list faults;	/* any of them: the settings are refused */
	struct conf_list warnings;
	struct conf_list places;	/* where each was set that was: "server.listen=belayd.conf:7" */
};

/*
 * Reads all sources and checks everything; key files are read too.  NULL when there is any fault;
 * all that can be found are in *findings, which the caller frees with conf_findings_fini() in
 * either case.  No text in it holds a secret.
 *
 * A secret in a file that every user can read is a warning; with server.user, which says that there are
 * other users, it is a fault.
 */
struct conf *conf_load(const struct conf_sources *sources, struct conf_findings *findings);
void conf_free(struct conf **conf);
void conf_findings_fini(struct conf_findings *findings);
/* Is there a key of any kind, by which somebody could log in?  Devices are registered by those who can. */
bool conf_has_key(const struct conf *conf);
/* Where the option was set that a sentence begins with; NULL: it was not, or there is none. */
const char *conf_place(const struct conf_findings *findings, const char *sentence);

/* All settings in force, as a file that conf_load() would take; secrets and passwords as ***. */
void conf_print(const struct conf *conf, FILE *out);

/*
 * All settings with their secrets and key texts as bytes, for the other processes of the same
 * belayd, and back.
 */
void conf_pack(const struct conf *conf, struct buf *out);
struct conf *conf_unpack(struct slice in);	/* NULL: not what conf_pack() made */

/*
 * For a reload: gives fresh the old values of the options that only a start takes up, and appends
 * the names of those that differed to *kept.
 */
void conf_keep_fixed(struct conf *fresh, const struct conf *old, struct conf_list *kept);

/* Appends a copy of text; fini frees all and leaves an empty list. */
void conf_list_add(struct conf_list *list, const char *text);
void conf_list_fini(struct conf_list *list);

#endif
