/*
 * The claims of a verified token: times, parties, and who it stands for.
 * Pure functions over a parsed JSON object; nothing is kept.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "auth/claims.h"
#include "base/text.h"

/* The last second of the year 9999; what is later was meant as milliseconds. */
#define NUMERIC_DATE_MAX 253402300799.0

#define CLAIMS_PATH_MAX 256	/* bytes of one name within a path */

const char *
claims_fault_text(enum claims_fault fault)
{
	static const char *const words[CLAIMS_FAULT_COUNT] = {
#define CLAIMS_FAULT(name, text) text,
#include "auth/claims.def"
#undef CLAIMS_FAULT
	};

	return words[fault];
}

json_t *
claims_parse(struct slice payload)
{
	json_t *claims = json_loadb(payload.p != NULL ? payload.p : "", payload.len,
	    JSON_REJECT_DUPLICATES, NULL);

	if (claims != NULL && !json_is_object(claims)) {
		json_decref(claims);
		return NULL;
	}
	return claims;
}

json_t *
claims_find(json_t *claims, const char *path)
{
	json_t *value = json_object_get(claims, path);
	char name[CLAIMS_PATH_MAX];

	if (value != NULL && !json_is_null(value))
		return value;
	for (const char *dot = strchr(path, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
		if ((size_t)(dot - path) >= sizeof(name))
			return NULL;
		memcpy(name, path, (size_t)(dot - path));
		name[dot - path] = '\0';
		value = json_object_get(claims, name);
		if (json_is_object(value) && (value = claims_find(value, dot + 1)) != NULL)
			return value;
	}
	return NULL;
}

static json_t *
claims_find_first(json_t *claims, const struct claims_paths *paths)
{
	json_t *value;

	for (size_t i = 0; i < paths->n; i++)
		if ((value = claims_find(claims, paths->v[i])) != NULL)
			return value;
	return NULL;
}

const char *
claims_issuer(json_t *claims)
{
	return json_string_value(json_object_get(claims, "iss"));
}

/*
 * RFC 7519 section 2, NumericDate: seconds, perhaps with a fraction.  0, or -1 when it is not one.
 */
static int
claims_time(const json_t *value, int64_t *at_ms)
{
	double seconds;

	if (!json_is_number(value))
		return -1;
	seconds = json_number_value(value);
	if (!(seconds >= -NUMERIC_DATE_MAX && seconds <= NUMERIC_DATE_MAX))
		return -1;
	*at_ms = json_is_integer(value) ? (int64_t)json_integer_value(value) * 1000 :
	    (int64_t)(seconds * 1000);
	return 0;
}

/* nbf and iat: may be missing, may not be later than now. */
static enum claims_fault
claims_check_begin(json_t *claims, const char *name, int64_t leeway_ms, int64_t now_ms)
{
	const json_t *value = json_object_get(claims, name);
	int64_t at_ms;

	if (value == NULL)
		return CLAIMS_OK;
	if (claims_time(value, &at_ms) < 0)
		return CLAIMS_BAD_TIME;
	return at_ms > now_ms + leeway_ms ? CLAIMS_NOT_YET : CLAIMS_OK;
}

static bool
claims_string_is(const json_t *value, const char *text)
{
	return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static enum claims_fault
claims_check_parties(json_t *claims, const struct claims_rules *rules)
{
	const json_t *aud = json_object_get(claims, "aud"), *one;
	bool found;
	size_t i;

	if (rules->issuer != NULL && !claims_string_is(json_object_get(claims, "iss"),
	    rules->issuer))
		return CLAIMS_ISSUER;
	if (rules->audience != NULL) {
		found = claims_string_is(aud, rules->audience);
		json_array_foreach(aud, i, one)
			found = found || claims_string_is(one, rules->audience);
		if (!found)
			return CLAIMS_AUDIENCE;
	}
	if (rules->azp.n > 0) {
		found = false;
		for (i = 0; i < rules->azp.n; i++)
			found = found || claims_string_is(json_object_get(claims, "azp"),
			    rules->azp.v[i]);
		if (!found)
			return CLAIMS_AZP;
	}
	return CLAIMS_OK;
}

/* A string or an integer; 0, or -1 when it is no valid id. */
static int
claims_id(const json_t *value, char *out, size_t max)
{
	char number[24];
	const char *text = json_string_value(value);

	if (json_is_integer(value)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
		    json_integer_value(value));
		text = number;
	}
	if (text == NULL || !text_is_id(slice_of(text), max))
		return -1;
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

/*
 * As an id; and two shapes that stand for the one name in them, as Keycloak writes `organization`:
 * ["acme"] and {"acme": {…}}.  The object's member must be an object, so that a path that ends too
 * early ({"id": "acme"}) does not make "id" everybody's tenant.
 */
static int
claims_tenant(json_t *value, char *out)
{
	void *member;
	const char *name;

	if (json_is_array(value) && json_array_size(value) == 1)
		value = json_array_get(value, 0);
	if (!json_is_object(value) || json_object_size(value) != 1)
		return claims_id(value, out, ID_TENANT_MAX);
	member = json_object_iter(value);
	name = json_object_iter_key(member);
	if (!json_is_object(json_object_iter_value(member)) ||
	    !text_is_id(slice_of(name), ID_TENANT_MAX))
		return -1;
	memcpy(out, name, strlen(name) + 1);
	return 0;
}

static const char *
claims_role_name(const json_t *value)
{
	const char *name = json_string_value(value);

	return name != NULL && strncmp(name, "org:", 4) == 0 ? name + 4 : name;
}

/* A role is a string; of several (an array) the strongest counts, else the first. */
static void
claims_role(const json_t *value, struct identity *out)
{
	const char *name = claims_role_name(value), *one;
	const json_t *element;
	size_t i;

	json_array_foreach(value, i, element) {
		if ((one = claims_role_name(element)) == NULL)
			continue;
		if (name == NULL || strcmp(one, "admin") == 0 ||
		    (strcmp(one, "service") == 0 && strcmp(name, "admin") != 0))
			name = one;
	}
	out->role = ROLE_USER;
	if (name != NULL && strcmp(name, "admin") == 0)
		out->role = ROLE_ADMIN;
	else if (name != NULL && strcmp(name, "service") == 0)
		out->role = ROLE_SERVICE;
	if (name == NULL || !text_is_id(slice_of(name), sizeof(out->role_name) - 1))
		name = "user";
	strcpy(out->role_name, name);
}

bool
claims_within(const struct claims_rules *rules, struct slice tenant, enum role role)
{
	bool fits = rules->tenants.n == 0;

	for (size_t i = 0; i < rules->tenants.n && !fits; i++)
		fits = text_is_like(tenant, slice_of(rules->tenants.v[i]));
	return fits && !(rules->no_roles && (role == ROLE_ADMIN || role == ROLE_SERVICE));
}

static enum claims_fault
claims_check_ids(json_t *claims, const struct claims_rules *rules, struct identity *out)
{
	json_t *tenant = claims_find_first(claims, &rules->tenant), *user;
	json_t *device = json_object_get(claims, "device");

	if (tenant == NULL) {
		if (rules->default_tenant == NULL || (device != NULL && !json_is_null(device)))
			return CLAIMS_NO_TENANT;
		strcpy(out->tenant, rules->default_tenant);
	} else if (claims_tenant(tenant, out->tenant) < 0) {
		return CLAIMS_BAD_TENANT;
	}
	if (!claims_within(rules, slice_of(out->tenant), ROLE_USER))
		return CLAIMS_FOREIGN_TENANT;
	if (device != NULL && !json_is_null(device)) {
		out->role = ROLE_DEVICE;
		strcpy(out->role_name, "device");
		return claims_id(device, out->user, ID_DEVICE_MAX) < 0 ? CLAIMS_BAD_DEVICE :
		    CLAIMS_OK;
	}
	if ((user = claims_find_first(claims, &rules->user)) == NULL)
		return CLAIMS_NO_USER;
	if (claims_id(user, out->user, ID_USER_MAX) < 0 ||
	    strncmp(out->user, ID_KEY_PREFIX, sizeof(ID_KEY_PREFIX) - 1) == 0)
		return CLAIMS_BAD_USER;
	claims_role(rules->no_roles ? NULL : claims_find_first(claims, &rules->role), out);
	return CLAIMS_OK;
}

enum claims_fault
claims_check(json_t *claims, const struct claims_rules *rules, int64_t now_ms, struct identity *out,
    int64_t *expires_ms)
{
	const json_t *exp = json_object_get(claims, "exp");
	enum claims_fault fault;

	memset(out, 0, sizeof(*out));
	if ((fault = claims_check_parties(claims, rules)) != CLAIMS_OK)
		return fault;
	if (exp == NULL)
		return CLAIMS_NO_EXP;
	if (claims_time(exp, expires_ms) < 0)
		return CLAIMS_BAD_EXP;
	if ((fault = claims_check_begin(claims, "nbf", rules->leeway_ms, now_ms)) != CLAIMS_OK ||
	    (fault = claims_check_begin(claims, "iat", rules->leeway_ms, now_ms)) != CLAIMS_OK)
		return fault;
	if ((fault = claims_check_ids(claims, rules, out)) != CLAIMS_OK)
		return fault;
	out->expires_ms = *expires_ms;
	return now_ms >= *expires_ms + rules->leeway_ms ? CLAIMS_EXPIRED : CLAIMS_OK;
}
