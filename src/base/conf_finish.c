/*
 * conf_finish.c: what follows when all sources of settings were read: key files, blocks of issuers,
 * checks across options.
 *
 * Part of conf_load(), in the master.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf_load.h"
#include "base/must.h"

#define KEY_FILE_MAX (1u << 20)
#define SECRET_MIN 32

void
conf_expose(struct conf_load *l, const char *where, const struct conf_option *o, const char *path, mode_t mode)
{
	char text[512];

	if (!S_ISREG(mode) || (mode & S_IROTH) == 0)
		return;
	(void)snprintf(text, sizeof(text), "%s: %s.%s: %.200s%severy user of this machine can read the secret in the "
	    "file (its mode is %04o, 0640 would do)", where, o->section, o->name, path != NULL ? path : "",
	    path != NULL ? ": " : "", (unsigned)(mode & 07777));
	conf_list_add(&l->exposed, text);
}

/* 0 with the whole text and the file's mode, or -1 with a sentence; a file of keys is small and has no NUL. */
static int
read_key_file(const char *path, struct buf *text, mode_t *mode, char why[CONF_WHY_LEN])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), ret = -1;
	struct stat st;
	ssize_t n;

	if (fd == -1) {
		(void)snprintf(why, CONF_WHY_LEN, "%s", strerror(errno));
		return -1;
	}
	*mode = fstat(fd, &st) == 0 ? st.st_mode : 0;
	do {
		n = read(fd, buf_reserve(text, 4096), 4096);
		if (n > 0)
			text->len += (size_t)n;
	} while (n > 0 && text->len <= KEY_FILE_MAX);
	if (n == -1)
		(void)snprintf(why, CONF_WHY_LEN, "%s", strerror(errno));
	else if (text->len > KEY_FILE_MAX)
		(void)snprintf(why, CONF_WHY_LEN, "the file is larger than 1 MiB");
	else if (memchr(text->data, '\0', text->len) != NULL)
		(void)snprintf(why, CONF_WHY_LEN, "the file holds a NUL byte");
	else if (text->len == 0)
		(void)snprintf(why, CONF_WHY_LEN, "the file is empty");
	else
		ret = 0;
	(void)close(fd);
	return ret;
}

static void
load_key_file(struct conf_load *l, void *base, const struct conf_option *o, const char *where)
{
	struct buf text = BUF_INIT;
	char why[CONF_WHY_LEN];
	const char *path;
	mode_t mode;

	if (o->type != CONF_TYPE_FILE || *(path = *conf_string_at(base, o->offset)) == '\0')
		return;
	if (read_key_file(path, &text, &mode, why) == -1)
		conf_fault(l, where, "%s.%s: %s: %s", o->section, o->name, path, why);
	else {
		if ((o->flags & CONF_PRIVATE) != 0)
			conf_expose(l, where, o, path, mode);
		if ((o->flags & CONF_SECRET) != 0 && text.data[text.len - 1] == '\n') {
			text.len--;
			if (text.len > 0 && text.data[text.len - 1] == '\r')
				text.len--;
			if (text.len == 0)
				conf_fault(l, where, "%s.%s: %s: there is nothing but a line break in it",
				    o->section, o->name, path);
		}
		conf_string_set(conf_string_at(base, o->text_offset), text.data, text.len);
	}
	buf_fini(&text);
}

static struct conf_origin *
origin_of(struct conf_load *l, const char *section, const char *name)
{
	long at = conf_option_find(conf_options, CONF_OPTION_COUNT, slice_of(section), name);

	must(at != -1);
	return &l->origins[at];
}

/* Two options for one secret: the later source wins, one source naming both is a fault. */
static void
settle_secret(struct conf_load *l)
{
	struct conf *conf = l->conf;
	struct conf_origin *text = origin_of(l, "auth", "jwt_secret"),
	    *file = origin_of(l, "auth", "jwt_secret_file");

	if (*conf->auth_jwt_secret == '\0' || *conf->auth_jwt_secret_file == '\0')
		return;
	if (text->rank == file->rank)
		conf_fault(l, text->where,
		    "auth.jwt_secret and auth.jwt_secret_file: only one of them can be set");
	else
		conf_string_set(text->rank > file->rank ?
		    &conf->auth_jwt_secret_file : &conf->auth_jwt_secret, "", 0);
}

static void
check_secret(struct conf_load *l, const char *secret, const char *option, const char *where)
{
	if (*secret == '\0')
		return;
	if (strstr(secret, "-----BEGIN ") != NULL)
		conf_fault(l, where,
		    "%s: this is a PEM text, which is no shared secret; a public key goes into "
		    "auth.jwt_public_key_file", option);
	else if (strlen(secret) < SECRET_MIN && !l->conf->insecure_short_secret)
		conf_fault(l, where,
		    "%s: a secret of at least %d bytes is wanted (--insecure-short-secret takes "
		    "shorter ones)", option, SECRET_MIN);
}

static bool
is_key_source(const struct conf_option *o)
{
	return strncmp(o->name, "jwt_", 4) == 0 || strncmp(o->name, "jwks_", 5) == 0;
}

/* Fills in what a block did not set; see struct conf_issuer. */
static void
finish_issuer(struct conf_load *l, size_t index)
{
	struct conf_issuer *issuer = &l->conf->auth_issuers[index];
	struct conf_block *block = &l->blocks[index];
	bool own_keys = false, keys = false;

	for (size_t i = 0; i < CONF_ISSUER_OPTION_COUNT; i++)
		own_keys |= block->set[i] && is_key_source(&conf_issuer_options[i]);
	for (size_t i = 0; i < CONF_ISSUER_OPTION_COUNT; i++) {
		const struct conf_option *o = &conf_issuer_options[i];
		long flat = conf_option_find(conf_options, CONF_OPTION_COUNT, slice_of(o->section),
		    o->name);

		if (block->set[i])
			load_key_file(l, issuer, o, block->where);
		else if (strcmp(o->name, "issuer") != 0 && !(own_keys && is_key_source(o)))
			conf_value_copy(issuer, o, l->conf, &conf_options[flat]);
		keys |= is_key_source(o) && conf_is_text(o) &&
		    **conf_string_at(issuer, o->offset) != '\0';
		if (block->set[i] && (o->flags & CONF_ABSENT) != 0 &&
		    **conf_string_at(issuer, o->offset) != '\0')
			conf_fault(l, block->where,
			    "auth.issuers: %s is not in this version of belayd yet", o->name);
	}
	if (*issuer->issuer == '\0')
		conf_fault(l, block->where, "auth.issuers: a block needs its issuer");
	for (size_t i = 0; i < index; i++)
		if (*issuer->issuer != '\0' && strcmp(l->conf->auth_issuers[i].issuer,
		    issuer->issuer) == 0)
			conf_fault(l, block->where,
			    "auth.issuers: there is another block for this issuer");
	if (!keys)
		conf_fault(l, block->where, "auth.issuers: there is no key for this issuer");
	if (own_keys && *issuer->jwt_secret != '\0' && *issuer->jwt_secret_file != '\0')
		conf_fault(l, block->where,
		    "auth.issuers: only one of jwt_secret and jwt_secret_file can be set");
	if (own_keys) {
		check_secret(l, issuer->jwt_secret, "auth.issuers: jwt_secret", block->where);
		check_secret(l, issuer->jwt_secret_file_text, "auth.issuers: jwt_secret_file",
		    block->where);
	}
}

/* Options of things that are not built yet may stand in a file, but not be used. */
static void
check_absent(struct conf_load *l)
{
	struct conf_findings none = { .faults = { NULL, 0 } };
	struct conf_load fresh = { .conf = must_alloc(sizeof(struct conf)), .findings = &none };

	conf_values_init(fresh.conf, conf_options, CONF_OPTION_COUNT);
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
		const struct conf_option *o = &conf_options[i];

		if ((o->flags & CONF_ABSENT) == 0)
			continue;
		conf_set_text(&fresh, fresh.conf, o, o->standard, NULL);
		if (!conf_value_equal(l->conf, fresh.conf, o))
			conf_fault(l, l->origins[i].where,
			    "%s.%s: this is not in this version of belayd yet", o->section,
			    o->name);
	}
	conf_free(&fresh.conf);
	conf_findings_fini(&none);
}

/* No address stands in two of the options that are listened on. */
static void
check_addresses(struct conf_load *l)
{
	const struct conf *conf = l->conf;
	const struct conf_list *tls = &conf->server_tls_listen;

	if (conf->server_listen.n == 0 && tls->n == 0)
		conf_fault(l, origin_of(l, "server", "listen")->where,
		    "server.listen: at least one address is wanted");
	for (size_t i = 0; i < conf->server_listen.n; i++)
		if (strcmp(conf->server_listen.v[i], conf->server_admin_listen) == 0)
			conf_fault(l, origin_of(l, "server", "admin_listen")->where,
			    "server.admin_listen: this address is in server.listen too");
	for (size_t i = 0; i < tls->n; i++) {
		bool twice = strcmp(tls->v[i], conf->server_admin_listen) == 0;

		for (size_t j = 0; j < conf->server_listen.n; j++)
			twice |= strcmp(tls->v[i], conf->server_listen.v[j]) == 0;
		if (twice)
			conf_fault(l, origin_of(l, "server", "tls_listen")->where,
			    "server.tls_listen: this address is in another option too");
	}
}

/* What is said of a listener is said of one that there is. */
static void
check_proxy_listen(struct conf_load *l)
{
	const struct conf *conf = l->conf;
	const struct conf_list *lists[] = { &conf->server_listen, &conf->server_tls_listen };

	for (size_t i = 0; i < conf->server_proxy_listen.n; i++) {
		bool there = false;

		for (size_t k = 0; k < 2; k++)
			for (size_t j = 0; j < lists[k]->n; j++)
				there |= strcmp(lists[k]->v[j], conf->server_proxy_listen.v[i]) == 0;
		if (!there)
			conf_fault(l, origin_of(l, "server", "proxy_listen")->where,
			    "server.proxy_listen: %.100s is not in server.listen or server.tls_listen",
			    conf->server_proxy_listen.v[i]);
	}
}

static void
check_across(struct conf_load *l)
{
	const struct conf *conf = l->conf;

	check_addresses(l);
	check_proxy_listen(l);
	if (conf->limits_send_buffer_bytes < conf->limits_message_size_bytes)
		conf_fault(l, origin_of(l, "limits", "send_buffer")->where,
		    "limits.send_buffer: must not be smaller than limits.message_size");
	check_secret(l, conf->auth_jwt_secret, "auth.jwt_secret",
	    origin_of(l, "auth", "jwt_secret")->where);
	check_secret(l, conf->auth_jwt_secret_file_text, "auth.jwt_secret_file",
	    origin_of(l, "auth", "jwt_secret_file")->where);
}

/* Settings whose default depends on the machine or on another option. */
static void
fill_in(struct conf *conf)
{
	uint64_t ring = 1;

	if (*conf->server_instance == '\0') {
		char host[65] = "";

		if (gethostname(host, sizeof(host) - 1) == -1 || *host == '\0')
			(void)snprintf(host, sizeof(host), "belay");
		for (char *p = host; *p != '\0'; p++)
			if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", *p) == NULL)
				*p = '-';
		conf_string_set(&conf->server_instance, host, strlen(host));
	}
	if (*conf->server_pidfile == '\0') {
		struct buf path = BUF_INIT;

		buf_printf(&path, "%s/belayd.pid", conf->server_run_dir);
		conf_string_set(&conf->server_pidfile, path.data, path.len);
		buf_fini(&path);
	}
	while (ring < conf->memory_mailbox_bytes)
		ring <<= 1;
	conf->memory_mailbox_bytes = ring;
}


void
conf_finish(struct conf_load *l)
{
	settle_secret(l);
	for (size_t i = 0; i < CONF_OPTION_COUNT; i++)
		load_key_file(l, l->conf, &conf_options[i], l->origins[i].where);
	for (size_t i = 0; i < l->conf->auth_issuers_n; i++)
		finish_issuer(l, i);
	check_absent(l);
	check_across(l);
	fill_in(l->conf);
}
