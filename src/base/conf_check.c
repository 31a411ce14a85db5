/*
 * conf_check.c: checks of single values, durations and sizes.
 *
 * Runs in the master (and belayctl), before anything is opened.  Asks the system for nothing but
 * users and groups.
 */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "base/address.h"
#include "base/conf_check.h"
#include "base/digest.h"
#include "base/text.h"

static int
bad(char why[CONF_WHY_LEN], const char *text)
{
	(void)snprintf(why, CONF_WHY_LEN, "%s", text);
	return -1;
}

int
conf_check_any(const char *value, char why[CONF_WHY_LEN])
{
	(void)value;
	(void)why;
	return 0;
}

int
conf_check_address(const char *value, char why[CONF_WHY_LEN])
{
	struct address address;
	const char *reason;

	if (address_parse(slice_of(value), &address, &reason) == -1)
		return bad(why, reason);
	return 0;
}

int
conf_check_address_or_none(const char *value, char why[CONF_WHY_LEN])
{
	return *value == '\0' ? 0 : conf_check_address(value, why);
}

int
conf_check_network(const char *value, char why[CONF_WHY_LEN])
{
	struct network network;

	if (network_parse(slice_of(value), &network) == -1)
		return bad(why, "an address or a network is wanted, as 10.0.0.0/8");
	return 0;
}

int
conf_check_path(const char *value, char why[CONF_WHY_LEN])
{
	return *value == '/' ? 0 : bad(why, "the path must begin with /");
}

int
conf_check_path_or_none(const char *value, char why[CONF_WHY_LEN])
{
	return *value == '\0' ? 0 : conf_check_path(value, why);
}

int
conf_check_log_target(const char *value, char why[CONF_WHY_LEN])
{
	if (strcmp(value, "stderr") == 0 || strcmp(value, "json") == 0 ||
	    strcmp(value, "syslog") == 0 || *value == '/')
		return 0;
	return bad(why, "stderr, json, syslog or a path that begins with / is wanted");
}

int
conf_check_user(const char *value, char why[CONF_WHY_LEN])
{
	return *value == '\0' || getpwnam(value) != NULL ? 0 : bad(why, "there is no such user");
}

int
conf_check_group(const char *value, char why[CONF_WHY_LEN])
{
	return *value == '\0' || getgrnam(value) != NULL ? 0 : bad(why, "there is no such group");
}

int
conf_check_instance(const char *value, char why[CONF_WHY_LEN])
{
	return *value == '\0' || text_is_id(slice_of(value), 64) ? 0 :
	    bad(why, "1 to 64 letters, digits or signs of ._:@|+=- are wanted");
}

int
conf_check_tenant_or_none(const char *value, char why[CONF_WHY_LEN])
{
	return conf_check_instance(value, why);
}

int
conf_check_tenants(const char *value, char why[CONF_WHY_LEN])
{
	size_t len = strlen(value);

	if (len > 0 && value[len - 1] == '*' && len <= 65)
		len--;
	return (len == 0 && *value == '*') || text_is_id(slice_bytes(value, len), 64) ? 0 :
	    bad(why, "1 to 64 letters, digits or signs of ._:@|+=- are wanted, and a * at most at the end");
}

int
conf_check_user_type(const char *value, char why[CONF_WHY_LEN])
{
	size_t len = strlen(value);

	if (len > 0 && value[len - 1] == '*')
		len--;
	if (len > 64 || strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789_.:-") < len ||
	    (len > 0 ? value[0] < 'a' || value[0] > 'z' : *value == '\0'))
		return bad(why, "a message's type, as x_hello, or how types begin, as x_*, is wanted");
	return 0;
}

int
conf_check_topic(const char *value, char why[CONF_WHY_LEN])
{
	if (*value == '\0' || strpbrk(value, "+#") != NULL)
		return bad(why, "a topic without + and # is wanted");
	return 0;
}

int
conf_check_claim(const char *value, char why[CONF_WHY_LEN])
{
	size_t len = strlen(value);

	if (len == 0 || value[0] == '.' || value[len - 1] == '.' || strstr(value, "..") != NULL)
		return bad(why, "a claim's name, or a path of names joined by dots, is wanted");
	return 0;
}

/*
 * scheme://host[:port], nothing after it; a host may begin with "*."; "null" is what browsers send for
 * opaque origins.
 */
int
conf_check_origin(const char *value, char why[CONF_WHY_LEN])
{
	const char *host = strstr(value, "://");

	if (strcmp(value, "null") == 0)
		return 0;
	if (host == NULL || host == value || host[3] == '\0' || strpbrk(host + 3, "/?# \t") != NULL)
		return bad(why,
		    "an origin is wanted, as https://app.example, without path or slash at its "
		    "end");
	if (strchr(value, '*') != NULL && (strncmp(host, "://*.", 5) != 0 || strchr(host + 4, '*') != NULL ||
	    strchr(host + 5, '.') == NULL || host[5] == '.'))
		return bad(why,
		    "a * may only stand for all below a name of two parts or more, as https://*.example.org");
	for (const char *p = value; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			return bad(why, "an origin is written in lower case, as browsers send it");
	return 0;
}

int
conf_check_service_key(const char *value, char why[CONF_WHY_LEN])
{
	const char *tenant = strchr(value, ':'), *hash = strrchr(value, ':');
	uint8_t sha256[SHA256_LEN];

	if (tenant == NULL || hash == tenant)
		return bad(why, "name:tenant:sha256hex is wanted");
	tenant++;
	if (!text_is_id(slice_bytes(value, (size_t)(tenant - 1 - value)), 64))
		return bad(why, "the name must be 1 to 64 letters, digits or signs of ._@|+=-");
	if (!(hash - tenant == 1 && *tenant == '*') && !text_is_id(slice_bytes(tenant, (size_t)(hash - tenant)), 64))
		return bad(why,
		    "the tenant must be * or 1 to 64 letters, digits or signs of ._:@|+=-");
	if (strncmp(hash + 1, "bsk_", 4) == 0)
		return bad(why,
		    "the key itself does not belong here, but its SHA-256 in hexadecimal");
	if (digest_hex_decode(slice_of(hash + 1), sha256, sizeof(sha256)) == -1)
		return bad(why, "the SHA-256 of the key must be 64 hexadecimal digits");
	return 0;
}

/* Does the value begin with one of the schemes, and is there something behind it? */
static int
has_scheme(const char *value, const char *const *schemes)
{
	for (; *schemes != NULL; schemes++)
		if (strncmp(value, *schemes, strlen(*schemes)) == 0 &&
		    value[strlen(*schemes)] != '\0')
			return 1;
	return 0;
}

int
conf_check_redis_url(const char *value, char why[CONF_WHY_LEN])
{
	static const char *const schemes[] = { "redis://", "unix:///", NULL };

	return *value == '\0' || has_scheme(value, schemes) ?
	    0 : bad(why, "redis://host:port/number or unix:///path is wanted");
}

int
conf_check_mqtt_url(const char *value, char why[CONF_WHY_LEN])
{
	static const char *const schemes[] = { "mqtt://", "mqtts://", NULL };

	return *value == '\0' || has_scheme(value, schemes) ?
	    0 : bad(why, "mqtt://host:port or mqtts://host:port is wanted");
}

int
conf_check_feed_url(const char *value, char why[CONF_WHY_LEN])
{
	static const char *const schemes[] = { "mariadb://", NULL };

	return *value == '\0' || has_scheme(value, schemes) ?
	    0 : bad(why, "mariadb://user:password@host:port/database is wanted");
}

int
conf_check_proxy_or_none(const char *value, char why[CONF_WHY_LEN])
{
	static const char *const schemes[] = { "http://", "https://", NULL };

	return *value == '\0' || has_scheme(value, schemes) ? 0 : bad(why,
	    "http://host:port is wanted");
}

/* host[:port] of this machine, by its well-known names */
static int
is_loopback(const char *host, size_t len)
{
	static const char *const names[] = { "127.0.0.1", "localhost", "[::1]" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t n = strlen(names[i]);

		if (len >= n && memcmp(host, names[i], n) == 0 && (len == n || (host[n] == ':' &&
		    strspn(host + n + 1, "0123456789") == len - n - 1)))
			return 1;
	}
	return 0;
}

/* An address from which something is fetched that must not be tampered with on its way. */
int
conf_check_https_url_or_none(const char *value, char why[CONF_WHY_LEN])
{
	static const char *const schemes[] = { "https://", "http://", NULL };
	const char *host;
	size_t len;

	if (*value == '\0')
		return 0;
	if (!has_scheme(value, schemes))
		return bad(why, "https://host/path is wanted");
	if (strlen(value) > CONF_URL_MAX)
		return bad(why, "the address is too long");
	for (const char *p = value; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || *p == '\\')
			return bad(why, "the address holds a character that must be escaped");
	host = strstr(value, "://") + 3;
	len = strcspn(host, "/?#");
	if (len == 0 || *host == ':')
		return bad(why, "the address names no host");
	if (memchr(host, '@', len) != NULL)
		return bad(why, "an address without user name and password is wanted");
	if (value[4] == ':' && !is_loopback(host, len))
		return bad(why,
		    "https is wanted; http is taken on 127.0.0.1, [::1] and localhost only");
	return 0;
}

struct unit {
	const char *text;
	uint64_t factor;
};

static const struct unit durations[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 }, { NULL, 0 }
};
static const struct unit sizes[] = {
	{ "", 1 }, { "K", 1 << 10 }, { "M", 1 << 20 }, { "G", 1 << 30 }, { NULL, 0 }
};

/* 0, -1 no number, -2 no such unit, -3 beyond 2^62. */
static int
parse_with_unit(const char *text, const struct unit *units, uint64_t *out)
{
	const char *p = text;
	uint64_t v = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (uint64_t)(*p - '0');
		if (v > (uint64_t)1 << 62)
			return -3;
	}
	if (p == text)
		return -1;
	for (; units->text != NULL; units++) {
		if (strcmp(p, units->text) != 0)
			continue;
		if (v > ((uint64_t)1 << 62) / units->factor)
			return -3;
		*out = v * units->factor;
		return 0;
	}
	return -2;
}

int
conf_parse_duration(const char *text, int64_t *ms, char why[CONF_WHY_LEN])
{
	uint64_t v = 0;
	int verdict = strcmp(text, "0") == 0 ? 0 : parse_with_unit(text, durations, &v);

	*ms = (int64_t)v;
	if (verdict == -3)
		return bad(why, "the duration is too long");
	return verdict == 0 ? 0 : bad(why,
	    "a whole number with one of the units ms, s, m, h, d is wanted");
}

int
conf_parse_size(const char *text, uint64_t *bytes, char why[CONF_WHY_LEN])
{
	int verdict = parse_with_unit(text, sizes, bytes);

	if (verdict == -3)
		return bad(why, "the size is too large");
	return verdict == 0 ? 0 : bad(why,
	    "a whole number of bytes, or with one of the units K, M, G, is wanted");
}

/* With the largest unit that leaves no rest. */
static void
format_with_unit(uint64_t v, const struct unit *units, char out[24])
{
	const struct unit *best = units;

	for (; units->text != NULL; units++)
		if (v % units->factor == 0 && v >= units->factor)
			best = units;
	(void)snprintf(out, 24, "%llu%s", (unsigned long long)(v / best->factor), best->text);
}

void
conf_format_duration(int64_t ms, char out[24])
{
	if (ms == 0)
		(void)snprintf(out, 24, "0");
	else
		format_with_unit((uint64_t)ms, durations, out);
}

void
conf_format_size(uint64_t bytes, char out[24])
{
	format_with_unit(bytes, sizes, out);
}
