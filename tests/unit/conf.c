/*
 * conf.c: the settings: each option of conf.def from each source, what is refused and where it is
 * said to stand, and what is printed and passed on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ctype.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf_share.h"
#include "base/conf_table.h"
#include "base/cores.h"
#include "base/must.h"

#define SECRET "a-secret-of-thirty-two-bytes-or-more"
#define HASH "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

/* One attempt at loading, and what came of it. */
struct attempt {
	const char *file_text;		/* NULL: no file */
	const char *environment[8];
	const char *overrides[8];
	bool short_secret;
	struct conf *conf;
	struct conf_findings findings;
};

static char folder[] = "/tmp/belay-conf-XXXXXX";
static char file_path[64], key_path[64];

static void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void
load(struct attempt *a)
{
	struct conf_sources sources = {
		.environment = (char *const *)(uintptr_t)a->environment, .overrides = a->overrides,
		.insecure_short_secret = a->short_secret
	};

	while (a->overrides[sources.override_count] != NULL)
		sources.override_count++;
	if (a->file_text != NULL) {
		write_file(file_path, a->file_text);
		sources.file = file_path;
		sources.file_required = true;
	}
	a->conf = conf_load(&sources, &a->findings);
}

static void
done(struct attempt *a)
{
	conf_free(&a->conf);
	conf_findings_fini(&a->findings);
}

static void
load_good(struct attempt *a)
{
	load(a);
	if (a->conf == NULL)
		fail_msg("refused: %s", a->findings.faults.v[0]);
	assert_int_equal(a->findings.faults.n, 0);
}

/* Is there a fault (or warning) that begins so and has that in it? */
static bool
found(const struct conf_list *list, const char *begin, const char *part)
{
	for (size_t i = 0; i < list->n; i++)
		if (strncmp(list->v[i], begin, strlen(begin)) == 0 &&
		    strstr(list->v[i], part) != NULL)
			return true;
	return false;
}

static void
show(const struct conf_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		print_message("   %s\n", list->v[i]);
}

/*
 * Refused with exactly one fault, at that place of the file (0: not in the file) and with that in
 * it.
 */
static void
expect_fault(struct attempt *a, int line, const char *part)
{
	char begin[96] = "";

	load(a);
	if (line > 0)
		snprintf(begin, sizeof(begin), "%s:%d: ", file_path, line);
	if (a->conf != NULL || a->findings.faults.n != 1 || !found(&a->findings.faults, begin,
	    part)) {
		show(&a->findings.faults);
		fail_msg("no fault, or not this one: %s%s", begin, part);
	}
	done(a);
}

static void
expect_file_fault(const char *text, int line, const char *part)
{
	struct attempt a = { .file_text = text };

	expect_fault(&a, line, part);
}

/* --- each option */

struct sample {
	const char *name;		/* of an option, or of its check */
	conf_check *check;
	const char *good, *bad;		/* bad NULL: there is nothing bad */
};

static const struct sample samples[] = {
	{ NULL, conf_check_any, "anything", NULL },
	{ NULL, conf_check_address, "127.0.0.1:4000", "127.0.0.1" },
	{ NULL, conf_check_address_or_none, "127.0.0.1:4001", "::1:3000" },
	{ NULL, conf_check_claim, "a.b", "a..b" },
	{ NULL, conf_check_feed_url, "mariadb://u:p@h/d", "mysql://h" },
	{ NULL, conf_check_group, "root", "no-such-group-here" },
	{ NULL, conf_check_https_url_or_none, "https://h/jwks", "ftp://h" },
	{ NULL, conf_check_instance, "belay-7", "with space" },
	{ NULL, conf_check_log_target, "/tmp/belay.log", "somewhere" },
	{ NULL, conf_check_mqtt_url, "mqtts://h:1", "tcp://h" },
	{ NULL, conf_check_network, "10.0.0.0/8", "10.0.0.0/99" },
	{ NULL, conf_check_origin, "https://app.example", "https://app.example/" },
	{ NULL, conf_check_path, "/srv/belay", "srv/belay" },
	{ NULL, conf_check_proxy_or_none, "http://proxy:3128", "proxy:3128" },
	{ NULL, conf_check_redis_url, "redis://h:1/0", "h:1" },
	{ NULL, conf_check_service_key, "n:*:" HASH, "n:*:zz" },
	{ NULL, conf_check_tenant_or_none, "t1", "t 1" },
	{ NULL, conf_check_tenants, "acme-*", "acme-*-x" },
	{ NULL, conf_check_user_type, "chat.*", "X_*" },
	{ NULL, conf_check_topic, "b/c", "b/#" },
	{ NULL, conf_check_user, "root", "no-such-user-here" },
	{ "jwt_secret", NULL, SECRET, NULL },
	{ "proxy_listen", NULL, "0.0.0.0:3000", "0.0.0.0" },
	{ "pidfile", NULL, "/tmp/x.pid", "x.pid" },
	{ "message_size", NULL, "32K", "32X" },
	{ "head_size", NULL, "8K", "8X" },
	{ "send_buffer", NULL, "2M", "2 M" },
	{ "tenant_store_rate", NULL, "512K", "512K/s" },
	{ "tenant_store", NULL, "2048G", "2T" },
	{ "mailbox", NULL, "1M", "-1M" },
};

static const struct sample *
sample_of(const struct conf_option *o)
{
	static struct sample made;
	const struct sample *found_one = NULL;

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
		if ((samples[i].name != NULL && strcmp(samples[i].name, o->name) == 0) ||
		    (samples[i].check != NULL && samples[i].check == o->check && found_one == NULL))
			found_one = &samples[i];
	if (found_one != NULL && o->type != CONF_TYPE_FILE)
		return found_one;
	switch (o->type) {
	case CONF_TYPE_FILE:
		made = (struct sample){ .good = key_path, .bad = "relative" };
		break;
	case CONF_TYPE_BOOL:
		made = (struct sample){ .good = strcmp(o->standard, "true") == 0 ? "false" : "true",
		    .bad = "maybe" };
		break;
	case CONF_TYPE_INT:
		made = (struct sample){ .good = o->max, .bad = "many" };
		break;
	case CONF_TYPE_MS:
		made = (struct sample){ .good = o->max, .bad = "5 parsecs" };
		break;
	case CONF_TYPE_ENUM:
		made = (struct sample){ .good = o->words[0], .bad = "none of them" };
		if (strcmp(o->standard, o->words[0]) == 0)
			made.good = o->words[1];
		break;
	default:
		fail_msg("no sample for %s.%s", o->section, o->name);
	}
	return &made;
}

/* The option as libconfig's syntax wants it, on the third line. */
static void
as_file(struct buf *b, const struct conf_option *o, const char *value)
{
	const char *quote = o->type == CONF_TYPE_INT || o->type == CONF_TYPE_BOOL ? "" : "\"";
	bool list = o->type == CONF_TYPE_LIST;

	buf_clear(b);
	buf_printf(b, "# a comment\n%s: { /* another */\n %s = %s%s%s%s%s; };\n", o->section,
	    o->name, list ? "[" : "", quote,
	    value, quote, list ? "]" : "");
	buf_putc(b, '\0');
}

static void
as_variable(struct buf *b, const struct conf_option *o, const char *value)
{
	buf_clear(b);
	buf_printf(b, "BELAY_%s_%s=%s", o->section, o->name, value);
	for (size_t i = 0; b->data[i] != '='; i++)
		b->data[i] = (char)toupper((unsigned char)b->data[i]);
	buf_putc(b, '\0');
}

static void
as_override(struct buf *b, const struct conf_option *o, const char *value)
{
	buf_clear(b);
	buf_printf(b, "%s.%s=%s", o->section, o->name, value);
	buf_putc(b, '\0');
}

/*
 * A good value from each of the three sources does the same, and the default is what stands in the
 * list.
 */
static void
test_each_option(void **state)
{
	struct buf file = BUF_INIT, variable = BUF_INIT, override = BUF_INIT;
	struct attempt standard = { .file_text = "" };

	(void)state;
	load_good(&standard);
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];
		const char *good = sample_of(o)->good;
		struct attempt from[3] = { { .file_text = NULL } };

		as_file(&file, o, good);
		as_variable(&variable, o, good);
		as_override(&override, o, good);
		from[0].file_text = file.data;
		from[1].environment[0] = variable.data;
		from[2].overrides[0] = override.data;
		for (int j = 0; j < 3; j++)
			load(&from[j]);
		if ((o->flags & CONF_ABSENT) != 0) {
			for (int j = 0; j < 3; j++) {
				assert_null(from[j].conf);
				assert_true(found(&from[j].findings.faults, "",
				    "not in this version"));
			}
		} else {
			for (int j = 0; j < 3; j++)
				if (from[j].conf == NULL)
					fail_msg("%s.%s = %s, source %d: %s", o->section, o->name,
					    good, j,
					    from[j].findings.faults.v[0]);
			assert_true(conf_value_equal(from[0].conf, from[1].conf, o));
			assert_true(conf_value_equal(from[0].conf, from[2].conf, o));
			if (o->min == NULL || strcmp(o->min, o->max) != 0)
				assert_false(conf_value_equal(from[0].conf, standard.conf, o));
		}
		for (int j = 0; j < 3; j++)
			done(&from[j]);
	}
	assert_int_equal(CONF_OPTION_COUNT > 60, 1);
	done(&standard);
	buf_fini(&file);
	buf_fini(&variable);
	buf_fini(&override);
}

/* A bad value is refused from each source, with the place and the option's name. */
static void
test_each_option_bad(void **state)
{
	struct buf text = BUF_INIT;
	char name[80], place[96];

	(void)state;
	snprintf(place, sizeof(place), "%s:3: ", file_path);
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];
		const char *bad = sample_of(o)->bad;
		struct attempt a = { .file_text = NULL }, b = a, c = a;

		if (bad == NULL)
			continue;
		snprintf(name, sizeof(name), "%s.%s", o->section, o->name);
		if (o->type != CONF_TYPE_INT && o->type != CONF_TYPE_BOOL) {
			as_file(&text, o, bad);
			a.file_text = text.data;
			load(&a);
			if (!found(&a.findings.faults, place, name))
				fail_msg("%s = %s was taken from the file", name, bad);
			done(&a);
		}
		as_variable(&text, o, bad);
		b.environment[0] = text.data;
		load(&b);
		if (b.conf != NULL || !found(&b.findings.faults, "environment BELAY_", name))
			fail_msg("%s = %s was taken from the environment", name, bad);
		done(&b);
		as_override(&text, o, bad);
		c.overrides[0] = text.data;
		load(&c);
		if (c.conf != NULL || !found(&c.findings.faults, "-o ", name))
			fail_msg("%s = %s was taken from -o", name, bad);
		done(&c);
	}
	buf_fini(&text);
}

/* Of each option with limits: both limits are in, and what is beyond them is out. */
static void
test_each_range(void **state)
{
	struct buf text = BUF_INIT;
	char value[40], why[CONF_WHY_LEN];
	unsigned ranges = 0;

	(void)state;
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];
		int64_t limit[2];
		const char *unit = o->type == CONF_TYPE_MS ? "ms" : "";

		if (o->min == NULL)
			continue;
		ranges++;
		for (int j = 0; j < 2; j++) {
			const char *s = j == 0 ? o->min : o->max;
			uint64_t bytes;

			if (o->type == CONF_TYPE_MS)
				assert_int_equal(conf_parse_duration(s, &limit[j], why), 0);
			else if (o->type == CONF_TYPE_BYTES) {
				assert_int_equal(conf_parse_size(s, &bytes, why), 0);
				limit[j] = (int64_t)bytes;
			} else
				limit[j] = atoll(s);
		}
		for (int j = 0; j < 4; j++) {
			int64_t v = j == 0 ? limit[0] - 1 : j == 1 ? limit[0] : j == 2 ?
			    limit[1] : limit[1] + 1;
			struct attempt a = { .file_text = NULL };
			bool bad = j == 0 || j == 3;

			if (v < 0)
				continue;
			snprintf(value, sizeof(value), "%lld%s", (long long)v, unit);
			as_override(&text, o, value);
			a.overrides[0] = text.data;
			load(&a);
			if (found(&a.findings.faults, "-o ", "must be from") != bad)
				fail_msg("%s = %s: %s", o->name, value, bad ? "taken" : "refused");
			done(&a);
		}
	}
	assert_true(ranges > 20);
	buf_fini(&text);
}

/* --- types, units, lists */

static void
test_types(void **state)
{
	(void)state;
	expect_file_fault("server: { workers = \"4\"; };", 1,
	    "server.workers: a whole number is wanted");
	expect_file_fault("server: { workers = 1.5; };", 1,
	    "server.workers: a whole number is wanted");
	expect_file_fault("server: { workers = 99999999999L; };", 1, "must be from 0 to 60");
	expect_file_fault("server: { workers = -1; };", 1, "must be from 0 to 60");
	expect_file_fault("server: { echo = \"true\"; };", 1,
	    "server.echo: true or false is wanted");
	expect_file_fault("server: { echo = 1; };", 1, "server.echo: true or false is wanted");
	expect_file_fault("server: { listen = \"0.0.0.0:1\"; };", 1,
	    "server.listen: a list of strings");
	expect_file_fault("server: { listen = [1, 2]; };", 1, "server.listen: a list of strings");
	expect_file_fault("server: { listen = ({a = 1;}); };", 1,
	    "server.listen: a list of strings");
	expect_file_fault("server: { instance = 5; };", 1, "server.instance: a string is wanted");
	expect_file_fault("server: { instance = [\"a\"]; };", 1,
	    "server.instance: a string is wanted");
	expect_file_fault("limits: { heartbeat = true; };", 1,
	    "limits.heartbeat: a duration in quotes");
	expect_file_fault("limits: { heartbeat = 30; };", 1,
	    "limits.heartbeat: \"30\": a whole number with one of the units");
	expect_file_fault("limits: { message_size = 1.0; };", 1,
	    "limits.message_size: a number of bytes");
	expect_file_fault("server = 5;", 1, "a section is wanted");
	expect_file_fault("nonsense: { a = 1; };", 1, "unknown section nonsense");
	expect_file_fault("\n\nserver: {\n a = 1;\n};", 4, "unknown option server.a");
	expect_file_fault("server: { listen = []; };", 1, "at least one address is wanted");
	expect_file_fault("limits: { send_buffer = \"32K\"; };", 1,
	    "must not be smaller than limits.message_size");
	expect_file_fault("server: { admin_listen = \"0.0.0.0:3000\"; };", 1,
	    "this address is in server.listen too");
}

static void
test_syntax(void **state)
{
	struct conf_sources sources = { .file = "/nonexistent/belayd.conf" };
	struct conf_findings findings;
	struct conf *conf;

	(void)state;
	expect_file_fault("server: {\n workers = ;\n};", 2, "syntax error");
	expect_file_fault("server: {\n workers = 1;\n workers = 2; };", 3, "duplicate");
	expect_file_fault("server: { workers = 1;", 1, "syntax error");

	/* A file that need not be there. */
	conf = conf_load(&sources, &findings);
	assert_non_null(conf);
	conf_free(&conf);
	conf_findings_fini(&findings);
	sources.file_required = true;
	assert_null(conf_load(&sources, &findings));
	assert_true(found(&findings.faults, "/nonexistent/belayd.conf: ",
	    "No such file or directory"));
	conf_findings_fini(&findings);
	sources.file = folder;
	assert_null(conf_load(&sources, &findings));
	assert_true(found(&findings.faults, folder, "Is a directory"));
	conf_findings_fini(&findings);
}

static void
test_include(void **state)
{
	char path[80], place[100];
	struct attempt a = { .file_text = "# one\n@include \"more.conf\"\nlimits: { message_rate = 0; };\n" };

	(void)state;
	snprintf(path, sizeof(path), "%s/more.conf", folder);
	write_file(path, "# first\n# second\nserver: {\n workers = 99;\n};\n");
	load(&a);
	assert_null(a.conf);
	/* An included file goes by the name that the including one uses. */
	assert_true(found(&a.findings.faults, "more.conf:4: ", "server.workers"));
	snprintf(place, sizeof(place), "%s:3: ", file_path);
	assert_true(found(&a.findings.faults, place, "limits.message_rate"));
	done(&a);
	unlink(path);
}

static void
test_all_faults_at_once(void **state)
{
	struct attempt a = {
		.file_text = "server: {\n workers = 99;\n a = 1;\n log_level = \"loud\"; };\nlimits: {\n heartbeat = \"x\";\n};\n"
		    "auth: {\n service_keys = [\"a\", \"b\"];\n jwks_file = \"/nonexistent\"; };\n",
		.environment = { "BELAY_SERVER_NOTHING=1", "BELAY_LIMITS_REPLAY=many" },
		.overrides = { "ws.deflate=perhaps", "nothing", "a.b=c" }
	};

	(void)state;
	load(&a);
	assert_null(a.conf);
	if (a.findings.faults.n != 12) {
		show(&a.findings.faults);
		fail_msg("%zu faults", a.findings.faults.n);
	}
	done(&a);
}

static void
test_units(void **state)
{
	static const struct { const char *text; int64_t ms; } durations[] = {
		{ "0", 0 }, { "0s", 0 }, { "1ms", 1 }, { "500ms", 500 }, { "30s", 30000 },
		    { "5m", 300000 }, { "2h", 7200000 },
		{ "90d", 7776000000 },
	};
	static const struct { const char *text; uint64_t bytes; } sizes[] = {
		{ "0", 0 }, { "512", 512 }, { "64K", 65536 }, { "1M", 1048576 },
		    { "3G", 3221225472 },
	};
	static const char *const bad[] = { "", "s", "-1s", "1.5s", "1 s", "s1", "1S", "1sec",
	    "99999999999999999999s", "4611686018427387905d" };
	static const char *const bad_sizes[] = { "", "K", "-1", "1.5K", "1k", "1KB", "64 K",
	    "99999999999999999999", "4611686018427387905K" };
	char why[CONF_WHY_LEN], text[24];
	int64_t ms;
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
		assert_int_equal(conf_parse_duration(durations[i].text, &ms, why), 0);
		assert_int_equal(ms, durations[i].ms);
		conf_format_duration(ms, text);
		assert_int_equal(conf_parse_duration(text, &ms, why), 0);
		assert_int_equal(ms, durations[i].ms);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(conf_parse_size(sizes[i].text, &bytes, why), 0);
		assert_int_equal(bytes, sizes[i].bytes);
		conf_format_size(bytes, text);
		assert_string_equal(text, sizes[i].text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(conf_parse_duration(bad[i], &ms, why), -1);
	for (size_t i = 0; i < sizeof(bad_sizes) / sizeof(bad_sizes[0]); i++)
		assert_int_equal(conf_parse_size(bad_sizes[i], &bytes, why), -1);
}

static void
expect_origins(const char *value, size_t n, const char *const *origins)
{
	char variable[256];
	struct attempt a = { .environment = { variable } };

	snprintf(variable, sizeof(variable), "BELAY_AUTH_ORIGINS=%s", value);
	load_good(&a);
	assert_int_equal(a.conf->auth_origins.n, n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(a.conf->auth_origins.v[i], origins[i]);
	done(&a);
}

static void
test_lists(void **state)
{
	static const char *const two[] = { "https://a", "http://b:80" };
	struct attempt a = { .overrides = { "auth.origins=https://a,,https://b" } };
	struct attempt b = { .overrides = { "auth.origins=[1]" } };
	struct attempt v6 = { .overrides = { "server.listen=[::1]:3000,unix:/tmp/x" } };
	struct attempt file = { .file_text = "auth: { origins = (\"https://a\", \"http://b:80\"); user_claim = []; };" };

	(void)state;
	expect_origins("", 0, NULL);
	expect_origins("  ", 0, NULL);
	expect_origins("[]", 0, NULL);
	expect_origins("https://a", 1, two);
	expect_origins("https://a,http://b:80", 2, two);
	expect_origins(" https://a ,\thttp://b:80 ", 2, two);
	expect_origins("[\"https://a\", \"http:\\u002f/b:80\"]", 2, two);
	expect_fault(&a, 0, "auth.origins");
	expect_fault(&b, 0, "auth.origins");
	load_good(&v6);
	assert_int_equal(v6.conf->server_listen.n, 2);
	assert_string_equal(v6.conf->server_listen.v[0], "[::1]:3000");
	done(&v6);
	load_good(&file);
	assert_int_equal(file.conf->auth_origins.n, 2);
	assert_int_equal(file.conf->auth_user_claim.n, 0);
	done(&file);
}

/* --- sources */

static void
test_order_of_sources(void **state)
{
	struct attempt a = { .file_text = "limits: { message_rate = 2; message_burst = 2; replay = 2; };",
	    .environment = { "BELAY_LIMITS_MESSAGE_BURST=3", "BELAY_LIMITS_REPLAY=3" },
	    .overrides = { "limits.replay=4", "limits.json_depth=5", "limits.json_depth=6" } };

	(void)state;
	load_good(&a);
	assert_int_equal(a.conf->limits_invalid_messages, 20);
	assert_int_equal(a.conf->limits_message_rate, 2);
	assert_int_equal(a.conf->limits_message_burst, 3);
	assert_int_equal(a.conf->limits_replay, 4);
	assert_int_equal(a.conf->limits_json_depth, 6);
	done(&a);
}

static void
test_environment(void **state)
{
	struct attempt common = { .environment = { "JWT_SECRET=" SECRET, "PORT=4100", "PATH=/bin",
	    "BELAYX=1" } };
	struct attempt both = { .environment = { "BELAY_SERVER_LISTEN=127.0.0.1:1", "PORT=4100",
	    "JWT_SECRET=" SECRET,
	    "BELAY_AUTH_JWT_SECRET=" SECRET "2" } };
	struct attempt unknown = { .environment = { "BELAY_SERVER_WORKRES=2" } };
	struct attempt lower = { .environment = { "BELAY_server_workers=2" } };
	struct attempt foreign = { .environment = { "BELAY_HOME=/x", "BELAY_BENCH_RUNS=3" } };
	struct attempt port = { .environment = { "PORT=http" } };
	struct attempt alone = { .file_text = "server: { listen = [\"127.0.0.1:3000\", \"[::1]:3000\", \"unix:/tmp/x:1\"]; };",
	    .environment = { "PORT=4100" } };
	struct attempt twice = { .file_text = "server: { listen = [\"127.0.0.1:1\", \"127.0.0.1:2\"]; };",
	    .environment = { "PORT=4100" } };
	struct attempt links = { .environment = { "BELAY_SERVICE_HOST=10.0.0.1", "BELAY_SERVER_SERVICE_HOST=10.0.0.1",
	    "BELAY_SERVER_SERVICE_PORT=3000", "BELAY_SERVER_SERVICE_PORT_HTTP=3000",
	    "BELAY_SERVER_PORT=tcp://10.0.0.1:3000" } };
	struct attempt more = { .environment = { "BELAY_MQTT_PORT_1883_TCP=tcp://10.0.0.1:1883",
	    "BELAY_MQTT_PORT_1883_TCP_PROTO=tcp", "BELAY_MQTT_PORT_1883_TCP_PORT=1883",
	    "BELAY_STORE_PORT_53_UDP_ADDR=10.0.0.1", "BELAY_PORT=tcp://10.0.0.1:3000" } };
	struct attempt mistake = { .environment = { "BELAY_SERVER_PORT=3000" } };
	struct attempt empty = { .environment = { "PORT=", "JWT_SECRET=" } };
	struct attempt issuers = { .environment = { "BELAY_AUTH_ISSUERS=x" } };

	(void)state;
	load_good(&common);
	assert_string_equal(common.conf->auth_jwt_secret, SECRET);
	assert_int_equal(common.conf->server_listen.n, 1);
	assert_string_equal(common.conf->server_listen.v[0], "0.0.0.0:4100");
	assert_int_equal(common.findings.warnings.n, 0);
	done(&common);
	load_good(&both);
	assert_string_equal(both.conf->auth_jwt_secret, SECRET "2");
	assert_string_equal(both.conf->server_listen.v[0], "127.0.0.1:1");
	done(&both);
	expect_fault(&unknown, 0, "BELAY_SERVER_WORKRES: unknown option");
	expect_fault(&lower, 0, "BELAY_server_workers: unknown option");
	load_good(&foreign);
	assert_int_equal(foreign.findings.warnings.n, 2);
	assert_true(found(&foreign.findings.warnings, "environment BELAY_HOME", "not an option"));
	done(&foreign);
	expect_fault(&port, 0, "environment PORT");
	load_good(&alone);
	assert_int_equal(alone.conf->server_listen.n, 3);
	assert_string_equal(alone.conf->server_listen.v[0], "127.0.0.1:4100");
	assert_string_equal(alone.conf->server_listen.v[1], "[::1]:4100");
	assert_string_equal(alone.conf->server_listen.v[2], "unix:/tmp/x:1");
	done(&alone);
	expect_fault(&twice, 0, "two addresses would be 127.0.0.1:4100");
	load_good(&links);
	assert_int_equal(links.findings.warnings.n, 0);
	done(&links);
	load_good(&more);
	assert_int_equal(more.findings.warnings.n, 0);
	done(&more);
	expect_fault(&mistake, 0, "BELAY_SERVER_PORT: unknown option");
	load_good(&empty);
	assert_string_equal(empty.conf->server_listen.v[0], "0.0.0.0:3000");
	done(&empty);
	expect_fault(&issuers, 0, "in the file only");
}

/* libconfig reads 99999999999 as 1215752191, and says nothing. */
static void
test_large_numbers(void **state)
{
	static const char *const bad[] = { "99999999999", "2147483648", "0x1FFFFFFFF", "99999999999999999999999999" };
	struct attempt good = { .file_text = "# 99999999999\n// 99999999999\n/* 99999999999\n */ limits: { replay = 5; "
	    "message_size = 0x8000; send_buffer = 4000000L; };\nauth: { issuer = \"x\\\"99999999999\"; "
	    "jwt_secret = \"" SECRET "\"; audience = \"a99999999999\"; };" };
	struct attempt included = { .file_text = "limits: {\n@include \"numbers.inc\"\n};" };
	char text[128], path[96];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "limits: {\n message_size =\n %s; };", bad[i]);
		expect_file_fault(text, 3, bad[i]);
	}
	load_good(&good);
	assert_int_equal(good.conf->limits_message_size_bytes, 0x8000);
	assert_int_equal(good.conf->limits_send_buffer_bytes, 4000000);
	done(&good);
	snprintf(path, sizeof(path), "%.*s/numbers.inc", (int)(strrchr(file_path, '/') - file_path), file_path);
	write_file(path, "replay = 5;\nmessage_size = 4294967296;\n");
	load(&included);
	assert_int_equal(included.findings.faults.n, 1);
	assert_true(found(&included.findings.faults, path, ":2: 4294967296:"));
	done(&included);
	unlink(path);
	expect_file_fault("limits: { message_size = 99999999999L; };", 1, "99999999999\": must be from");
}

static void
put_file(const char *root, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
		*p = '\0';
		(void)mkdir(path, 0700);
	}
	write_file(path, text);
}

/* The least quota of a group and those above it, in both versions of control groups. */
static void
test_cores(void **state)
{
	char root[96];

	(void)state;
	snprintf(root, sizeof(root), "%.*s/groups", (int)(strrchr(file_path, '/') - file_path), file_path);
	(void)mkdir(root, 0700);
	assert_true(cores_usable() >= 1);
	assert_int_equal(cores_by_quota(root, SLICE("0::/\n")), 0);
	put_file(root, "a/cpu.max", "max 100000\n");
	put_file(root, "a/b/cpu.max", "250000 100000\n");
	put_file(root, "a/b/c/cpu.max", "400000 100000\n");
	assert_int_equal(cores_by_quota(root, SLICE("0::/a")), 0);
	assert_int_equal(cores_by_quota(root, SLICE("12:pids:/x\n0::/a/b/c\n")), 3);
	assert_int_equal(cores_by_quota(root, SLICE("0::/a/b/gone")), 3);
	put_file(root, "cpu.max", "50000 100000\n");
	assert_int_equal(cores_by_quota(root, SLICE("0::/a/b\n")), 1);
	put_file(root, "cpu/x/cpu.cfs_quota_us", "150000\n");
	put_file(root, "cpu/x/cpu.cfs_period_us", "100000\n");
	put_file(root, "cpu/x/y/cpu.cfs_quota_us", "-1\n");
	put_file(root, "cpu/x/y/cpu.cfs_period_us", "100000\n");
	assert_int_equal(cores_by_quota(root, SLICE("4:cpuset:/\n3:cpu,cpuacct:/x/y\n1:name=systemd:/x\n")), 2);
	assert_int_equal(cores_by_quota(root, SLICE("3:cpuacct,cpu:/x")), 2);
	assert_int_equal(cores_by_quota(root, SLICE("3:cpuset:/x\nnonsense\n:\n")), 0);
	assert_int_equal(cores_by_quota(root, SLICE("")), 0);
}

static void
test_overrides(void **state)
{
	static const char *const bad[] = { "", "=", "server", "server.workers", "workers=1", ".=",
	    "server.=1", "server.workers.x=1",
	    "Server.workers=1", "auth.issuers=x" };
	struct attempt equals = { .overrides = { "auth.audience=a=b" } };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct attempt a = { .overrides = { bad[i] } };

		expect_fault(&a, 0, "-o");
	}
	load_good(&equals);
	assert_string_equal(equals.conf->auth_audience, "a=b");
	done(&equals);
}

/* --- secrets */

static void
test_secrets(void **state)
{
	struct attempt shorter = { .file_text = "auth: {\n jwt_secret = \"only-31-bytes-0123456789-0123456\"; };" };
	struct attempt allowed = { .overrides = { "auth.jwt_secret=short" }, .short_secret = true };
	struct attempt pem = { .overrides = { "auth.jwt_secret=-----BEGIN PUBLIC KEY-----\n"
	    "xxxxxxxxxxxxxxxxxxxxxxxx" }, .short_secret = true };
	struct attempt key = { .overrides = { "auth.service_keys=name:t1:bsk_hidden-hidden" } };

	(void)state;
	shorter.file_text = "auth: {\n jwt_secret = \"hidden-hidden\"; };";
	load(&shorter);
	assert_null(shorter.conf);
	assert_true(found(&shorter.findings.faults, file_path, "at least 32 bytes"));
	assert_false(found(&shorter.findings.faults, "", "hidden"));
	done(&shorter);
	load_good(&allowed);
	done(&allowed);
	expect_fault(&pem, 0, "PEM");
	load(&key);
	assert_true(found(&key.findings.faults, "-o auth.service_keys",
	    "the key itself does not belong here"));
	assert_false(found(&key.findings.faults, "", "hidden"));
	done(&key);
}

static void
test_key_files(void **state)
{
	char path[80], text[256], other[256];
	struct attempt a = { .file_text = text }, both = { .file_text = text,
	    .environment = { "JWT_SECRET=" SECRET } };

	(void)state;
	snprintf(path, sizeof(path), "%s/secret", folder);
	snprintf(text, sizeof(text), "auth: {\n jwt_secret_file = \"%s\";\n jwks_file = \"%s\"; };",
	    path, key_path);
	write_file(path, SECRET "\n");
	load_good(&a);
	assert_string_equal(a.conf->auth_jwt_secret_file_text, SECRET);
	assert_string_equal(a.conf->auth_jwks_file_text, SECRET "-in-a-file\n");
	done(&a);
	/* The later source wins. */
	load_good(&both);
	assert_string_equal(both.conf->auth_jwt_secret, SECRET);
	assert_string_equal(both.conf->auth_jwt_secret_file, "");
	assert_string_equal(both.conf->auth_jwt_secret_file_text, "");
	done(&both);
	snprintf(other, sizeof(other),
	    "auth: {\n jwt_secret_file = \"%s\";\n jwt_secret = \"" SECRET "\"; };", path);
	expect_file_fault(other, 3, "only one of them");

	write_file(path, "");
	expect_fault(&a, 2, "the file is empty");
	write_file(path, "\n");
	expect_fault(&a, 2, "nothing but a line break");
	write_file(path, "\r\n");
	expect_fault(&a, 2, "nothing but a line break");
	write_file(path, "short\n");
	expect_fault(&a, 2, "at least 32 bytes");
	FILE *f = fopen(path, "w");
	fwrite("a\0b", 1, 3, f);
	fclose(f);
	expect_fault(&a, 2, "NUL");
	f = fopen(path, "w");
	for (int i = 0; i < (1 << 20) + 1; i++)
		fputc('x', f);
	fclose(f);
	expect_fault(&a, 2, "larger than 1 MiB");
	unlink(path);
	expect_fault(&a, 2, "No such file or directory");
	mkdir(path, 0700);
	expect_fault(&a, 2, "Is a directory");
	rmdir(path);
}

static void
test_service_keys(void **state)
{
	static const char *const bad[] = { "a", "a:b", "a:b:", ":b:" HASH, "a::" HASH,
	    "a b:t:" HASH, "a:b c:" HASH, "a:**:" HASH,
	    "a:b:" HASH "0" };
	struct attempt good = { .overrides = { "auth.service_keys=a:*:" HASH ",b:t1:" HASH ",c:t:1:" HASH } };

	(void)state;
	load_good(&good);
	assert_int_equal(good.conf->auth_service_keys.n, 3);
	done(&good);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[128];
		struct attempt a = { .overrides = { text } };

		snprintf(text, sizeof(text), "auth.service_keys=%s", bad[i]);
		expect_fault(&a, 0, "auth.service_keys");
	}
}

static void
test_issuers(void **state)
{
	struct attempt a = { .file_text =
	    "auth: { jwt_secret = \"" SECRET "\"; audience = \"flat\"; user_claim = [\"uid\"]; roles = false;\n"
	    " issuers = ( { issuer = \"one\"; },\n"
	    "  { issuer = \"two\"; jwt_secret = \"" SECRET "2\"; audience = \"own\"; tenant_claim = [\"t\"];"
	    " roles = true; tenants = [\"acme\", \"acme-*\"]; } ); };" };

	(void)state;
	load_good(&a);
	assert_int_equal(a.conf->auth_issuers_n, 2);
	assert_string_equal(a.conf->auth_issuers[0].issuer, "one");
	assert_string_equal(a.conf->auth_issuers[0].jwt_secret, SECRET);
	assert_string_equal(a.conf->auth_issuers[0].audience, "flat");
	assert_string_equal(a.conf->auth_issuers[0].user_claim.v[0], "uid");
	assert_string_equal(a.conf->auth_issuers[0].tenant_claim.v[0], "tenant_id");
	assert_string_equal(a.conf->auth_issuers[1].jwt_secret, SECRET "2");
	assert_string_equal(a.conf->auth_issuers[1].audience, "own");
	assert_string_equal(a.conf->auth_issuers[1].tenant_claim.v[0], "t");
	assert_false(a.conf->auth_issuers[0].roles);
	assert_int_equal(a.conf->auth_issuers[0].tenants.n, 0);
	assert_true(a.conf->auth_issuers[1].roles);
	assert_string_equal(a.conf->auth_issuers[1].tenants.v[1], "acme-*");
	done(&a);

	expect_file_fault("auth: { issuers = \"x\"; };", 1, "a list of blocks is wanted");
	expect_file_fault("auth: { jwt_secret = \"" SECRET "\";\n"
	    " issuers = ( { audience = \"a\"; } ); };", 2, "a block needs its issuer");
	expect_file_fault("auth: { jwt_secret = \"" SECRET "\";\n issuers = (\n { issuer = \"a\"; },\n"
	    " { issuer = \"a\"; } ); };", 4,
	    "another block");
	expect_file_fault("auth: {\n issuers = ( { issuer = \"a\"; } ); };", 2, "there is no key");
	expect_file_fault("auth: {\n issuers = ( { issuer = \"a\";\n jwt_secret = \"short\"; } ); };", 2, "at least 32 bytes");
	expect_file_fault("auth: { jwt_secret = \"" SECRET "\"; issuers = ( { issuer = \"a\";\n origins = [\"x\"]; } ); };", 2,
	    "unknown option origins");
	expect_file_fault("auth: { jwt_secret = \"" SECRET "\"; issuers = ( { issuer = \"a\";\n audience = 5; } ); };", 2,
	    "auth.audience: a string is wanted");
	expect_file_fault("auth: { jwt_secret = \"" SECRET "\"; issuers = ( { issuer = \"a\";\n tenants = [\"*-x\"]; } ); };", 2,
	    "auth.tenants: ");
}

/* --- printing and passing on */

static char *
printed(const struct conf *conf)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	conf_print(conf, f);
	fclose(f);
	return text;
}

static void
test_print(void **state)
{
	struct attempt a = { .file_text =
	    "server: { listen = [\"[::1]:3000\", \"unix:/tmp/with \\\"quotes\\\" \\\\\"]; workers = 7; };\n"
	    "limits: { heartbeat = \"90s\"; message_size = 70000; };"
	    "auth: { jwt_public_key_file = \"/dev/null\"; };" };
	struct attempt again = { .file_text = NULL };
	char *first, *second;

	(void)state;
	write_file(key_path, SECRET "-in-a-file\n");
	a.file_text = "server: { listen = [\"[::1]:3000\", \"unix:/tmp/with \\\"quotes\\\" \\\\\"]; workers = 7; };\n"
	    "limits: { heartbeat = \"90s\"; message_size = 70000; };";
	load_good(&a);
	first = printed(a.conf);
	assert_non_null(strstr(first,
	    "listen = [\"[::1]:3000\", \"unix:/tmp/with \\\"quotes\\\" \\\\\"];"));
	assert_non_null(strstr(first, "heartbeat = \"90s\";"));
	assert_non_null(strstr(first, "message_size = \"70000\";"));
	again.file_text = first;
	load_good(&again);
	second = printed(again.conf);
	assert_string_equal(first, second);
	free(second);
	free(first);
	done(&again);
	done(&a);
}

static void
test_print_hides(void **state)
{
	struct attempt a = { .file_text =
	    "auth: { jwt_secret = \"hidden-hidden-hidden-hidden-hidden\"; service_keys = [\"a:b:" HASH "\"];\n"
	    " issuers = ( { issuer = \"i\"; jwt_secret = \"hidden-hidden-hidden-hidden-2\"; } );\n"
	    " jwks_proxy = \"http://user:hid:den@/x@host:3306/?socket=/x\"; };",
	    .short_secret = true };
	char *text;

	(void)state;
	load_good(&a);
	text = printed(a.conf);
	assert_null(strstr(text, "hid"));
	assert_null(strstr(text, "ba7816"));
	assert_non_null(strstr(text, "jwt_secret = \"***\";"));
	assert_non_null(strstr(text, "service_keys = [\"***\"];"));
	assert_non_null(strstr(text, "jwks_proxy = \"http://user:***@host:3306/?socket=/x\";"));
	free(text);
	done(&a);
}

static void
expect_same(const struct conf *x, const struct conf *y)
{
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++)
		assert_true(conf_value_equal(x, y, &conf_options[i]));
	assert_string_equal(x->auth_jwks_file_text, y->auth_jwks_file_text);
	assert_int_equal(x->insecure_short_secret, y->insecure_short_secret);
	assert_int_equal(x->auth_issuers_n, y->auth_issuers_n);
	for (size_t i = 0; i < x->auth_issuers_n; i++)
		for (size_t j = 0; j < CONF_ISSUER_OPTION_COUNT; j++)
			assert_true(conf_value_equal(&x->auth_issuers[i], &y->auth_issuers[i],
			    &conf_issuer_options[j]));
}

static void
test_pack(void **state)
{
	char text[512];
	struct attempt a = { .file_text = text, .short_secret = true };
	struct buf b = BUF_INIT;
	struct conf *back;

	(void)state;
	snprintf(text, sizeof(text),
	    "auth: { jwt_secret = \"s\"; jwks_file = \"%s\"; origins = [\"https://a\"];"
	    " issuers = ( { issuer = \"i\"; }, { issuer = \"j\"; } ); }; server: { workers = 5; echo = true; };", key_path);
	load_good(&a);
	conf_pack(a.conf, &b);
	back = conf_unpack(buf_slice(&b));
	assert_non_null(back);
	expect_same(a.conf, back);
	conf_free(&back);
	/* Cut anywhere, or with something behind it, it is nothing. */
	for (size_t len = 0; len < b.len; len++) {
		char *copy = must_strndup(b.data, len);

		assert_null(conf_unpack(slice_bytes(copy, len)));
		free(copy);
	}
	buf_putc(&b, 'x');
	assert_null(conf_unpack(buf_slice(&b)));
	buf_fini(&b);
	done(&a);
}

static void
test_share(void **state)
{
	struct attempt a = { .overrides = { "server.workers=3" } },
	    b = { .overrides = { "auth.audience=shorter", "server.workers=4" } };
	int fd = conf_share_open();
	struct conf *back;
	off_t before;

	(void)state;
	assert_true(fd != -1);
	assert_null(conf_share_read(fd));
	load_good(&a);
	load_good(&b);
	for (int i = 0; i < 3; i++) {
		const struct conf *conf = i % 2 == 0 ? b.conf : a.conf;

		assert_int_equal(conf_share_write(fd, conf), 0);
		back = conf_share_read(fd);
		assert_non_null(back);
		expect_same(conf, back);
		conf_free(&back);
	}
	/* Shorter settings leave nothing behind them of the longer ones. */
	assert_int_equal(conf_share_write(fd, b.conf), 0);
	before = lseek(fd, 0, SEEK_END);
	assert_int_equal(conf_share_write(fd, a.conf), 0);
	assert_true(lseek(fd, 0, SEEK_END) < before);
	/* Half of a write: the master died. */
	assert_int_equal(pwrite(fd, "xxxx", 4, 100), 4);
	assert_null(conf_share_read(fd));
	assert_int_equal(ftruncate(fd, 20), 0);
	assert_null(conf_share_read(fd));
	close(fd);
	done(&a);
	done(&b);
}

static void
test_keep_fixed(void **state)
{
	struct attempt old = { .overrides = { "server.workers=3", "limits.heartbeat=10s",
	    "server.listen=a:1,b:2" } };
	struct attempt fresh = { .overrides = { "server.workers=4", "limits.heartbeat=20s",
	    "server.listen=a:1", "store.url=memory:" } };
	struct conf_list kept = { NULL, 0 };

	(void)state;
	load_good(&old);
	load_good(&fresh);
	conf_keep_fixed(fresh.conf, old.conf, &kept);
	assert_int_equal(kept.n, 3);
	assert_true(found(&kept, "server.listen", ""));
	assert_true(found(&kept, "server.workers", ""));
	assert_true(found(&kept, "store.url", ""));
	assert_int_equal(fresh.conf->server_workers, 3);
	assert_int_equal(fresh.conf->server_listen.n, 2);
	assert_int_equal(fresh.conf->limits_heartbeat_ms, 20000);
	conf_list_fini(&kept);
	done(&old);
	done(&fresh);
}

static void
test_filled_in(void **state)
{
	struct attempt a = { .overrides = { "server.run_dir=/srv/x", "memory.mailbox=65537" } };
	struct attempt b = { .overrides = { "server.run_dir=/srv/x", "server.pidfile=/srv/y",
	    "server.instance=i" } };

	(void)state;
	load_good(&a);
	assert_string_equal(a.conf->server_pidfile, "/srv/x/belayd.pid");
	assert_true(strlen(a.conf->server_instance) > 0);
	assert_int_equal(a.conf->memory_mailbox_bytes, 131072);
	done(&a);
	load_good(&b);
	assert_string_equal(b.conf->server_pidfile, "/srv/y");
	assert_string_equal(b.conf->server_instance, "i");
	done(&b);
}

static int
set_up(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(file_path, sizeof(file_path), "%s/belayd.conf", folder);
	snprintf(key_path, sizeof(key_path), "%s/key", folder);
	write_file(key_path, SECRET "-in-a-file\n");
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	unlink(file_path);
	unlink(key_path);
	return rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_option), cmocka_unit_test(test_each_option_bad),
		    cmocka_unit_test(test_each_range),
		cmocka_unit_test(test_types), cmocka_unit_test(test_syntax),
		    cmocka_unit_test(test_include),
		cmocka_unit_test(test_all_faults_at_once), cmocka_unit_test(test_units),
		    cmocka_unit_test(test_lists),
		cmocka_unit_test(test_order_of_sources), cmocka_unit_test(test_environment),
		    cmocka_unit_test(test_large_numbers), cmocka_unit_test(test_cores),
		cmocka_unit_test(test_overrides),
		cmocka_unit_test(test_secrets), cmocka_unit_test(test_key_files),
		    cmocka_unit_test(test_service_keys),
		cmocka_unit_test(test_issuers), cmocka_unit_test(test_print),
		    cmocka_unit_test(test_print_hides),
		cmocka_unit_test(test_pack), cmocka_unit_test(test_share),
		    cmocka_unit_test(test_keep_fixed),
		cmocka_unit_test(test_filled_in),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
