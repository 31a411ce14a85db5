/*
 * lists.c: puts the lists of the manual into its pages, from the .def files that the programs
 * themselves are made of.
 *
 * Run at build time only: "lists <PAGE.in >PAGE".  A line ".List NAME" becomes that list in mdoc;
 * all others are passed on.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/stats_names.h"
#include "msg/schema.h"

/* One sentence or more, each on its own line, closed by a full stop. */
static void
put_text(const char *s, bool capital)
{
	char last = '.';
	bool start = true;

	for (; *s; s++) {
		if (start && (*s == '.' || *s == '\''))
			fputs("\\&", stdout);
		size_t spaces = strspn(s, " ");

		if (last == '.' && spaces && isupper((unsigned char)s[spaces])) {
			s += spaces - 1;
			putchar('\n');
			start = true;
			continue;
		}
		if (*s == '\\')
			fputs("\\e", stdout);
		else
			putchar(start && capital ? toupper((unsigned char)*s) : *s);
		start = false;
		last = *s;
	}
	puts(last == '.' || last == ':' ? "" : ".");
}

static const char *const kind_words[] = {
	[FIELD_KIND_ID] = "id", [FIELD_KIND_USERID] = "user id", [FIELD_KIND_UUID] = "UUID",
	[FIELD_KIND_STRING] = "string", [FIELD_KIND_LINE] = "string without control characters",
	[FIELD_KIND_URL] = "URL or absolute path", [FIELD_KIND_TYPE_NAME] = "type name",
	    [FIELD_KIND_NAME] = "name",
	[FIELD_KIND_EVENT] = "event name", [FIELD_KIND_INT] = "integer",
	    [FIELD_KIND_NUMBER] = "number",
	[FIELD_KIND_BOOL] = "boolean", [FIELD_KIND_TIME] = "time", [FIELD_KIND_OBJECT] = "object",
	[FIELD_KIND_ARRAY] = "array", [FIELD_KIND_ANY] = "any value", [FIELD_KIND_ENUM] = "one of",
	[FIELD_KIND_IDS] = "array of ids", [FIELD_KIND_USERIDS] = "array of user ids",
	[FIELD_KIND_UUIDS] = "array of UUIDs", [FIELD_KIND_NAMES] = "array of names",
	[FIELD_KIND_LINES] = "array of strings", [FIELD_KIND_FAULT] =
	    "string or object of code and message",
	[FIELD_KIND_CONDITION] = "condition", [FIELD_KIND_SAMPLES] = "array of objects of at and data",
};

static void
put_range(const struct schema_field *f)
{
	switch (f->kind) {
	case FIELD_KIND_INT:
		if (f->max == INT64_MAX)
			return;
		printf(", %" PRId64 " to %" PRId64, f->min, f->max);
		break;
	case FIELD_KIND_STRING:
	case FIELD_KIND_LINE:
	case FIELD_KIND_URL:
		if (f->min)
			printf(", %" PRId64 " to %" PRId64 " characters", f->min, f->max);
		else
			printf(", up to %" PRId64 " characters", f->max);
		break;
	case FIELD_KIND_SAMPLES:
		printf(", %" PRId64 " to %" PRId64, f->min, f->max);
		break;
	case FIELD_KIND_LINES:
		printf(", up to %" PRId64 " of up to %" PRId64 " characters", f->max, f->min);
		break;
	case FIELD_KIND_IDS:
	case FIELD_KIND_USERIDS:
	case FIELD_KIND_UUIDS:
	case FIELD_KIND_NAMES:
		if (f->max != INT64_MAX)
			printf(", up to %" PRId64, f->max);
		break;
	default:
		break;
	}
}

static void
put_fields(const struct schema *s)
{
	if (!s->fields_n)
		return;
	puts(".Bl -tag -width Ds -compact");
	for (unsigned i = 0; i < s->fields_n; i++) {
		const struct schema_field *f = &s->fields[i];

		printf(".It Va %s\n(%s", f->name, kind_words[f->kind]);
		for (unsigned c = 0; f->choices && f->choices[c]; c++)
			printf("%s \"%s\"", c ? "," : "", f->choices[c]);
		put_range(f);
		puts(f->presence == FIELD_REQUIRED ? ", required)" :
		    f->presence == FIELD_EITHER ? ", this or the other)" :
		    f->presence == FIELD_NULLABLE ? ", required, may be null)" : ")");
		put_text(f->doc, false);
	}
	puts(".El");
}

/* The messages that these send and those receive; exactly these sides. */
static void
list_messages(unsigned from, unsigned to)
{
	puts(".Bl -tag -width Ds");
	for (unsigned id = 1; id < SCHEMA_COUNT; id++) {
		const struct schema *s = &schema_table[id];

		if (s->from != from || s->to != to)
			continue;
		printf(".It Ic %s\n", s->name);
		put_text(s->doc, true);
		put_fields(s);
	}
	puts(".El");
}

static void
messages_to_server_any(void)
{
	list_messages(SCHEMA_DEVICE | SCHEMA_USER, SCHEMA_SERVER);
}

static void
messages_to_server_device(void)
{
	list_messages(SCHEMA_DEVICE, SCHEMA_SERVER);
}

static void
messages_to_server_user(void)
{
	list_messages(SCHEMA_USER, SCHEMA_SERVER);
}

static void
messages_from_server_any(void)
{
	list_messages(SCHEMA_SERVER, SCHEMA_DEVICE | SCHEMA_USER);
}

static void
messages_from_server_device(void)
{
	list_messages(SCHEMA_SERVER, SCHEMA_DEVICE);
}

static void
messages_from_server_user(void)
{
	list_messages(SCHEMA_SERVER, SCHEMA_USER);
}

static void
put_body(const char *ident, const char *doc, enum body_schema schema)
{
	printf(".It Ic %s\n", ident);
	put_text(doc, true);
	put_fields(&schema_table[schema]);
}

static void
list_bodies(void)
{
	puts(".Bl -tag -width Ds");
#define BODY(ident, doc) put_body(#ident, doc, BODY_##ident);
#define BODY_AS(ident, message, doc) put_body(#ident, doc, BODY_##ident);
#include "msg/schema_each.h"
	puts(".El");
}

static void
list_errors(void)
{
	puts(".Bl -column \"unsupported_media_type\" \"HTTP\" \"meaning\"");
	puts(".It Sy code Ta Sy HTTP Ta Sy meaning");
#define ERROR(code, status, text) printf(".It %s Ta %d Ta %s\n", #code, status, text);
#include "msg/error.def"
#undef ERROR
	puts(".El");
}

static void
list_closes(void)
{
	puts(".Bl -column \"4000\" \"Too many invalid messages\" \"reconnect with longer "
	    "back-off\"");
	puts(".It Sy code Ta Sy reason Ta Sy the client should");
#define X(code, name, reason, advice) printf(".It %d Ta \\&%s Ta \\&%s\n", code, reason, advice);
#include "ws/close.def"
#undef X
	puts(".El");
}

static void
list_events(void)
{
	puts(".Bl -column \"device_disconnected\" \"server\" \"what happened\"");
	puts(".It Sy event Ta Sy told by Ta Sy what happened");
#define SERVER "Belay"
#define DEVICE "the device"
#define EVENT(name, who, what) printf(".It %s Ta %s Ta %s\n", #name, who, what);
#include "msg/event.def"
#undef EVENT
#undef SERVER
#undef DEVICE
	puts(".El");
}

static void
put_route(const char *method, const char *path, const char *who, const char *body, const char *what)
{
	static const struct { const char *name, *words; } whos[] = {
		{ "ANYONE", "public" }, { "USER", "any user" }, { "VIEW", "needs view" },
		    { "CONTROL", "needs control" },
		{ "ADMIN", "needs admin" }, { "OWNER", "the owner" },
		    { "SERVICE", "role service or admin" },
		{ "DEVICE", "the device itself, by its token" },
		    { "USER_DEVICE", "any user; a device by its token, of itself" },
		{ "METRICS", "a service key; anyone on server.admin_listen" },
		    { "SOCKET", "see belay-protocol(7)" },
	};

	for (size_t i = 0; i < sizeof(whos) / sizeof(whos[0]); i++)
		if (strcmp(who, whos[i].name) == 0)
			who = whos[i].words;
	printf(".It Ic %s Pa %s\n", method, path);
	put_text(what, true);
	printf("Access: %s.\n", who);
	if (strcmp(body, "NONE") != 0)
		printf("Body:\n.Ic %s .\n", body);
}

static void
list_routes(void)
{
	puts(".Bl -tag -width Ds");
#define ROUTE(name, method, path, who, body, what) put_route(#method, path, #who, #body, what);
#include "http/routes.def"
#undef ROUTE
	puts(".El");
}

static void
list_roles(void)
{
	puts(".Bl -tag -width \"gateway\"");
#define ROLE(id, name, what) printf(".It %s\n", name); put_text(what, true);
#include "workers/roles.def"
#undef ROLE
	puts(".El");
}

static void
list_records(void)
{
	puts(".Bl -column \"device_send_failed\" \"gateway | reader | storage\" \"gateway\" \"device_welcome\" "
	    "\"what\"");
	puts(".It Sy record Ta Sy from Ta Sy to Ta Sy answered by Ta Sy what it says");
#define MSG(name, from, to, reply, what, ...) \
	printf(".It %s Ta %s Ta %s Ta %s Ta %s\n", #name, #from, #to, \
	    strcmp(#reply, "none") ? #reply : "", what);
#include "msg/msg.def"
#undef MSG
	puts(".El");
}

enum option_flags { LIVE = 1, SECRET = 2, PASSWORD = 4, ABSENT = 8, PRIVATE = 16 };

/*
 * type: what kind of value; values: its choices or range, "" for none; value: the default as in the
 * file.
 */
static void
put_option(const char *section, const char *name, const char *type, const char *values,
    const char *value, unsigned flags, const char *help)
{
	static char last[32];

	if (strcmp(last, section) != 0) {
		if (*last)
			puts(".El");
		snprintf(last, sizeof(last), "%s", section);
		printf(".Ss Section %s\n.Bl -tag -width Ds\n", section);
	}
	printf(".It Va %s.%s\n", section, name);
	if (flags & ABSENT)
		puts("Not in this version: it may be named, but not set.\n.br");
	put_text(help, false);
	printf(".br\n(%s%s%s, default %s; %s%s)\n", type,
	    *values ? strcmp(type, "one of") ? ", " : " " : "", values, value,
	    flags & LIVE ? "reloads" : "needs a restart",
	    flags & PRIVATE ? "; not for every user to read" : flags & SECRET ? "; shown as ***" :
	    flags & PASSWORD ? "; a password in it is shown as ***" : "");
}

static void
put_string_option(const char *section, const char *name, const char *type, const char *value,
    unsigned flags, const char *help)
{
	char quoted[512];

	snprintf(quoted, sizeof(quoted), "\"%s\"", value);
	put_option(section, name, type, "", *value ? quoted : "empty", flags, help);
}

static void
put_int_option(const char *section, const char *name, long value, long min, long max,
    unsigned flags, const char *help)
{
	char values[64], text[32];

	snprintf(values, sizeof(values), "%ld to %ld", min, max);
	snprintf(text, sizeof(text), "%ld", value);
	put_option(section, name, "integer", values, text, flags, help);
}

static void
put_scaled_option(const char *section, const char *name, const char *type, const char *value,
    const char *min, const char *max, unsigned flags, const char *help)
{
	char values[64], quoted[32];

	snprintf(values, sizeof(values), "%s to %s", min, max);
	snprintf(quoted, sizeof(quoted), "\"%s\"", value);
	put_option(section, name, type, values, quoted, flags, help);
}

static void
list_options(void)
{
/* Each word has " or " before it, which the first one loses again. */
#define WORD(constant, text) " or " text
#define CONF_STRING(section, name, value, check, flags, help) \
	put_string_option(#section, #name, "string", value, flags, help);
#define CONF_FILE(section, name, flags, help) \
	put_string_option(#section, #name, "file", "", flags, help);
#define CONF_BOOL(section, name, value, flags, help) \
	put_option(#section, #name, "boolean", "", #value, flags, help);
#define CONF_INT(section, name, value, min, max, flags, help) \
	put_int_option(#section, #name, value, min, max, flags, help);
#define CONF_MS(section, name, value, min, max, flags, help) \
	put_scaled_option(#section, #name, "duration", value, min, max, flags, help);
#define CONF_BYTES(section, name, value, min, max, flags, help) \
	put_scaled_option(#section, #name, "size", value, min, max, flags, help);
#define CONF_ENUM(section, name, words, value, flags, help) \
	put_option(#section, #name, "one of", \
	    (CONF_WORDS_##words(WORD)) + strlen(" or "), "\"" value "\"", flags, help);
#define CONF_LIST(section, name, value, check, flags, help) \
	put_string_option(#section, #name, "list of strings", value, flags, help);
#include "base/conf.def"
#undef WORD
#undef CONF_STRING
#undef CONF_FILE
#undef CONF_BOOL
#undef CONF_INT
#undef CONF_MS
#undef CONF_BYTES
#undef CONF_ENUM
#undef CONF_LIST
	puts(".El");
}

static void
list_counters(void)
{
	const char *last = "";

	puts(".Bl -tag -width Ds");
#define STAT(NAME, metric, kind, help) \
	printf(".It Li %s\n", metric); \
	if (strcmp(last, help) != 0) { \
		put_text(help, true); \
		puts(STAT_KIND_##kind == STAT_KIND_GAUGE ? "(gauge)" : "(counter)"); \
	} \
	last = help;
#define HISTOGRAM(NAME, metric, help) \
	printf(".It Li %s\n", metric); \
	put_text(help, true); \
	puts("(histogram)");
#include "base/stats.def"
	puts(".El");
}

static void
list_commands(void)
{
	puts(".Bl -tag -width Ds");
#define COMMAND(name, synopsis, help) printf(".It Li %s\n", synopsis); put_text(help, true);
#include "belayctl/commands.def"
#undef COMMAND
	puts(".El");
}

static const struct { const char *name; void (*print)(void); } lists[] = {
	{ "messages-to-server-any", messages_to_server_any },
	{ "messages-to-server-device", messages_to_server_device },
	{ "messages-to-server-user", messages_to_server_user },
	{ "messages-from-server-any", messages_from_server_any },
	{ "messages-from-server-device", messages_from_server_device },
	{ "messages-from-server-user", messages_from_server_user },
	{ "bodies", list_bodies },
	{ "errors", list_errors },
	{ "closes", list_closes },
	{ "events", list_events },
	{ "routes", list_routes },
	{ "roles", list_roles },
	{ "records", list_records },
	{ "options", list_options },
	{ "counters", list_counters },
	{ "commands", list_commands },
};

int
main(void)
{
	char line[4096], name[64];
	unsigned at = 0;

	while (fgets(line, sizeof(line), stdin)) {
		size_t i;

		at++;
		if (sscanf(line, ".List %63s", name) != 1) {
			fputs(line, stdout);
			continue;
		}
		for (i = 0; i < sizeof(lists) / sizeof(lists[0]) &&
		    strcmp(lists[i].name, name) != 0; i++)
			;
		if (i == sizeof(lists) / sizeof(lists[0])) {
			fprintf(stderr, "lists: line %u: no list %s\n", at, name);
			return 1;
		}
		lists[i].print();
	}
	return ferror(stdin) || fflush(stdout) ? 1 : 0;
}
