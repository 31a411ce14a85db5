/*
 * condition.c: onlyIf, judged when a command is sent.  Only the storage
 * process.
 *
 * "status.a.b" names a value inside the state that the device reported last;
 * it must be equal as a JSON value (numbers by value, objects without regard
 * to order).  "seenWithinMs" is how long ago the device may have been heard.
 */
#include <jansson.h>
#include <string.h>

#include "storage/storage.h"

static bool
equal(const json_t *a, const json_t *b)
{
	const char *key;
	json_t *v;
	size_t i;

	if (json_is_number(a) && json_is_number(b)) {
		if (json_is_integer(a) && json_is_integer(b))
			return json_integer_value(a) == json_integer_value(b);
		return json_number_value(a) == json_number_value(b);
	}
	if (json_is_array(a) && json_is_array(b)) {
		if (json_array_size(a) != json_array_size(b))
			return false;
		json_array_foreach((json_t *)a, i, v)
			if (!equal(v, json_array_get(b, i)))
				return false;
		return true;
	}
	if (json_is_object(a) && json_is_object(b)) {
		if (json_object_size(a) != json_object_size(b))
			return false;
		json_object_foreach((json_t *)a, key, v) {
			const json_t *other = json_object_get(b, key);

			if (other == NULL || !equal(v, other))
				return false;
		}
		return true;
	}
	return json_equal((json_t *)a, (json_t *)b) == 1;
}

/*
 * The value under a path of names joined by dots; names may hold dots themselves, so the longest
 * match is tried at each step.
 */
static const json_t *
value_at(const json_t *state, const char *path)
{
	const json_t *found = json_object_get(state, path);

	for (const char *dot = path + strlen(path); found == NULL && dot > path; dot--) {
		char name[256];
		const json_t *inner;

		if (*dot != '.' || (size_t)(dot - path) >= sizeof(name))
			continue;
		memcpy(name, path, (size_t)(dot - path));
		name[dot - path] = '\0';
		inner = json_object_get(state, name);
		if (json_is_object(inner))
			found = value_at(inner, dot + 1);
	}
	return found;
}

static bool
one_met(const char *key, const json_t *wanted, const json_t *state, int64_t last_seen, int64_t now)
{
	if (strcmp(key, "seenWithinMs") == 0)
		return json_is_number(wanted) && last_seen > 0 &&
		    (double)(now - last_seen) <= json_number_value(wanted);
	if (strncmp(key, "status.", 7) == 0) {
		const json_t *is = value_at(state, key + 7);

		return is != NULL && equal(wanted, is);
	}
	return false;
}

bool
condition_met(struct slice only_if_json, const struct db_device *d, int64_t last_seen, int64_t now)
{
	json_t *wanted = json_loadb(only_if_json.p, only_if_json.len, 0, NULL);
	json_t *state = d->state_json.len > 0 ? json_loadb(d->state_json.p, d->state_json.len, 0,
	    NULL) : NULL;
	const char *key;
	json_t *value;
	bool met = json_is_object(wanted);

	json_object_foreach(wanted, key, value)
		met = met && one_met(key, value, state, last_seen, now);
	json_decref(wanted);
	json_decref(state);
	return met;
}
