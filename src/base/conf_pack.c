/*
 * conf_pack.c: settings as bytes, from the master to the other processes of the same program.
 *
 * Both ends are forks of one program, so the order of conf.def is all the structure there is.
 */
#include <stdlib.h>
#include <string.h>

#include "base/conf_table.h"
#include "base/must.h"

static const char pack_mark[8] = { 'b', 'e', 'l', 'a', 'y', 'c', 'f', '1' };

static void
pack_string(struct buf *out, const char *text)
{
	uint32_t len = (uint32_t)strlen(text);

	buf_put(out, &len, sizeof(len));
	buf_put(out, text, len);
}

static void
pack_number(struct buf *out, uint64_t v)
{
	buf_put(out, &v, sizeof(v));
}

static void
pack_values(struct buf *out, const void *base, const struct conf_option *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct conf_option *o = &table[i];

		if (o->type == CONF_TYPE_LIST) {
			const struct conf_list *list = conf_list_at(base, o);

			pack_number(out, list->n);
			for (size_t j = 0; j < list->n; j++)
				pack_string(out, list->v[j]);
		} else if (conf_is_text(o)) {
			pack_string(out, *conf_string_at(base, o->offset));
			if (o->type == CONF_TYPE_FILE)
				pack_string(out, *conf_string_at(base, o->text_offset));
		} else
			pack_number(out, conf_number_get(base, o));
	}
}

void
conf_pack(const struct conf *conf, struct buf *out)
{
	buf_put(out, pack_mark, sizeof(pack_mark));
	pack_values(out, conf, conf_options, CONF_OPTION_COUNT);
	pack_number(out, conf->insecure_short_secret);
	pack_number(out, conf->auth_issuers_n);
	for (size_t i = 0; i < conf->auth_issuers_n; i++)
		pack_values(out, &conf->auth_issuers[i], conf_issuer_options,
		    CONF_ISSUER_OPTION_COUNT);
}

static int
unpack_bytes(struct slice *in, void *out, size_t n)
{
	if (in->len < n)
		return -1;
	memcpy(out, in->p, n);
	in->p += n;
	in->len -= n;
	return 0;
}

static int
unpack_string(struct slice *in, char **at)
{
	uint32_t len;

	if (unpack_bytes(in, &len, sizeof(len)) == -1 || in->len < len ||
	    memchr(in->p, '\0', len) != NULL)
		return -1;
	conf_string_set(at, in->p, len);
	in->p += len;
	in->len -= len;
	return 0;
}

static int
unpack_list(struct slice *in, struct conf_list *list)
{
	uint64_t n;
	char *text = NULL;

	if (unpack_bytes(in, &n, sizeof(n)) == -1)
		return -1;
	for (; n > 0; n--) {
		if (unpack_string(in, &text) == -1) {
			free(text);
			return -1;
		}
		conf_list_add(list, text);
	}
	free(text);
	return 0;
}

static int
unpack_values(struct slice *in, void *base, const struct conf_option *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct conf_option *o = &table[i];
		uint64_t v;

		if (o->type == CONF_TYPE_LIST) {
			if (unpack_list(in, conf_list_at(base, o)) == -1)
				return -1;
		} else if (conf_is_text(o)) {
			if (unpack_string(in, conf_string_at(base, o->offset)) == -1 ||
			    (o->type == CONF_TYPE_FILE && unpack_string(in,
			    conf_string_at(base, o->text_offset)) == -1))
				return -1;
		} else {
			if (unpack_bytes(in, &v, sizeof(v)) == -1)
				return -1;
			conf_number_set(base, o, v);
		}
	}
	return 0;
}

struct conf *
conf_unpack(struct slice in)
{
	struct conf *conf = must_alloc(sizeof(*conf));
	char mark[sizeof(pack_mark)];
	uint64_t short_secret, issuers;

	conf_values_init(conf, conf_options, CONF_OPTION_COUNT);
	if (unpack_bytes(&in, mark, sizeof(mark)) == -1 || memcmp(mark, pack_mark,
	    sizeof(mark)) != 0 ||
	    unpack_values(&in, conf, conf_options, CONF_OPTION_COUNT) == -1 ||
	    unpack_bytes(&in, &short_secret, sizeof(short_secret)) == -1 ||
	    unpack_bytes(&in, &issuers, sizeof(issuers)) == -1)
		goto bad;
	conf->insecure_short_secret = short_secret != 0;
	for (; issuers > 0; issuers--)
		if (unpack_values(&in, conf_issuer_add(conf), conf_issuer_options,
		    CONF_ISSUER_OPTION_COUNT) == -1)
			goto bad;
	if (in.len == 0)
		return conf;
bad:
	conf_free(&conf);
	return NULL;
}
