/*
 * conf_load.c: reads settings from the defaults, the file, the environment and the command line.
 *
 * The master (and belayctl) reads them; workers only unpack what the master packed.
 */
#include <errno.h>
#include <fcntl.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf_load.h"
#include "base/json.h"
#include "base/must.h"

void
conf_fault(struct conf_load *l, const char *where, const char *fmt, ...)
{
	char text[512];
	int n = where != NULL ? snprintf(text, sizeof(text), "%s: ", where) : 0;
	va_list ap;

	if (n < 0 || (size_t)n >= sizeof(text))
		n = 0;
	va_start(ap, fmt);
	(void)vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	conf_list_add(&l->findings->faults, text);
}

/* A value is quoted only where it can't be a secret. */
static void
fault_value(struct conf_load *l, const char *where, const struct conf_option *o, const char *value,
    const char *why)
{
	if ((o->flags & (CONF_SECRET | CONF_PASSWORD)) != 0 || *value == '\0')
		conf_fault(l, where, "%s.%s: %s", o->section, o->name, why);
	else
		conf_fault(l, where, "%s.%s: \"%.100s\": %s", o->section, o->name, value, why);
}

static int
parse_bool(const char *text, uint64_t *out)
{
	static const char *const yes[] = { "true", "yes", "on", "1" },
	    *const no[] = { "false", "no", "off", "0" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*out = strcasecmp(text, yes[i]) == 0;
			return 0;
		}
	return -1;
}

static int
parse_int(const char *text, uint64_t *out, char why[CONF_WHY_LEN])
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || *text == ' ') {
		(void)snprintf(why, CONF_WHY_LEN, "a whole number is wanted");
		return -1;
	}
	if (errno != 0 || v < 0)	/* no option takes a negative number */
		v = INT64_MAX;
	*out = (uint64_t)v;
	return 0;
}

static int
parse_enum(const struct conf_option *o, const char *text, uint64_t *out, char why[CONF_WHY_LEN])
{
	size_t n = 0;

	for (unsigned i = 0; o->words[i] != NULL; i++) {
		if (strcmp(text, o->words[i]) == 0) {
			*out = i;
			return 0;
		}
		n += (size_t)snprintf(why + n, CONF_WHY_LEN - n, "%s%s", i == 0 ?
		    "" : o->words[i + 1] == NULL ? " or " : ", ",
		    o->words[i]);
	}
	(void)snprintf(why + n, CONF_WHY_LEN - n, " is wanted");
	return -1;
}

static int
parse_number(const struct conf_option *o, const char *text, uint64_t *out, char why[CONF_WHY_LEN])
{
	int64_t ms;

	switch (o->type) {
	case CONF_TYPE_BOOL:
		if (parse_bool(text, out) == 0)
			return 0;
		(void)snprintf(why, CONF_WHY_LEN, "true or false is wanted");
		return -1;
	case CONF_TYPE_INT:
		return parse_int(text, out, why);
	case CONF_TYPE_MS:
		if (conf_parse_duration(text, &ms, why) == -1)
			return -1;
		*out = (uint64_t)ms;
		return 0;
	case CONF_TYPE_BYTES:
		return conf_parse_size(text, out, why);
	default:
		return parse_enum(o, text, out, why);
	}
}

/* Sets anything but a list from its text; a fault is noted and changes nothing. */
static void
set_text(struct conf_load *l, void *base, const struct conf_option *o, const char *text,
    const char *where)
{
	char why[CONF_WHY_LEN] = "";
	uint64_t v = 0, min = 0, max = 0;

	if (conf_is_text(o)) {
		if (o->check(text, why) == -1)
			fault_value(l, where, o, text, why);
		else
			conf_string_set(conf_string_at(base, o->offset), text, strlen(text));
		return;
	}
	if (parse_number(o, text, &v, why) == -1) {
		fault_value(l, where, o, text, why);
		return;
	}
	if (o->min != NULL) {
		must(parse_number(o, o->min, &min, why) == 0);
		must(parse_number(o, o->max, &max, why) == 0);
		if (v < min || v > max) {
			(void)snprintf(why, sizeof(why), "must be from %s to %s", o->min, o->max);
			fault_value(l, where, o, text, why);
			return;
		}
	}
	conf_number_set(base, o, v);
}

static void
set_list(struct conf_load *l, void *base, const struct conf_option *o,
    const struct conf_list *items, const char *where)
{
	char why[CONF_WHY_LEN] = "";
	bool good = true;

	for (size_t i = 0; i < items->n; i++)
		if (o->check(items->v[i], why) == -1) {
			fault_value(l, where, o, items->v[i], why);
			good = false;
		}
	if (good)
		conf_list_copy(conf_list_at(base, o), items);
}

static void
add_trimmed(struct conf_list *list, const char *text, size_t len)
{
	char *item;

	while (len > 0 && (*text == ' ' || *text == '\t')) {
		text++;
		len--;
	}
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	item = must_strndup(text, len);
	conf_list_add(list, item);
	free(item);
}

/* A JSON array of strings: -1 when it is none. */
static int
split_json(struct json_value array, struct conf_list *list)
{
	struct json_iter it;
	struct json_value item;
	struct buf scratch = BUF_INIT;
	struct slice text;
	int ret = 0;

	json_iter_init(&it, array);
	while (ret == 0 && json_array_next(&it, &item)) {
		buf_clear(&scratch);
		if (json_text(item, &scratch, &text) == -1)
			ret = -1;
		else
			add_trimmed(list, text.p, text.len);
	}
	buf_fini(&scratch);
	return ret;
}

/* A list as one text: a JSON array, or strings between commas; nothing at all is the empty list. */
static int
split_text(const char *text, struct conf_list *list)
{
	struct json_value array;
	const char *end;

	/* What is no JSON but begins with a bracket is an IPv6 address. */
	if (*text == '[' && json_parse(slice_of(text), 4, &array) == 0 &&
	    array.kind == JSON_KIND_ARRAY)
		return split_json(array, list);
	if (text[strspn(text, " \t")] == '\0')
		return 0;
	for (;; text = end + 1) {
		end = strchrnul(text, ',');
		add_trimmed(list, text, (size_t)(end - text));
		if (list->v[list->n - 1][0] == '\0')
			return -1;
		if (*end == '\0')
			return 0;
	}
}

void
conf_set_text(struct conf_load *l, void *base, const struct conf_option *o, const char *text,
    const char *where)
{
	struct conf_list list = { NULL, 0 };

	if (o->type != CONF_TYPE_LIST) {
		set_text(l, base, o, text, where);
		return;
	}
	if (split_text(text, &list) == -1)
		fault_value(l, where, o, text,
		    "strings separated by commas, or a JSON array of strings, are wanted");
	else
		set_list(l, base, o, &list, where);
	conf_list_fini(&list);
}

static void
set_origin(struct conf_load *l, size_t i, enum rank rank, const char *where)
{
	free(l->origins[i].where);
	l->origins[i].where = must_strndup(where, strlen(where));
	l->origins[i].rank = rank;
}

/* --- the file */

static const char *
source_file(const config_setting_t *s, const char *file)
{
	const char *included = config_setting_source_file(s);

	return included != NULL ? included : file;
}

static void
place(char out[256], const config_setting_t *s, const char *file)
{
	(void)snprintf(out, 256, "%.200s:%u", source_file(s, file), (unsigned)config_setting_source_line(s));
}

static void
set_file_list(struct conf_load *l, void *base, const struct conf_option *o,
    const config_setting_t *s, const char *where)
{
	struct conf_list list = { NULL, 0 };
	int n = config_setting_length(s);
	bool good = config_setting_is_array(s) || config_setting_is_list(s);

	for (int i = 0; good && i < n; i++) {
		const char *item = config_setting_get_string_elem(s, i);

		if (item != NULL)
			conf_list_add(&list, item);
		else
			good = false;
	}
	if (good)
		set_list(l, base, o, &list, where);
	else
		conf_fault(l, where, "%s.%s: a list of strings is wanted, as [ \"one\", \"two\" ]",
		    o->section, o->name);
	conf_list_fini(&list);
}

/* A secret or password that stands in the file itself: who else can read that? */
static void
look_at_secret(struct conf_load *l, const struct conf_option *o, const config_setting_t *s, const char *file,
    const char *where)
{
	const char *text = config_setting_get_string(s), *from = source_file(s, file), *slash = strrchr(file, '/');
	struct buf path = BUF_INIT;
	struct stat st;
	size_t len;

	if (o->type != CONF_TYPE_STRING || text == NULL || *text == '\0')
		return;
	if ((o->flags & CONF_SECRET) == 0 && ((o->flags & CONF_PASSWORD) == 0 || conf_password(text, &len) == NULL))
		return;
	/* A file that is included is named as seen from the first one's folder. */
	if (strcmp(from, file) != 0 && *from != '/' && slash != NULL)
		buf_put(&path, file, (size_t)(slash + 1 - file));
	buf_puts(&path, from);
	buf_putc(&path, '\0');
	if (stat(path.data, &st) == 0)
		conf_expose(l, where, o, NULL, st.st_mode);
	buf_fini(&path);
}

/* Sets an option from what stands in the file, whose type must be the option's. */
static void
set_file_value(struct conf_load *l, void *base, const struct conf_option *o,
    const config_setting_t *s, const char *file, const char *where)
{
	char number[24];
	int type = config_setting_type(s);
	bool integer = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
	const char *wanted = "a string is wanted";

	look_at_secret(l, o, s, file, where);
	if (o->type == CONF_TYPE_LIST) {
		set_file_list(l, base, o, s, where);
		return;
	}
	if (integer)
		(void)snprintf(number, sizeof(number), "%lld", config_setting_get_int64(s));
	if (o->type == CONF_TYPE_BOOL && type == CONFIG_TYPE_BOOL)
		set_text(l, base, o, config_setting_get_bool(s) ? "true" : "false", where);
	else if (o->type == CONF_TYPE_BOOL)
		conf_fault(l, where, "%s.%s: true or false is wanted, without quotes", o->section,
		    o->name);
	else if (integer && (o->type == CONF_TYPE_INT || o->type == CONF_TYPE_BYTES ||
	    o->type == CONF_TYPE_MS))
		set_text(l, base, o, number, where);
	else if (o->type == CONF_TYPE_INT)
		conf_fault(l, where, "%s.%s: a whole number is wanted, without quotes", o->section,
		    o->name);
	else if (type == CONFIG_TYPE_STRING)
		set_text(l, base, o, config_setting_get_string(s), where);
	else {
		if (o->type == CONF_TYPE_MS)
			wanted = "a duration in quotes is wanted, as \"30s\"";
		else if (o->type == CONF_TYPE_BYTES)
			wanted = "a number of bytes, or a size in quotes, is wanted, as \"64K\"";
		conf_fault(l, where, "%s.%s: %s", o->section, o->name, wanted);
	}
}

static void
read_issuer(struct conf_load *l, const config_setting_t *s, const char *file)
{
	struct conf_issuer *issuer = conf_issuer_add(l->conf);
	struct conf_block *block;
	char where[256];
	int n = config_setting_length(s);

	l->blocks = must_realloc(l->blocks, l->conf->auth_issuers_n * sizeof(*l->blocks));
	block = &l->blocks[l->conf->auth_issuers_n - 1];
	memset(block, 0, sizeof(*block));
	place(where, s, file);
	block->where = must_strndup(where, strlen(where));
	for (int i = 0; i < n; i++) {
		const config_setting_t *member = config_setting_get_elem(s, (unsigned)i);
		const char *name = config_setting_name(member);
		long at = conf_option_find(conf_issuer_options, CONF_ISSUER_OPTION_COUNT,
		    SLICE("auth"), name);

		place(where, member, file);
		if (at == -1) {
			conf_fault(l, where, "auth.issuers: unknown option %s", name);
			continue;
		}
		set_file_value(l, issuer, &conf_issuer_options[at], member, file, where);
		block->set[at] = true;
	}
}

static void
read_issuers(struct conf_load *l, const config_setting_t *s, const char *file, const char *where)
{
	int n = config_setting_length(s);

	if (!config_setting_is_list(s)) {
		conf_fault(l, where,
		    "auth.issuers: a list of blocks is wanted, as ( { issuer = \"...\"; }, { ... "
		    "} )");
		return;
	}
	for (int i = 0; i < n; i++) {
		const config_setting_t *block = config_setting_get_elem(s, (unsigned)i);
		char at[256];

		place(at, block, file);
		if (config_setting_is_group(block))
			read_issuer(l, block, file);
		else
			conf_fault(l, at,
			    "auth.issuers: a block is wanted, as { issuer = \"...\"; }");
	}
}

static bool
is_section(const char *name, size_t len)
{
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++)
		if (strlen(conf_options[i].section) == len &&
		    strncasecmp(conf_options[i].section, name, len) == 0)
			return true;
	return false;
}

static void
read_section(struct conf_load *l, const config_setting_t *section, const char *file)
{
	const char *name = config_setting_name(section);
	int n = config_setting_length(section);
	char where[256];

	place(where, section, file);
	if (!is_section(name, strlen(name))) {
		conf_fault(l, where, "unknown section %s", name);
		return;
	}
	if (!config_setting_is_group(section)) {
		conf_fault(l, where, "a section is wanted, as %s: { ... };", name);
		return;
	}
	for (int i = 0; i < n; i++) {
		const config_setting_t *s = config_setting_get_elem(section, (unsigned)i);
		const char *option = config_setting_name(s);
		long at = conf_option_find(conf_options, CONF_OPTION_COUNT, slice_of(name), option);

		place(where, s, file);
		if (at != -1) {
			set_file_value(l, l->conf, &conf_options[at], s, file, where);
			set_origin(l, (size_t)at, RANK_FILE, where);
		} else if (strcmp(name, "auth") == 0 && strcmp(option, "issuers") == 0)
			read_issuers(l, s, file, where);
		else
			conf_fault(l, where, "unknown option %s.%s", name, option);
	}
}

/* Can the file be read at all?  1 yes, 0 it is not there and need not be, -1 a fault was noted. */
static int
look_at_file(struct conf_load *l, const char *file, bool required)
{
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd == -1 && errno == ENOENT && !required)
		return 0;
	if (fd == -1 || fstat(fd, &st) == -1) {
		conf_fault(l, file, "%s", strerror(errno));
		if (fd != -1)
			(void)close(fd);
		return -1;
	}
	(void)close(fd);
	if (S_ISDIR(st.st_mode)) {	/* libconfig's scanner ends the process */
		conf_fault(l, file, "%s", strerror(EISDIR));
		return -1;
	}
	return 1;
}

static void
read_file(struct conf_load *l, const char *file, bool required)
{
	config_t config;
	const config_setting_t *root;
	const char *slash = strrchr(file, '/');
	char *dir;
	char where[256];

	if (look_at_file(l, file, required) != 1)
		return;
	dir = slash == NULL ? must_strndup(".", 1) : must_strndup(file, slash == file ?
	    1 : (size_t)(slash - file));
	if (!conf_numbers_fit(l, file, dir)) {
		free(dir);
		return;
	}
	config_init(&config);
	config_set_include_dir(&config, dir);
	free(dir);
	if (config_read_file(&config, file) == CONFIG_FALSE) {
		const char *at = config_error_file(&config);

		(void)snprintf(where, sizeof(where), "%.200s:%d", at != NULL ? at : file,
		    config_error_line(&config));
		conf_fault(l, where, "%s", config_error_text(&config));
		config_destroy(&config);
		return;
	}
	root = config_root_setting(&config);
	for (int i = 0; i < config_setting_length(root); i++)
		read_section(l, config_setting_get_elem(root, (unsigned)i), file);
	config_destroy(&config);
}

/* --- the environment and the command line */

/* An option by its name in capitals: SERVER_LOG_LEVEL. */
static long
find_variable(const char *name, size_t len)
{
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
		size_t section = strlen(conf_options[i].section);

		if (len == section + 1 + strlen(conf_options[i].name) &&
		    strncasecmp(name, conf_options[i].section, section) == 0 &&
		    name[section] == '_' && strncasecmp(name + section + 1, conf_options[i].name,
		    len - section - 1) == 0)
			return (long)i;
	}
	return -1;
}

static bool
is_upper(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (name[i] >= 'a' && name[i] <= 'z')
			return false;
	return true;
}

/* The rest after the first place where part stands, NULL: nowhere. */
static const char *
after(const char *name, const char *part)
{
	const char *at = strstr(name, part);

	return at != NULL ? at + strlen(part) : NULL;
}

static bool
is_digits(const char *text)
{
	return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/*
 * What Kubernetes gives each container of a namespace for a Service called belay…: NAME_SERVICE_HOST,
 * NAME_SERVICE_PORT[_name], NAME_PORT, NAME_PORT_80_TCP[_PROTO, _PORT, _ADDR].  By names and values, since
 * BELAY_SERVER_PORT=80 is rather somebody's mistake.
 */
static bool
is_service_link(const char *name, const char *value)
{
	static const char *const protocols[] = { "tcp", "udp", "sctp" };
	const char *rest = after(name, "_SERVICE_HOST");
	bool url = false;

	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		url |= strncmp(value, protocols[i], strlen(protocols[i])) == 0 &&
		    strncmp(value + strlen(protocols[i]), "://", 3) == 0;
	if (rest != NULL && *rest == '\0')
		return true;
	if ((rest = after(name, "_SERVICE_PORT")) != NULL && (*rest == '\0' || *rest == '_'))
		return is_digits(value);
	for (rest = name; (rest = after(rest, "_PORT")) != NULL; ) {
		if (*rest == '\0')
			return url;
		if (*rest == '_' && rest[1] >= '0' && rest[1] <= '9') {
			rest += 1 + strspn(rest + 1, "0123456789");
			return strncmp(rest, "_TCP", 4) == 0 || strncmp(rest, "_UDP", 4) == 0 ||
			    strncmp(rest, "_SCTP", 5) == 0;
		}
	}
	return false;
}

static void
read_variable(struct conf_load *l, const char *variable)
{
	const char *equals = strchr(variable, '='), *name = variable + 6, *under;
	char where[128];
	size_t len;
	long at;

	if (strncmp(variable, "BELAY_", 6) != 0 || equals == NULL)
		return;
	len = (size_t)(equals - name);
	(void)snprintf(where, sizeof(where), "environment BELAY_%.*s", len < 80 ? (int)len : 80,
	    name);
	at = is_upper(name, len) ? find_variable(name, len) : -1;
	if (at == -1) {
		char *whole = must_strndup(variable, (size_t)(equals - variable));
		bool foreign = is_service_link(whole, equals + 1);

		free(whole);
		if (foreign)
			return;
	}
	under = memchr(name, '_', len);
	if (at != -1) {
		conf_set_text(l, l->conf, &conf_options[at], equals + 1, where);
		set_origin(l, (size_t)at, RANK_ENVIRONMENT, where);
	} else if (len == 12 && memcmp(name, "AUTH_ISSUERS", 12) == 0)
		conf_fault(l, where, "auth.issuers can be set in the file only");
	else if (under != NULL && is_section(name, (size_t)(under - name)))
		conf_fault(l, where, "unknown option");
	else {
		char text[200];

		(void)snprintf(text, sizeof(text), "%s: not an option of belayd; ignored", where);
		conf_list_add(&l->findings->warnings, text);
	}
}

static const char *
variable_value(char *const *environment, const char *name)
{
	size_t len = strlen(name);

	for (; *environment != NULL; environment++)
		if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
			return *environment + len + 1;
	return NULL;
}

/* Another port for each address of server.listen that has one; two that are the same then are a fault. */
static void
take_port(struct conf_load *l, const char *port)
{
	long at = conf_option_find(conf_options, CONF_OPTION_COUNT, SLICE("server"), "listen");
	struct conf_list *listen = conf_list_at(l->conf, &conf_options[at]), moved = { NULL, 0 };
	struct buf text = BUF_INIT;

	for (size_t i = 0; i < listen->n; i++) {
		const char *address = listen->v[i], *colon = strrchr(address, ':');

		buf_clear(&text);
		if (strncmp(address, "unix:", 5) == 0 || colon == NULL)
			buf_puts(&text, address);
		else
			buf_printf(&text, "%.*s:%.20s", (int)(colon - address), address, port);
		buf_putc(&text, '\0');
		for (size_t k = 0; k < moved.n; k++)
			if (strcmp(moved.v[k], text.data) == 0)
				conf_fault(l, "environment PORT",
				    "server.listen: two addresses would be %.100s", text.data);
		conf_list_add(&moved, text.data);
	}
	set_list(l, l->conf, &conf_options[at], &moved, "environment PORT");
	set_origin(l, (size_t)at, RANK_ENVIRONMENT, "environment PORT");
	conf_list_fini(&moved);
	buf_fini(&text);
}

/* The names that hosting platforms use; BELAY_… come after them and win. */
static void
read_common_variables(struct conf_load *l, char *const *environment)
{
	const char *secret = variable_value(environment, "JWT_SECRET"),
	    *port = variable_value(environment, "PORT");

	if (secret != NULL && *secret != '\0') {
		long at = conf_option_find(conf_options, CONF_OPTION_COUNT, SLICE("auth"),
		    "jwt_secret");

		set_text(l, l->conf, &conf_options[at], secret, "environment JWT_SECRET");
		set_origin(l, (size_t)at, RANK_ENVIRONMENT, "environment JWT_SECRET");
	}
	if (port != NULL && *port != '\0')
		take_port(l, port);
}

static void
read_override(struct conf_load *l, const char *text)
{
	const char *equals = strchr(text, '='), *dot;
	char *name;
	char where[128];
	long at;

	if (equals == NULL || (dot = memchr(text, '.', (size_t)(equals - text))) == NULL) {
		/* It may be the value alone, so it is not shown. */
		conf_fault(l, "-o", "section.option=value is wanted");
		return;
	}
	(void)snprintf(where, sizeof(where), "-o %.*s", equals - text < 80 ?
	    (int)(equals - text) : 80, text);
	name = must_strndup(dot + 1, (size_t)(equals - dot - 1));
	at = conf_option_find(conf_options, CONF_OPTION_COUNT,
	    slice_bytes(text, (size_t)(dot - text)), name);
	if (at != -1) {
		conf_set_text(l, l->conf, &conf_options[at], equals + 1, where);
		set_origin(l, (size_t)at, RANK_OVERRIDE, where);
	} else if (dot - text == 4 && memcmp(text, "auth", 4) == 0 && strcmp(name, "issuers") == 0)
		conf_fault(l, where, "auth.issuers can be set in the file only");
	else
		conf_fault(l, where, "unknown option");
	free(name);
}

static void
add_place(struct conf_findings *findings, const char *section, const char *name, const char *where)
{
	struct buf text = BUF_INIT;

	if (where == NULL)
		return;
	buf_printf(&text, "%s.%s=%s", section, name, where);
	buf_putc(&text, '\0');
	conf_list_add(&findings->places, text.data);
	buf_fini(&text);
}

struct conf *
conf_load(const struct conf_sources *sources, struct conf_findings *findings)
{
	struct conf_load l = { .conf = must_alloc(sizeof(struct conf)), .findings = findings };

	memset(findings, 0, sizeof(*findings));
	l.conf->insecure_short_secret = sources->insecure_short_secret;
	conf_values_init(l.conf, conf_options, CONF_OPTION_COUNT);
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++)
		conf_set_text(&l, l.conf, &conf_options[i], conf_options[i].standard, NULL);
	must(findings->faults.n == 0);	/* the defaults are ours */

	if (sources->file != NULL)
		read_file(&l, sources->file, sources->file_required);
	if (sources->environment != NULL) {
		read_common_variables(&l, sources->environment);
		for (char *const *variable = sources->environment; *variable != NULL; variable++)
			read_variable(&l, *variable);
	}
	for (size_t i = 0; i < sources->override_count; i++)
		read_override(&l, sources->overrides[i]);

	conf_finish(&l);
	for (size_t i = 0; i < l.exposed.n && !sources->exposed_secret; i++)
		conf_list_add(*l.conf->server_user != '\0' ? &findings->faults : &findings->warnings, l.exposed.v[i]);
	conf_list_fini(&l.exposed);

	for (size_t i = 0; i < l.conf->auth_issuers_n; i++) {
		add_place(findings, "auth", "issuers", l.blocks[i].where);
		free(l.blocks[i].where);
	}
	free(l.blocks);
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
		add_place(findings, conf_options[i].section, conf_options[i].name, l.origins[i].where);
		free(l.origins[i].where);
	}
	if (findings->faults.n > 0)
		conf_free(&l.conf);
	return l.conf;
}

