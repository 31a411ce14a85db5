/*
 * conf.c: the table of the options, and settings as a whole: compared, kept, freed.
 *
 * The options with their types and limits are in conf.def; this file knows types, not options.
 */
#include <stdlib.h>
#include <string.h>

#include "base/conf_table.h"
#include "base/must.h"

/* The words of each option that takes one of a few, as words_SECTION_NAME. */
#define WORD_TEXT(constant, text) text,
#define CONF_ENUM(s, n, list_, ...) \
    static const char *const words_##s##_##n[] = { CONF_WORDS_##list_(WORD_TEXT) NULL };
#define CONF_STRING(...)
#define CONF_FILE(...)
#define CONF_BOOL(...)
#define CONF_INT(...)
#define CONF_MS(...)
#define CONF_BYTES(...)
#define CONF_LIST(...)
#include "base/conf.def"
#undef CONF_ENUM
#undef CONF_STRING
#undef CONF_FILE
#undef CONF_BOOL
#undef CONF_INT
#undef CONF_MS
#undef CONF_BYTES
#undef CONF_LIST
#undef WORD_TEXT

/* The flags as conf.def writes them. */
enum { LIVE = CONF_LIVE, SECRET = CONF_SECRET, PASSWORD = CONF_PASSWORD, ABSENT = CONF_ABSENT,
    PRIVATE = CONF_PRIVATE };

#define CONF_STRING(s, n, standard_, check_, flags_, help) { .section = #s, .name = #n, .type = CONF_TYPE_STRING, \
    .offset = AT(s, n), .standard = standard_, .check = conf_check_##check_, .flags = flags_ },
#define CONF_FILE(s, n, flags_, help) { .section = #s, .name = #n, .type = CONF_TYPE_FILE, \
    .offset = AT(s, n), .text_offset = AT(s, n##_text), .standard = "", \
    .check = conf_check_path_or_none, .flags = flags_ },
#define CONF_BOOL(s, n, standard_, flags_, help) { .section = #s, .name = #n, .type = CONF_TYPE_BOOL, \
    .offset = AT(s, n), .standard = standard_ ? "true" : "false", .flags = flags_ },
#define CONF_INT(s, n, standard_, min_, max_, flags_, help) { .section = #s, .name = #n, .type = CONF_TYPE_INT, \
    .offset = AT(s, n), .standard = #standard_, .min = #min_, .max = #max_, .flags = flags_ },
#define CONF_MS(s, n, standard_, min_, max_, flags_, help) { .section = #s, .name = #n, .type = CONF_TYPE_MS, \
    .offset = AT(s, n##_ms), .standard = standard_, .min = min_, .max = max_, .flags = flags_ },
#define CONF_BYTES(s, n, standard_, min_, max_, flags_, help) { .section = #s, .name = #n, .type = CONF_TYPE_BYTES, \
    .offset = AT(s, n##_bytes), .standard = standard_, .min = min_, .max = max_, .flags = flags_ },
#define CONF_ENUM(s, n, list_, standard_, flags_, help) { .section = #s, .name = #n, .type = CONF_TYPE_ENUM, \
    .offset = AT(s, n), .standard = standard_, .words = words_##s##_##n, .flags = flags_ },
#define CONF_LIST(s, n, standard_, check_, flags_, help) { .section = #s, .name = #n, .type = CONF_TYPE_LIST, \
    .offset = AT(s, n), .standard = standard_, .check = conf_check_##check_, .flags = flags_ },

#define AT(s, n) offsetof(struct conf, s##_##n)
const struct conf_option conf_options[CONF_OPTION_COUNT] = {
#include "base/conf.def"
};
#undef AT
#define AT(s, n) offsetof(struct conf_issuer, n)
const struct conf_option conf_issuer_options[CONF_ISSUER_OPTION_COUNT] = {
#include "base/conf_issuer.def"
};
#undef AT


long
conf_option_find(const struct conf_option *table, size_t n, struct slice section, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (slice_is(section, table[i].section) && strcmp(table[i].name, name) == 0)
			return (long)i;
	return -1;
}

char **
conf_string_at(const void *base, size_t offset)
{
	return (char **)((uintptr_t)base + offset);
}

struct conf_list *
conf_list_at(const void *base, const struct conf_option *o)
{
	return (struct conf_list *)((uintptr_t)base + o->offset);
}

uint64_t
conf_number_get(const void *base, const struct conf_option *o)
{
	const void *p = (const char *)base + o->offset;

	switch (o->type) {
	case CONF_TYPE_BOOL:
		return *(const bool *)p;
	case CONF_TYPE_INT: case CONF_TYPE_ENUM:
		return *(const unsigned *)p;
	case CONF_TYPE_MS:
		return (uint64_t)*(const int64_t *)p;
	case CONF_TYPE_BYTES:
		return *(const uint64_t *)p;
	default:
		must(o->type == CONF_TYPE_BYTES);
		return 0;
	}
}

void
conf_number_set(void *base, const struct conf_option *o, uint64_t v)
{
	void *p = (char *)base + o->offset;

	switch (o->type) {
	case CONF_TYPE_BOOL:
		*(bool *)p = v != 0;
		break;
	case CONF_TYPE_INT: case CONF_TYPE_ENUM:
		*(unsigned *)p = (unsigned)v;
		break;
	case CONF_TYPE_MS:
		*(int64_t *)p = (int64_t)v;
		break;
	default:
		must(o->type == CONF_TYPE_BYTES);
		*(uint64_t *)p = v;
	}
}

void
conf_string_set(char **at, const char *text, size_t len)
{
	char *copy = must_strndup(text, len);

	free(*at);
	*at = copy;
}

void
conf_list_add(struct conf_list *list, const char *text)
{
	list->v = must_realloc(list->v, (list->n + 1) * sizeof(*list->v));
	list->v[list->n++] = must_strndup(text, strlen(text));
}

void
conf_list_fini(struct conf_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->v[i]);
	free(list->v);
	*list = (struct conf_list){ NULL, 0 };
}

void
conf_list_copy(struct conf_list *to, const struct conf_list *from)
{
	struct conf_list copy = { NULL, 0 };

	for (size_t i = 0; i < from->n; i++)
		conf_list_add(&copy, from->v[i]);
	conf_list_fini(to);
	*to = copy;
}

bool
conf_is_text(const struct conf_option *o)
{
	return o->type == CONF_TYPE_STRING || o->type == CONF_TYPE_FILE;
}

bool
conf_value_equal(const void *a, const void *b, const struct conf_option *o)
{
	if (conf_is_text(o))
		return strcmp(*conf_string_at(a, o->offset), *conf_string_at(b, o->offset)) == 0;
	if (o->type == CONF_TYPE_LIST) {
		const struct conf_list *x = conf_list_at(a, o), *y = conf_list_at(b, o);

		if (x->n != y->n)
			return false;
		for (size_t i = 0; i < x->n; i++)
			if (strcmp(x->v[i], y->v[i]) != 0)
				return false;
		return true;
	}
	return conf_number_get(a, o) == conf_number_get(b, o);
}

void
conf_value_copy(void *to, const struct conf_option *to_option, const void *from,
    const struct conf_option *from_option)
{
	const char *text;

	must(to_option->type == from_option->type);
	if (to_option->type == CONF_TYPE_LIST)
		conf_list_copy(conf_list_at(to, to_option), conf_list_at(from, from_option));
	else if (!conf_is_text(to_option))
		conf_number_set(to, to_option, conf_number_get(from, from_option));
	else {
		text = *conf_string_at(from, from_option->offset);
		conf_string_set(conf_string_at(to, to_option->offset), text, strlen(text));
		if (to_option->type == CONF_TYPE_FILE) {
			text = *conf_string_at(from, from_option->text_offset);
			conf_string_set(conf_string_at(to, to_option->text_offset), text,
			    strlen(text));
		}
	}
}

void
conf_values_init(void *base, const struct conf_option *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (conf_is_text(&table[i]))
			conf_string_set(conf_string_at(base, table[i].offset), "", 0);
		if (table[i].type == CONF_TYPE_FILE)
			conf_string_set(conf_string_at(base, table[i].text_offset), "", 0);
	}
}

void
conf_values_fini(void *base, const struct conf_option *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (table[i].type == CONF_TYPE_LIST)
			conf_list_fini(conf_list_at(base, &table[i]));
		if (conf_is_text(&table[i]))
			free(*conf_string_at(base, table[i].offset));
		if (table[i].type == CONF_TYPE_FILE)
			free(*conf_string_at(base, table[i].text_offset));
	}
}

struct conf_issuer *
conf_issuer_add(struct conf *conf)
{
	struct conf_issuer *issuer;

	conf->auth_issuers = must_realloc(conf->auth_issuers,
	    (conf->auth_issuers_n + 1) * sizeof(*issuer));
	issuer = &conf->auth_issuers[conf->auth_issuers_n++];
	memset(issuer, 0, sizeof(*issuer));
	conf_values_init(issuer, conf_issuer_options, CONF_ISSUER_OPTION_COUNT);
	return issuer;
}

void
conf_free(struct conf **conf)
{
	if (*conf == NULL)
		return;
	for (size_t i = 0; i < (*conf)->auth_issuers_n; i++)
		conf_values_fini(&(*conf)->auth_issuers[i], conf_issuer_options,
		    CONF_ISSUER_OPTION_COUNT);
	free((*conf)->auth_issuers);
	conf_values_fini(*conf, conf_options, CONF_OPTION_COUNT);
	free(*conf);
	*conf = NULL;
}

void
conf_findings_fini(struct conf_findings *findings)
{
	conf_list_fini(&findings->faults);
	conf_list_fini(&findings->warnings);
	conf_list_fini(&findings->places);
}

const char *
conf_place(const struct conf_findings *findings, const char *sentence)
{
	for (size_t i = 0; i < findings->places.n; i++) {
		const char *place = findings->places.v[i];
		size_t n = strcspn(place, "=");

		if (strncmp(place, sentence, n) == 0 && strcspn(sentence, ": ,") == n)
			return place + n + 1;
	}
	return NULL;
}

void
conf_keep_fixed(struct conf *fresh, const struct conf *old, struct conf_list *kept)
{
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];
		char name[80];

		if ((o->flags & CONF_LIVE) != 0 || conf_value_equal(fresh, old, o))
			continue;
		(void)snprintf(name, sizeof(name), "%s.%s", o->section, o->name);
		conf_list_add(kept, name);
		conf_value_copy(fresh, o, old, o);
	}
}

bool
conf_has_key(const struct conf *conf)
{
	/* A block of auth.issuers without any key is a fault of its own. */
	return conf->auth_jwt_secret[0] != '\0' || conf->auth_jwt_secret_file[0] != '\0' ||
	    conf->auth_jwt_public_key_file[0] != '\0' || conf->auth_jwks_file[0] != '\0' ||
	    conf->auth_jwks_url[0] != '\0' || conf->auth_service_keys.n > 0 || conf->auth_issuers_n > 0;
}
