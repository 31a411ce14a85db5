/*
 * ctl.h: what the commands of belayctl share: options, the settings, tokens,
 * requests to the server, exit statuses.
 */
#ifndef BELAY_CTL_CTL_H
#define BELAY_CTL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "belayctl/client.h"
#include "belayctl/line.h"
#include "belayctl/url.h"
#include "belayctl/web.h"

struct conf;

/* Exit statuses; main.c prints this list in its help. */
enum ctl_status {
	CTL_OK = 0,		/* done; of send --wait: the device told that it executed the command */
	CTL_FAILED = 1,		/* the server refused it, or the device told that it failed */
	CTL_USAGE = 2,		/* wrong command line or settings */
	CTL_UNCONFIRMED = 3,	/* the time ran out: the command may have run */
	CTL_NOT_SENT = 4,	/* the device never got the command: safe to retry */
	CTL_UNREACHABLE = 5,	/* no server answered */
	CTL_REFUSED = 6		/* the server did not take the token */
};

struct ctl {
	const char *conf_file;		/* NULL: the built-in path, if there is a file */
	const char *url_text;		/* NULL: of the settings */
	const char *user;		/* of tokens made here */
	const char *tenant;		/* NULL: auth.default_tenant; sent along with a service key for all tenants */
	bool local;			/* the command asks no server: no address and no token help it */
	char *token;			/* owned; given by the user, NULL otherwise */
	struct conf *conf;		/* owned; NULL until ctl_conf() */
	struct line_tls tls;

	char *minted;			/* owned */
	int64_t minted_until_ms;
	bool based;
	struct url base;
	struct web web;			/* open when webbed */
	bool webbed;
};

#define COMMAND(name, synopsis, help) int ctl_##name##_main(struct ctl *ctl, int argc, char **argv);
#include "belayctl/commands.def"
#undef COMMAND

/* Ends the program with a sentence on standard error. */
_Noreturn void ctl_die(enum ctl_status status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void ctl_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Somebody else's text for a terminal, in out: a control character is a question mark.  Returns out. */
const char *ctl_clean(const char *text, char *out, size_t size);

/* The command's options: "--name value", "--name=value", mixed with its arguments; "--" ends them. */
enum ctl_opt_kind { CTL_FLAG, CTL_TEXT, CTL_COUNT, CTL_MS, CTL_REAL, CTL_TEXTS };

struct ctl_texts {
	const char *v[64];
	unsigned n;
};

struct ctl_opt {
	const char *name;
	enum ctl_opt_kind kind;
	void *value;		/* bool, const char *, unsigned, int64_t, double, struct ctl_texts */
	const char *help;
};

/* Prints what the command ("tail", "device add") does and its options; opts may be NULL.  Ends the program. */
_Noreturn void ctl_help(const char *command, const struct ctl_opt *opts);
/*
 * argv[0] is the command, as for ctl_help().  Arguments go to args (at most max); returns how many.  opts ends with a
 * row without name.
 */
int ctl_opts(int argc, char **argv, const struct ctl_opt *opts, const char **args, int max);
/* "30s", "500ms", "1h", "2d", or milliseconds; -1 when it is none. */
int64_t ctl_duration(const char *text);

/*
 * A secret as a user passes it: the text, or of "@FILE" the file's first line.  To be freed.
 * option: what it was passed by, for a sentence.  Dies when it can't be sent.
 */
char *ctl_secret(const char *option, const char *text);
/* Overwrites an argument, so that ps(1) does not show it. */
void ctl_hide(char *arg);

/* The settings (file, environment); dies with what is wrong with them. */
const struct conf *ctl_conf(struct ctl *ctl);
/* The same; NULL, without a word, when they can't be used. */
const struct conf *ctl_conf_if_any(struct ctl *ctl);
/* The shared secret of the settings and who issues with it; false when there is none. */
struct ctl_issuer {
	struct slice secret;
	const char *issuer, *audience, *azp;		/* NULL: not set */
	const char *user_claim, *tenant_claim, *role_claim;
};
bool ctl_issuer(struct ctl *ctl, struct ctl_issuer *out);
/* A token that is good for ttl_s; dies when there is no secret.  To be freed. */
char *ctl_mint(struct ctl *ctl, const char *user, const char *tenant, const char *role, int64_t ttl_s);
/* The token for requests: the user's, or one made here for an administrator.  Borrowed until the next call. */
const char *ctl_token(struct ctl *ctl);

/* The server's address; its target is a prefix for paths, "" mostly. */
const struct url *ctl_base(struct ctl *ctl);
/* The same with this path and query appended. */
void ctl_url(struct ctl *ctl, const char *path, struct url *out);

/*
 * A request with the token.  body is taken over and may be NULL.  Returns the HTTP status and the answer
 * (NULL when it is no JSON), to be given back with json_decref().  Dies when no answer came.
 */
int ctl_rest(struct ctl *ctl, const char *method, const char *path, json_t *body, int64_t timeout_ms,
    json_t **answer);
/* Says what the server answered; returns the exit status for that. */
enum ctl_status ctl_refused(int status, json_t *answer);

/* How JSON is printed: doubles as people write them. */
#define CTL_JSON_LINE (JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))
#define CTL_JSON_PAGE (JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))

/* "a.b" in an object; NULL when it is not there. */
json_t *ctl_get(json_t *object, const char *path);
/* Its text; "" when it is not a string. */
const char *ctl_text(json_t *object, const char *path);
/* JSON text on standard output; what a terminal would obey in it (DEL, C1) as escapes: it means the same. */
void ctl_put_json(struct slice text);
/* The value so, with a line end; flags: CTL_JSON_LINE, CTL_JSON_PAGE. */
void ctl_print(json_t *value, size_t flags);
/* "?a=b" → appends a parameter, encoded. */
void ctl_query(struct buf *path, const char *name, const char *value);

#endif
