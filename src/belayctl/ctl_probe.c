/*
 * ctl_probe.c: belayctl probe: why does a connection fail?  It goes the way of
 * a client step by step, tells each step's result in a sentence, and at the
 * first that fails what to do.
 *
 * A server tells a client little about a bad token, on purpose; what can be
 * known of it is found here, from its text and, where it was given, the secret.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/device_token.h"
#include "auth/explain.h"
#include "auth/verify.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/must.h"
#include "belayctl/ctl.h"

#define PROBE_WAIT_MS 5000
#define PROBE_SKEW_MS 5000
#define PROBE_TOKEN_S 60

struct probe {
	struct ctl *ctl;
	struct url url;
	struct line_addresses addresses;
	const char *token;		/* what the server is shown; NULL: none */
	bool token_in_url, sendable;
	bool checked;			/* the token's signature, against a secret given here */
	bool made;			/* the token was made here, with the secret of the settings */
	bool belayd;			/* is it that answers */
	const char *device, *origin, *secret_file;
	const struct conf *conf;	/* NULL: the server's settings are not known here */
	uint64_t faults;		/* of the token, as explain_token() has them */
	int64_t skew_ms;
	char *owned;			/* token; owned */
	struct buf decoded;		/* token of the URL, decoded; owned */
};

static void
say_ok(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void
say_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void
say_hint(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define SAY(label) do { \
	va_list ap; \
	va_start(ap, fmt); \
	fputs(label, stdout); \
	vprintf(fmt, ap); \
	putchar('\n'); \
	va_end(ap); \
} while (0)

static void
say_ok(const char *fmt, ...)
{
	SAY("ok    ");
}

static void
say_fail(const char *fmt, ...)
{
	SAY("FAIL  ");
}

static void
say_hint(const char *fmt, ...)
{
	SAY("      ");
}

static int
probe_resolve(struct probe *p)
{
	const char *why;
	char text[INET6_ADDRSTRLEN] = "";

	if (line_resolve(&p->url, &p->addresses, &why) == -1) {
		say_fail("the name %s does not resolve: %s", p->url.host, why);
		say_hint("Check its spelling, and the DNS or /etc/hosts of this machine.");
		return CTL_UNREACHABLE;
	}
	getnameinfo((struct sockaddr *)&p->addresses.at[0].sa, p->addresses.at[0].len, text,
	    sizeof(text), NULL, 0, NI_NUMERICHOST);
	if (strcmp(text, p->url.host) != 0)
		say_ok("%s resolves to %s%s", p->url.host, text, p->addresses.n > 1 ? " and more" : "");
	return CTL_OK;
}

static void
say_connect_hint(int err, const struct url *u)
{
	switch (err) {
	case ECONNREFUSED:
		say_hint("Nothing listens on port %u there: belayd is not running, or listens elsewhere "
		    "(server.listen).", u->port);
		break;
	case EHOSTUNREACH:
	case ENETUNREACH:
		say_hint("There is no way to that machine from here: network, routing or firewall.");
		break;
	default:
		say_hint("A firewall may drop what is sent there, or the address is not the server's.");
	}
}

/* TCP, then TLS where the URL asks for it. */
static int
probe_line(struct probe *p)
{
	int64_t until = clock_mono_ms() + PROBE_WAIT_MS;
	struct line l;
	int rc;

	line_open(&l, &p->url, &p->addresses, &p->ctl->tls);
	while ((rc = line_step(&l)) == 0 && line_wait(&l, until))
		;
	if (rc == 1) {
		say_ok("port %u is open%s", p->url.port, p->url.tls ? ", and TLS is spoken there" : "");
		if (!p->url.tls && strcmp(p->url.host, "localhost") != 0 && strncmp(p->url.host, "127.", 4) != 0 &&
		    strcmp(p->url.host, "::1") != 0)
			say_hint("Note: without TLS (wss) the token can be read on the way.");
		line_close(&l);
		return CTL_OK;
	}
	if (!l.tcp) {
		say_fail("no connection to %s port %u: %s", p->url.host, p->url.port,
		    l.fault != LINE_OK ? l.why : "no answer");
		say_connect_hint(l.error, &p->url);
	} else {
		say_fail("port %u is open, but TLS fails: %s", p->url.port,
		    l.fault != LINE_OK ? l.why : "no answer");
		if (strncmp(l.why, "certificate", 11) == 0)
			say_hint("The certificate is not trusted here: name, date or issuer (-K looks past it).");
		else
			say_hint("There may be no TLS on this port: try ws:// in place of wss:// (belayd itself "
			    "speaks it only on server.tls_listen; mostly a proxy before it does).");
	}
	line_close(&l);
	return CTL_UNREACHABLE;
}

/* The same server's address of another path: "/belay/ws?x" says that all paths are below "/belay". */
static void
probe_target(const struct probe *p, const char *path, char out[sizeof(p->url.target) + 16])
{
	size_t len = strcspn(p->url.target, "?");

	len = len >= 3 && memcmp(p->url.target + len - 3, "/ws", 3) == 0 ? len - 3 : 0;
	snprintf(out, sizeof(p->url.target) + 16, "%.*s%s", (int)len, p->url.target, path);
}

/* A plain request: what is it that answers, and what time has it? */
static int
probe_http(struct probe *p)
{
	char target[sizeof(p->url.target) + 16];
	struct web_request r = { .method = "GET", .timeout_ms = PROBE_WAIT_MS, .target = target };
	struct web_answer a;
	struct web web;
	const char *why;
	json_t *body;
	int status = CTL_OK;

	probe_target(p, "/health", target);
	if (web_open(&web, &p->url, &p->ctl->tls, &why) == -1)
		return CTL_UNREACHABLE;
	if (web_send(&web, &r, &a) == -1) {
		say_fail("no HTTP answer: %s", a.why);
		say_hint(p->url.tls ? "Something else than a web server listens there." :
		    "Something else than a web server listens there; if it is TLS, use wss:// in place of ws://.");
		status = CTL_UNREACHABLE;
	} else {
		body = json_loadb(a.body.data != NULL ? a.body.data : "", a.body.len, 0, NULL);
		p->belayd = a.status == 200 && *ctl_text(body, "version") != '\0';
		if (p->belayd)
			say_ok("belayd %s answers", ctl_text(body, "version"));
		else
			say_ok("an HTTP server answers (GET /health: %d); whether it is belayd is not certain",
			    a.status);
		json_decref(body);
		if (a.status == 400 && !p->url.tls && a.body.len != 0 &&
		    memmem(a.body.data, a.body.len, "HTTPS", 5) != NULL)
			say_hint("Its answer speaks of HTTPS: use wss:// in place of ws://.");
		if (a.date_ms != 0)
			p->skew_ms = a.date_ms - clock_now_ms();
		if (p->skew_ms > PROBE_SKEW_MS || p->skew_ms < -PROBE_SKEW_MS) {
			say_fail("the server's clock is %lld s %s this machine's",
			    llabs(p->skew_ms) / 1000, p->skew_ms > 0 ? "ahead of" : "behind");
			say_hint("Tokens then expire too early or are not valid yet: set both clocks (NTP).");
		}
	}
	web_answer_fini(&a);
	web_close(&web);
	return status;
}

/* Does it take clients, and its store writes?  It says itself why not. */
static int
probe_ready(struct probe *p)
{
	char target[sizeof(p->url.target) + 16], text[600];
	struct web_request r = { .method = "GET", .timeout_ms = PROBE_WAIT_MS, .target = target };
	struct web_answer a;
	struct web web;
	const char *why;
	json_t *body;
	int status = CTL_FAILED;

	if (web_open(&web, &p->url, &p->ctl->tls, &why) == -1)
		return CTL_OK;		/* told by others */
	probe_target(p, "/health/ready", target);
	if (web_send(&web, &r, &a) == -1)
		a.status = 0;
	body = json_loadb(a.body.data != NULL ? a.body.data : "", a.body.len, 0, NULL);
	if (a.status == 503) {
		why = ctl_text(body, "error.message");
		say_fail("the server is not ready: %s", *why != '\0' ? ctl_clean(why, text, sizeof(text)) :
		    "it does not say why");
		say_hint("Some are refused until that is put right; what was answered unavailable did not happen.");
	} else if (a.status == 200 && strcmp(ctl_text(body, "status"), "ready") == 0) {
		say_ok("it is ready: it takes clients, and its store answers");
		status = CTL_OK;
	} else if (a.status != 0 && !p->belayd) {
		status = CTL_OK;		/* not its business */
	} else if (a.status != 0) {
		say_fail("whether it is ready is not certain (GET %s: %d)", target, a.status);
	} else {
		say_fail("it does not say whether it is ready: %s", a.why);
		say_hint("Its store may be busy or hang: /health, which needs no store, was answered.");
	}
	json_decref(body);
	web_answer_fini(&a);
	web_close(&web);
	return status;
}

static void
issuer_of_conf(const struct conf *conf, struct auth_config *out)
{
	*out = (struct auth_config){
		.flat = {
			.issuer = conf->auth_issuer, .audience = conf->auth_audience,
			.azp = { (const char *const *)conf->auth_azp.v, conf->auth_azp.n },
			.user_claim = { (const char *const *)conf->auth_user_claim.v, conf->auth_user_claim.n },
			.tenant_claim = { (const char *const *)conf->auth_tenant_claim.v, conf->auth_tenant_claim.n },
			.role_claim = { (const char *const *)conf->auth_role_claim.v, conf->auth_role_claim.n },
			.tenants = { (const char *const *)conf->auth_tenants.v, conf->auth_tenants.n },
			.no_roles = !conf->auth_roles
		},
		.default_tenant = conf->auth_default_tenant
	};
}

static char *
read_secret_file(const char *path, size_t *len)
{
	char *text = must_alloc(65536);
	FILE *f = fopen(path, "r");

	if (f == NULL)
		ctl_die(CTL_USAGE, "--secret-file: %s: %s", path, strerror(errno));
	*len = fread(text, 1, 65536, f);
	fclose(f);
	/* As belayd reads it. */
	if (*len != 0 && text[*len - 1] == '\n')
		--*len;
	if (*len != 0 && text[*len - 1] == '\r')
		--*len;
	return text;
}

/* What can be said of the token without the server. */
static void
probe_token(struct probe *p)
{
	struct auth_config config, *with = NULL;
	struct slice secret = SLICE_NONE;
	struct ctl_issuer issuer;
	struct buf words = BUF_INIT;
	char *text = NULL;
	size_t len;

	if (p->token == NULL) {
		say_fail("no token was given");
		say_hint("Pass one: --token, BELAY_TOKEN, or ?token= in the URL; or settings with a shared secret to "
		    "make one with (-c).");
		p->faults |= UINT64_C(1) << EXPLAIN_MISSING;
		return;
	}
	if (p->secret_file != NULL) {
		text = read_secret_file(p->secret_file, &len);
		secret = slice_bytes(text, len);
	} else if (p->conf != NULL && ctl_issuer(p->ctl, &issuer)) {
		secret = issuer.secret;
	}
	/* Blocks of issuers are chosen by the server; here the flat options are all that is looked at. */
	if (p->conf != NULL && p->conf->auth_issuers_n == 0) {
		issuer_of_conf(p->conf, &config);
		with = &config;
	}
	p->checked = secret.len != 0;
	p->faults = explain_token(slice_of(p->token), secret, with, clock_now_ms() + p->skew_ms, &words);
	if (p->faults == 0)
		say_ok("the token is well-formed%s", secret.len != 0 ? " and fits" : "");
	else
		say_fail("the token has a fault:");
	for (char *line = words.data, *end; line != NULL && line < words.data + words.len; line = end + 1) {
		end = memchr(line, '\n', (size_t)(words.data + words.len - line));
		if (end == NULL)
			break;
		say_hint("%.*s", (int)(end - line), line);
	}
	if (p->token_in_url && strpbrk(p->token, "+/= ") != NULL)
		say_hint("In a URL the token must be percent-encoded: a + arrives as a space.");
	buf_fini(&words);
	if (text != NULL)
		explicit_bzero(text, 65536);
	free(text);
}

static void
say_status(struct probe *p, const struct client *c)
{
	char text[200];

	say_fail("no WebSocket there: %s", ctl_clean(c->why, text, sizeof(text)));
	switch (c->status) {
	case 301: case 302: case 307: case 308:
		say_hint("The server sends clients elsewhere; browsers do not follow that for WebSockets: use the "
		    "final address.");
		break;
	case 400:
		say_hint("The request did not arrive as a WebSocket handshake: does a proxy before belayd pass on "
		    "Upgrade and Connection?");
		break;
	case 401:
		say_hint("belayd refuses tokens only after the handshake: something before it wants a login.");
		break;
	case 403:
		say_hint("The origin is refused%s: see auth.origins.", p->origin != NULL ? "" :
		    ", or something before belayd refuses");
		break;
	case 404: case 405: case 200:
		say_hint("%s is not the WebSocket's path: belayd serves /ws.",
		    ctl_clean(p->url.target, text, strcspn(p->url.target, "?") < 180 ?
		    strcspn(p->url.target, "?") + 1 : 180));
		break;
	case 426:
		say_hint("It wants a WebSocket handshake and did not see one: a proxy before it takes out Upgrade.");
		break;
	case 429: case 503:
		say_hint("The server has too much to do, or is starting or stopping: try again.");
		break;
	case 502: case 504:
		say_hint("A proxy answers, and belayd behind it does not.");
		break;
	default:
		break;
	}
}

static void
say_close(struct probe *p, const struct client *c)
{
	char text[WS_REASON_MAX + 1];

	say_fail("the server accepted the handshake and closed with %u \"%s\"", c->code,
	    ctl_clean(c->reason, text, sizeof(text)));
	if (strcmp(c->reason, "Missing token") == 0) {
		say_hint(p->token == NULL ? "No token was sent." :
		    "The token did not arrive: does a proxy take out Authorization or the query?");
	} else if (strcmp(c->reason, "Invalid token") == 0) {
		if (p->faults != 0)
			say_hint("The fault of the token told above is why.");
		else if (p->token != NULL && auth_device_token_is(slice_of(p->token)))
			say_hint("The form is right: the token was replaced, the device deleted, or another device's "
			    "id was given with it. \"belayctl device rotate ID\" gives a new token.");
		else if (p->made)
			say_hint("It was made with the secret of the settings here, which are not the server's: -c "
			    "names others, --token takes a token of its users.");
		else if (p->checked)
			say_hint("It fits the secret given here, so the server has another one (restart or reload "
			    "it after a change), or wants another issuer or audience. belayd's log says why.");
		else
			say_hint("Nothing is wrong with it as far as can be seen here: most likely it is signed "
			    "with another secret or key than the server's (--secret-file checks that), or has "
			    "another issuer or audience. belayd's log says why.");
	} else if (strcmp(c->reason, "Token expired") == 0) {
		say_hint("Get a new token; if it is new, compare the clocks.");
	} else if (c->code == WS_CODE_ABNORMAL) {
		say_hint("It ended without a close frame: a proxy's timeout, or the server died.");
	} else {
		say_hint("What a client should do: %s.", ws_close_advice(ws_close_of(c->code)));
	}
}

/* With an Origin that is refused: is it the origin alone? */
static bool
origin_is_why(struct probe *p)
{
	struct client_options o = { .url = &p->url, .addresses = &p->addresses, .tls = &p->ctl->tls,
	    .token = p->token_in_url || !p->sendable ? NULL : p->token, .device = p->device };
	int64_t until = clock_mono_ms() + PROBE_WAIT_MS;
	struct client c;
	enum client_event ev;
	struct slice m;

	client_open(&c, &o);
	while ((ev = client_next(&c, &m)) == CLIENT_WAIT && line_wait(&c.line, until))
		;
	client_close(&c);
	return ev == CLIENT_OPEN;
}

static int
probe_connect(struct probe *p)
{
	struct client_options o = { .url = &p->url, .addresses = &p->addresses, .tls = &p->ctl->tls,
	    .token = p->token_in_url || !p->sendable ? NULL : p->token, .device = p->device,
	    .origin = p->origin };
	int64_t until = clock_mono_ms() + PROBE_WAIT_MS;
	enum client_event ev = CLIENT_WAIT;
	struct client c;
	struct slice m = SLICE_NONE;
	bool open = false;
	int status = CTL_FAILED;
	json_t *first;

	client_open(&c, &o);
	while ((ev = client_next(&c, &m)) == CLIENT_OPEN || (ev == CLIENT_WAIT && line_wait(&c.line, until)))
		if (ev == CLIENT_OPEN && !open) {
			open = true;
			say_ok("the WebSocket handshake is accepted");
		}
	if (ev == CLIENT_MESSAGE) {
		first = json_loadb(m.p, m.len, 0, NULL);
		if (strcmp(ctl_text(first, "type"), "connected") == 0) {
			const char *who = ctl_text(first, "payload.userId");

			say_ok("connected to %s as %s %s of tenant %s", ctl_text(first, "payload.instance"),
			    *who != '\0' ? "user" : "device",
			    *who != '\0' ? who : ctl_text(first, "payload.deviceId"),
			    ctl_text(first, "payload.tenantId"));
			status = CTL_OK;
		} else {
			say_fail("the first message is not belayd's: another WebSocket server listens there");
		}
		json_decref(first);
		client_bye(&c, WS_CODE_NORMAL, "");
	} else if (ev == CLIENT_WAIT) {
		say_fail("%s", open ? "connected, but the server says nothing: is it belayd?" :
		    "no answer to the WebSocket handshake");
	} else if (open) {
		say_close(p, &c);
		status = c.code == WS_CODE_MISSING_TOKEN || c.code == WS_CODE_FEED_NO_TOKEN ||
		    c.code == WS_CODE_FEED_BAD_TOKEN ? CTL_REFUSED : CTL_FAILED;
	} else if (c.status == 403 && p->origin != NULL && origin_is_why(p)) {
		say_fail("the origin %s is refused; without it the handshake is accepted", p->origin);
		say_hint("Add it to auth.origins, exactly as the browser sends it: scheme, host, port, no slash.");
	} else if (c.status != 0) {
		say_status(p, &c);
	} else {
		say_fail("%s", c.why);
		say_hint("Something before belayd may not pass WebSockets on.");
	}
	client_close(&c);
	return status;
}

/*
 * A token like those of the server's users, if the settings have the secret for one: short-lived and without
 * rights, since any address may be probed.
 */
static void
probe_make_token(struct probe *p)
{
	const struct conf *conf = ctl_conf_if_any(p->ctl);
	struct ctl_issuer issuer;

	if (conf == NULL || !ctl_issuer(p->ctl, &issuer))
		return;
	p->token = p->owned = ctl_mint(p->ctl, p->ctl->user, p->ctl->tenant, NULL, PROBE_TOKEN_S);
	p->conf = conf;
	p->made = true;
	say_ok("a token was made with the secret of the settings");
}

/* Where the token comes from: --token, -t or BELAY_TOKEN, the URL, the settings. */
static void
probe_choose_token(struct probe *p, const char *given)
{
	struct slice in_url = url_query(p->url.target, "token");

	if (given != NULL) {
		p->owned = must_strndup(given, strlen(given));
		ctl_hide((char *)given);
		/* "@FILE" and what a file holds; anything else is taken as it is, faults and all. */
		if (p->owned[0] == '@') {
			char *text = ctl_secret("--token", p->owned);

			free(p->owned);
			p->owned = text;
		}
		p->token = p->owned;
	} else if (p->ctl->token != NULL) {
		p->token = p->ctl->token;
	} else if (in_url.p != NULL) {
		p->token_in_url = true;
		for (size_t i = 0; i < in_url.len; i++) {
			char hex[3] = { 0 };

			if (in_url.p[i] == '%' && i + 2 < in_url.len) {
				memcpy(hex, in_url.p + i + 1, 2);
				buf_putc(&p->decoded, (char)strtol(hex, NULL, 16));
				i += 2;
			} else {
				buf_putc(&p->decoded, in_url.p[i] == '+' ? ' ' : in_url.p[i]);
			}
		}
		buf_putc(&p->decoded, '\0');
		p->token = p->decoded.data;
	} else {
		probe_make_token(p);
	}
	p->sendable = p->token != NULL;
	for (const char *q = p->token; q != NULL && *q != '\0'; q++)
		if ((unsigned char)*q < ' ' || (unsigned char)*q >= 0x7f)
			p->sendable = false;
}

int
ctl_probe_main(struct ctl *ctl, int argc, char **argv)
{
	struct probe p = { .ctl = ctl };
	const char *given = NULL, *args[1] = { NULL }, *why;
	const struct ctl_opt opts[] = {
		{ "token", CTL_TEXT, &given, "the token, or @FILE; also -t and BELAY_TOKEN" },
		{ "device", CTL_TEXT, &p.device, "the device's id, with a device token" },
		{ "secret-file", CTL_TEXT, &p.secret_file, "the server's auth.jwt_secret_file: check the signature" },
		{ "origin", CTL_TEXT, &p.origin, "connect as a page of this origin does" },
		{ NULL, CTL_FLAG, NULL, NULL }
	};
	int n = ctl_opts(argc, argv, opts, args, 1), status, ready = CTL_OK;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (n == 1) {
		why = url_parse(args[0], &p.url);
		if (why != NULL) {
			say_fail("the URL is of no use: %s", why);
			return CTL_USAGE;
		}
		if (strcmp(p.url.target, "/") == 0)
			memcpy(p.url.target, "/ws", 4);
	} else {
		ctl_url(ctl, "/ws", &p.url);
	}
	for (const char *q = p.origin; q != NULL && *q != '\0'; q++)
		if ((unsigned char)*q <= ' ' || (unsigned char)*q >= 0x7f)
			ctl_die(CTL_USAGE, "--origin looks like https://app.example.com");
	for (const char *q = p.device; q != NULL && *q != '\0'; q++)
		if ((unsigned char)*q <= ' ' || (unsigned char)*q >= 0x7f)
			ctl_die(CTL_USAGE, "--device holds a character that no id has");
	/* The settings say something of the server only when it is theirs. */
	if (ctl->conf_file != NULL || (n == 0 && ctl->url_text == NULL && getenv("BELAY_URL") == NULL))
		p.conf = ctl_conf(ctl);
	probe_choose_token(&p, given);
	status = probe_resolve(&p);
	if (status == CTL_OK)
		status = probe_line(&p);
	if (status == CTL_OK)
		status = probe_http(&p);
	if (status == CTL_OK)
		ready = probe_ready(&p);
	probe_token(&p);
	if (status == CTL_OK)
		status = probe_connect(&p);
	if (status == CTL_OK)
		status = ready;
	if (p.owned != NULL)
		explicit_bzero(p.owned, strlen(p.owned));
	free(p.owned);
	buf_fini(&p.decoded);
	return status;
}
