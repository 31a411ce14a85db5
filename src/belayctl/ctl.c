/*
 * ctl.c: the common half of belayctl's commands.  Tokens and secrets are kept
 * out of what is printed and out of the arguments of any process.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth/mint.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/must.h"
#include "belayctl/ctl.h"
#include "http/uri.h"

extern char **environ;

/* What a terminal would obey: controls, of which UTF-8 has some of two bytes (C1).  Its length, or 0. */
static size_t
control_len(const char *p)
{
	unsigned char c = (unsigned char)p[0];

	if (c == 0xc2 && (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] < 0xa0)
		return 2;
	return c < ' ' || c == 0x7f;
}

const char *
ctl_clean(const char *text, char *out, size_t size)
{
	size_t n = 0, skip;

	for (; *text != '\0' && n + 1 < size; text += skip > 0 ? skip : 1) {
		skip = control_len(text);
		out[n++] = skip > 0 ? '?' : *text;
	}
	out[n] = '\0';
	return out;
}

static void
complain(const char *fmt, va_list ap)
{
	char text[1024], shown[1024];

	fflush(stdout);
	vsnprintf(text, sizeof(text), fmt, ap);
	fprintf(stderr, "belayctl: %s\n", ctl_clean(text, shown, sizeof(shown)));
}

void
ctl_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(fmt, ap);
	va_end(ap);
}

void
ctl_die(enum ctl_status status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(fmt, ap);
	va_end(ap);
	/* At once: what the callers own is not given back, and no leak checker needs to hear of it. */
	_exit(status);
}

int64_t
ctl_duration(const char *text)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = {
		{ "", 1 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "min", 60000 }, { "h", 3600000 },
		{ "d", 86400000 }
	};
	char *end;
	double v;

	if (*text < '0' || *text > '9')
		return -1;
	v = strtod(text, &end);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(end, units[i].unit) == 0 && v * units[i].ms < 1e14)
			return (int64_t)(v * units[i].ms);
	return -1;
}

static void
opt_set(const struct ctl_opt *o, const char *text)
{
	struct ctl_texts *texts;
	char *end = NULL;
	unsigned long n;

	switch (o->kind) {
	case CTL_TEXT:
		*(const char **)o->value = text;
		return;
	case CTL_TEXTS:
		texts = o->value;
		if (texts->n == sizeof(texts->v) / sizeof(texts->v[0]))
			ctl_die(CTL_USAGE, "--%s was given too often", o->name);
		texts->v[texts->n++] = text;
		return;
	case CTL_MS:
		*(int64_t *)o->value = ctl_duration(text);
		if (*(int64_t *)o->value < 0)
			ctl_die(CTL_USAGE, "--%s wants a duration such as 500ms, 30s or 1h", o->name);
		return;
	case CTL_REAL:
		*(double *)o->value = strtod(text, &end);
		if (end == text || *end != '\0' || !(*(double *)o->value >= 0))
			ctl_die(CTL_USAGE, "--%s wants a number", o->name);
		return;
	default:
		n = strtoul(text, &end, 10);
		if (*text < '0' || *text > '9' || *end != '\0' || n > 10000000)
			ctl_die(CTL_USAGE, "--%s wants a whole number", o->name);
		*(unsigned *)o->value = (unsigned)n;
	}
}

static const struct ctl_opt *
opt_find(const struct ctl_opt *opts, const char *name, size_t len)
{
	for (; opts->name != NULL; opts++)
		if (strlen(opts->name) == len && memcmp(opts->name, name, len) == 0)
			return opts;
	return NULL;
}

_Noreturn void
ctl_help(const char *command, const struct ctl_opt *opts)
{
	size_t len = strcspn(command, " ");

#define COMMAND(name, synopsis, help) \
	if (len == strlen(#name) && memcmp(command, #name, len) == 0) \
		printf("belayctl %s\n    %s\n", synopsis, help);
#include "belayctl/commands.def"
#undef COMMAND
	for (; opts != NULL && opts->name != NULL; opts++)
		printf("  --%-14s %s\n", opts->name, opts->help);
	exit(CTL_OK);
}

/* Names the option and not its value, which may be a secret. */
_Noreturn static void
opt_unknown(const char *command, const char *arg)
{
	int shown = arg[1] == '-' ? (int)strcspn(arg, "=") : 2;

	if (arg[1] != '-' && strchr("cutkUTK", arg[1]) != NULL)
		ctl_die(CTL_USAGE, "%s: %.*s stands before the command: belayctl %.*s... %s", command, shown, arg,
		    shown, arg, command);
	ctl_die(CTL_USAGE, "%s: unknown option %.*s (belayctl %s --help lists them)", command, shown, arg, command);
}

int
ctl_opts(int argc, char **argv, const struct ctl_opt *opts, const char **args, int max)
{
	bool options = true;
	int n = 0;

	for (int i = 1; i < argc; i++) {
		const struct ctl_opt *o;
		const char *name, *equals, *text;

		if (!options || argv[i][0] != '-' || argv[i][1] == '\0') {
			if (n == max)
				ctl_die(CTL_USAGE, "%s: one argument too many: %s", argv[0], argv[i]);
			args[n++] = argv[i];
			continue;
		}
		if (strcmp(argv[i], "--") == 0) {
			options = false;
			continue;
		}
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			ctl_help(argv[0], opts);
		name = argv[i] + 2;
		equals = strchr(name, '=');
		o = argv[i][1] == '-' ? opt_find(opts, name,
		    equals != NULL ? (size_t)(equals - name) : strlen(name)) : NULL;
		if (o == NULL)
			opt_unknown(argv[0], argv[i]);
		if (o->kind == CTL_FLAG) {
			if (equals != NULL)
				ctl_die(CTL_USAGE, "--%s takes no value", o->name);
			*(bool *)o->value = true;
			continue;
		}
		text = equals != NULL ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
		if (text == NULL)
			ctl_die(CTL_USAGE, "--%s wants a value", o->name);
		opt_set(o, text);
	}
	return n;
}

void
ctl_hide(char *arg)
{
	memset(arg, '*', strlen(arg));
}

char *
ctl_secret(const char *option, const char *text)
{
	char line[16384], *out;
	FILE *f;

	if (text[0] == '@') {
		if ((f = fopen(text + 1, "r")) == NULL)
			ctl_die(CTL_USAGE, "%s: %s: %s", option, text + 1, strerror(errno));
		if (fgets(line, sizeof(line), f) == NULL)
			line[0] = '\0';
		fclose(f);
		line[strcspn(line, "\r\n")] = '\0';
		text = line;
	}
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			ctl_die(CTL_USAGE, "%s: the token holds a space or another character that no token has",
			    option);
	if (*text == '\0')
		ctl_die(CTL_USAGE, "%s: the token is empty", option);
	out = must_strndup(text, strlen(text));
	explicit_bzero(line, sizeof(line));
	return out;
}

/* belayctl's own variables are no settings of belayd. */
static char **
conf_environment(void)
{
	static const char *const own[] = { "BELAY_TOKEN=", "BELAY_URL=", "BELAY_DEVICE_TOKEN=" };
	size_t n = 0, k = 0;
	char **out;

	while (environ[n] != NULL)
		n++;
	out = must_alloc((n + 1) * sizeof(*out));
	for (size_t i = 0; i < n; i++) {
		bool mine = false;

		for (size_t j = 0; j < sizeof(own) / sizeof(own[0]); j++)
			mine |= strncmp(environ[i], own[j], strlen(own[j])) == 0;
		if (!mine)
			out[k++] = environ[i];
	}
	return out;
}

static void
load_conf(struct ctl *ctl, bool complain)
{
	struct conf_findings findings = { .faults = { NULL, 0 } };
	struct conf_sources sources = {
		.file = ctl->conf_file != NULL ? ctl->conf_file : BELAY_CONF_FILE,
		.file_required = ctl->conf_file != NULL,
		.insecure_short_secret = true, .exposed_secret = true	/* these are for belayd to judge */
	};
	char **environment;

	if (ctl->conf != NULL)
		return;
	environment = conf_environment();
	sources.environment = environment;
	ctl->conf = conf_load(&sources, &findings);
	free(environment);
	for (size_t i = 0; complain && i < findings.faults.n; i++)
		ctl_warn("%s", findings.faults.v[i]);
	conf_findings_fini(&findings);
}

const struct conf *
ctl_conf_if_any(struct ctl *ctl)
{
	load_conf(ctl, false);
	return ctl->conf;
}

const struct conf *
ctl_conf(struct ctl *ctl)
{
	load_conf(ctl, true);
	if (ctl->conf == NULL)
		ctl_die(CTL_USAGE, "the settings cannot be used (%s; -c names another file)%s",
		    ctl->conf_file != NULL ? ctl->conf_file : BELAY_CONF_FILE,
		    ctl->local ? "" : "; with -u URL and -t TOKEN they are not needed");
	return ctl->conf;
}

/* The first path that is a plain name: what a token can be made with. */
static const char *
plain_claim(const struct conf_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (strchr(list->v[i], '.') == NULL)
			return list->v[i];
	return NULL;
}

static const char *
set_or_null(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

bool
ctl_issuer(struct ctl *ctl, struct ctl_issuer *out)
{
	const struct conf *conf = ctl_conf(ctl);

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < conf->auth_issuers_n; i++) {
		const struct conf_issuer *b = &conf->auth_issuers[i];
		const char *secret = b->jwt_secret[0] != '\0' ? b->jwt_secret : b->jwt_secret_file_text;

		if (secret[0] == '\0')
			continue;
		*out = (struct ctl_issuer){
			.secret = slice_of(secret), .issuer = b->issuer, .audience = set_or_null(b->audience),
			.azp = b->azp.n != 0 ? b->azp.v[0] : NULL, .user_claim = plain_claim(&b->user_claim),
			.tenant_claim = plain_claim(&b->tenant_claim), .role_claim = plain_claim(&b->role_claim)
		};
		return true;
	}
	*out = (struct ctl_issuer){
		.secret = slice_of(conf->auth_jwt_secret[0] != '\0' ? conf->auth_jwt_secret :
		    conf->auth_jwt_secret_file_text),
		.issuer = set_or_null(conf->auth_issuer), .audience = set_or_null(conf->auth_audience),
		.azp = conf->auth_azp.n != 0 ? conf->auth_azp.v[0] : NULL,
		.user_claim = plain_claim(&conf->auth_user_claim),
		.tenant_claim = plain_claim(&conf->auth_tenant_claim),
		.role_claim = plain_claim(&conf->auth_role_claim)
	};
	/* With blocks alone a token without one of their issuers would be refused. */
	return out->secret.len != 0 && conf->auth_issuers_n == 0;
}

char *
ctl_mint(struct ctl *ctl, const char *user, const char *tenant, const char *role, int64_t ttl_s)
{
	struct mint_request request;
	struct ctl_issuer by;
	char err[160] = "", *token;

	if (!ctl_issuer(ctl, &by))
		ctl_die(CTL_USAGE, ctl->local ? "the settings have no auth.jwt_secret and no auth.jwt_secret_file to "
		    "make a token with" : "no token was given (-t, -k or BELAY_TOKEN), and the settings have no "
		    "auth.jwt_secret to make one with");
	if (tenant == NULL)
		tenant = set_or_null(ctl_conf(ctl)->auth_default_tenant);
	request = (struct mint_request){
		.secret = by.secret, .user = user, .tenant = tenant, .role = role,
		.user_claim = by.user_claim, .tenant_claim = by.tenant_claim, .role_claim = by.role_claim,
		.issuer = by.issuer, .audience = by.audience, .azp = by.azp,
		.now_ms = clock_now_ms(), .ttl_s = ttl_s
	};
	token = mint_token(&request, err, sizeof(err));
	if (token == NULL)
		ctl_die(CTL_USAGE, "no token could be made: %s", err);
	return token;
}

const char *
ctl_token(struct ctl *ctl)
{
	int64_t now = clock_now_ms();

	if (ctl->token != NULL)
		return ctl->token;
	if (ctl->minted == NULL || now > ctl->minted_until_ms - 300000) {
		free(ctl->minted);
		ctl->minted = ctl_mint(ctl, ctl->user, ctl->tenant, "admin", 3600);
		ctl->minted_until_ms = now + 3600000;
	}
	return ctl->minted;
}

/* The first listener that has a port, as an address to connect to. */
static bool
base_of_list(const struct conf_list *list, const char *scheme, struct url *out)
{
	for (size_t i = 0; i < list->n; i++) {
		const char *at = list->v[i], *colon = strrchr(at, ':');
		char text[300];

		if (strncmp(at, "unix:", 5) == 0 || colon == NULL)
			continue;
		if (strncmp(at, "0.0.0.0:", 8) == 0 || colon == at || strncmp(at, "*:", 2) == 0)
			snprintf(text, sizeof(text), "%s127.0.0.1%s", scheme, colon);
		else if (strncmp(at, "[::]:", 5) == 0)
			snprintf(text, sizeof(text), "%s[::1]%s", scheme, colon);
		else
			snprintf(text, sizeof(text), "%s%s", scheme, at);
		if (url_parse(text, out) == NULL)
			return true;
	}
	return false;
}

static void
base_of_conf(struct ctl *ctl, struct url *out)
{
	const struct conf *conf = ctl_conf(ctl);

	if (!base_of_list(&conf->server_listen, "http://", out) &&
	    !base_of_list(&conf->server_tls_listen, "https://", out))
		ctl_die(CTL_USAGE, "the settings name no address with a port to connect to: pass -u URL");
}

const struct url *
ctl_base(struct ctl *ctl)
{
	const char *text = ctl->url_text != NULL ? ctl->url_text : getenv("BELAY_URL"), *why;
	size_t len;

	if (ctl->based)
		return &ctl->base;
	if (text != NULL && text[0] != '\0') {
		why = url_parse(text, &ctl->base);
		if (why != NULL)
			ctl_die(CTL_USAGE, "%s: the URL is of no use: %s", ctl->url_text != NULL ? "-u" : "BELAY_URL",
			    why);
	} else {
		base_of_conf(ctl, &ctl->base);
	}
	/* What is left is a prefix: "http://host/belay/ws?x" stands for "http://host/belay". */
	ctl->base.target[strcspn(ctl->base.target, "?")] = '\0';
	len = strlen(ctl->base.target);
	if (len >= 3 && strcmp(ctl->base.target + len - 3, "/ws") == 0)
		ctl->base.target[len -= 3] = '\0';
	while (len != 0 && ctl->base.target[len - 1] == '/')
		ctl->base.target[--len] = '\0';
	ctl->based = true;
	return &ctl->base;
}

void
ctl_url(struct ctl *ctl, const char *path, struct url *out)
{
	const struct url *base = ctl_base(ctl);
	size_t len = strlen(base->target);

	*out = *base;
	if (len + strlen(path) >= sizeof(out->target))
		ctl_die(CTL_USAGE, "the request is too long");
	memcpy(out->target + len, path, strlen(path) + 1);
}

void
ctl_query(struct buf *path, const char *name, const char *value)
{
	bool first = memchr(path->data, '?', path->len) == NULL;

	buf_printf(path, "%c%s=", first ? '?' : '&', name);
	uri_encode(path, slice_of(value));
}

int
ctl_rest(struct ctl *ctl, const char *method, const char *path, json_t *body, int64_t timeout_ms,
    json_t **answer)
{
	struct web_request r = { .method = method, .timeout_ms = timeout_ms, .token = ctl_token(ctl) };
	struct web_answer a;
	const char *why;
	struct url url;
	char *text = NULL;
	int status;

	ctl_url(ctl, path, &url);
	if (!ctl->webbed && web_open(&ctl->web, &url, &ctl->tls, &why) == -1)
		ctl_die(CTL_UNREACHABLE, "%s: %s", url.host, why);
	ctl->webbed = true;
	if (body != NULL) {
		text = json_dumps(body, JSON_COMPACT);
		must(text != NULL);
		json_decref(body);
	}
	r.target = url.target;
	r.body = text;
	for (int attempt = 0;; attempt++) {
		if (web_send(&ctl->web, &r, &a) == -1)
			ctl_die(CTL_UNREACHABLE, "%s://%s: %s%s", url.tls ? "https" : "http", url.authority, a.why,
			    a.fault == LINE_CONNECT ? " (is belayd running there?)" : "");
		if (a.status != 429 || attempt == 10)
			break;
		/* Too many at a time, as when many devices are registered: as fast as the server wants it. */
		sleep(a.retry_after_s < 1 ? 1 : a.retry_after_s > 60 ? 60 : a.retry_after_s);
		web_answer_fini(&a);
	}
	free(text);
	*answer = a.body.len != 0 ? json_loadb(a.body.data, a.body.len, JSON_DECODE_ANY, NULL) : NULL;
	status = a.status;
	web_answer_fini(&a);
	return status;
}

json_t *
ctl_get(json_t *object, const char *path)
{
	char name[64];
	size_t len;

	while (object != NULL && *path != '\0') {
		len = strcspn(path, ".");
		must(len < sizeof(name));
		memcpy(name, path, len);
		name[len] = '\0';
		object = json_object_get(object, name);
		path += len + (path[len] == '.');
	}
	return object;
}

const char *
ctl_text(json_t *object, const char *path)
{
	const char *text = json_string_value(ctl_get(object, path));

	return text != NULL ? text : "";
}

enum ctl_status
ctl_refused(int status, json_t *answer)
{
	const char *code = ctl_text(answer, "error.code"), *message = ctl_text(answer, "error.message");
	const char *field = ctl_text(answer, "error.field");

	if (*field == '\0')
		field = ctl_text(answer, "field");
	if (*code != '\0')
		ctl_warn("refused with %d %s: %s%s%s%s", status, code, field, *field != '\0' ? ": " : "", message,
		    status == 401 ? " (belayctl probe says more)" : "");
	else
		ctl_warn("the server answered with HTTP status %d", status);
	if (strcmp(code, "device_offline") == 0)
		return CTL_NOT_SENT;
	return status == 401 ? CTL_REFUSED : CTL_FAILED;
}

void
ctl_put_json(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i], next = i + 1 < text.len ? (unsigned char)text.p[i + 1] : 0;

		if (c == 0x7f)
			fputs("\\u007f", stdout);
		else if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			printf("\\u%04x", next);
			i++;
		} else
			putchar(c);
	}
}

void
ctl_print(json_t *value, size_t flags)
{
	char *text = json_dumps(value, flags);

	must(text != NULL);
	ctl_put_json(slice_of(text));
	free(text);
	putchar('\n');
}
