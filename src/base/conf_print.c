/*
 * conf_print.c: settings as a file in libconfig's syntax, with secrets left out.
 */
#include <string.h>

#include "base/conf_table.h"

static void
print_string(FILE *out, const char *text)
{
	(void)fputc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			(void)fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			(void)fprintf(out, "\\x%02x", c);
		else
			(void)fputc(c, out);
	}
	(void)fputc('"', out);
}

const char *
conf_password(const char *url, size_t *len)
{
	const char *authority = strstr(url, "://"), *end, *at, *colon;

	if (authority == NULL)
		return NULL;
	authority += 3;
	/* It may hold a slash that should have been escaped: the last @ of all counts. */
	end = authority + strcspn(authority, "?");
	at = memrchr(authority, '@', (size_t)(end - authority));
	colon = at != NULL ? memchr(authority, ':', (size_t)(at - authority)) : NULL;
	if (colon == NULL)
		return NULL;
	*len = (size_t)(at - colon - 1);
	return colon + 1;
}

static void
print_url(FILE *out, const char *url)
{
	struct buf text = BUF_INIT;
	size_t len;
	const char *password = conf_password(url, &len);

	if (password == NULL)
		buf_puts(&text, url);
	else {
		buf_put(&text, url, (size_t)(password - url));
		buf_puts(&text, "***");
		buf_puts(&text, password + len);
	}
	buf_putc(&text, '\0');
	print_string(out, text.data);
	buf_fini(&text);
}

static void
print_value(FILE *out, const void *base, const struct conf_option *o)
{
	char text[24];

	switch (o->type) {
	case CONF_TYPE_STRING: case CONF_TYPE_FILE: {
		const char *value = *conf_string_at(base, o->offset);

		if (o->type == CONF_TYPE_STRING && (o->flags & CONF_SECRET) != 0 && *value != '\0')
			print_string(out, "***");
		else if ((o->flags & CONF_PASSWORD) != 0)
			print_url(out, value);
		else
			print_string(out, value);
		break;
	}
	case CONF_TYPE_LIST: {
		const struct conf_list *list = conf_list_at(base, o);

		(void)fputc('[', out);
		for (size_t i = 0; i < list->n; i++) {
			(void)fputs(i > 0 ? ", " : "", out);
			print_string(out, (o->flags & CONF_SECRET) != 0 ? "***" : list->v[i]);
		}
		(void)fputc(']', out);
		break;
	}
	case CONF_TYPE_BOOL:
		(void)fputs(conf_number_get(base, o) != 0 ? "true" : "false", out);
		break;
	case CONF_TYPE_INT:
		(void)fprintf(out, "%llu", (unsigned long long)conf_number_get(base, o));
		break;
	case CONF_TYPE_MS:
		conf_format_duration((int64_t)conf_number_get(base, o), text);
		print_string(out, text);
		break;
	case CONF_TYPE_BYTES:
		conf_format_size(conf_number_get(base, o), text);
		print_string(out, text);
		break;
	case CONF_TYPE_ENUM:
		print_string(out, o->words[conf_number_get(base, o)]);
	}
}

static void
print_issuers(FILE *out, const struct conf *conf)
{
	if (conf->auth_issuers_n == 0)
		return;
	(void)fprintf(out, "  issuers = (\n");
	for (size_t i = 0; i < conf->auth_issuers_n; i++) {
		(void)fprintf(out, "    {\n");
		for (size_t j = 0; j < CONF_ISSUER_OPTION_COUNT; j++) {
			(void)fprintf(out, "      %s = ", conf_issuer_options[j].name);
			print_value(out, &conf->auth_issuers[i], &conf_issuer_options[j]);
			(void)fprintf(out, ";\n");
		}
		(void)fprintf(out, "    }%s\n", i + 1 < conf->auth_issuers_n ? "," : "");
	}
	(void)fprintf(out, "  );\n");
}

void
conf_print(const struct conf *conf, FILE *out)
{
	const char *section = "";

	for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
		if (strcmp(section, conf_options[i].section) != 0) {
			if (strcmp(section, "auth") == 0)
				print_issuers(out, conf);
			(void)fprintf(out, "%s%s: {\n", *section == '\0' ? "" : "};\n\n",
			    conf_options[i].section);
			section = conf_options[i].section;
		}
		(void)fprintf(out, "  %s = ", conf_options[i].name);
		print_value(out, conf, &conf_options[i]);
		(void)fprintf(out, ";\n");
	}
	(void)fprintf(out, "};\n");
}
