/*
 * condition.c: onlyIf, judged when a command is sent.  Only the storage
 * process.
 *
 * "status.a.b" names a value inside the state that the device reported last;
 * it must be equal as a JSON value (numbers by value, objects without regard
 * to order).  "seenWithinMs" is how long ago the device may have been heard.
 */
#include <string.h>

#include "base/json.h"
#include "storage/storage.h"

/* How many bytes of the path a member's name takes, with the dot behind it; 0: it does not begin so. */
static size_t
part_of(struct slice path, struct slice name)
{
	if (path.len < name.len || (name.len > 0 && memcmp(path.p, name.p, name.len) != 0))
		return 0;
	if (path.len == name.len)
		return name.len;
	return path.p[name.len] == '.' ? name.len + 1 : 0;
}

/*
 * The value under a path of names joined by dots.  Names may hold dots themselves, so the longest that
 * leads to a value counts, and of several members of one name the last.
 */
static bool
value_at(struct json_value state, struct slice path, struct json_value *found)
{
	struct buf text = BUF_INIT;
	struct json_value key, member, inner;
	struct json_iter it;
	struct slice name;
	size_t best = 0, n;

	json_iter_init(&it, state);
	while (json_object_next(&it, &key, &member)) {
		buf_clear(&text);
		(void)json_text(key, &text, &name);
		if ((n = part_of(path, name)) == 0 || n < best)
			continue;
		if (n == path.len && name.len == n)
			inner = member;
		else if (member.kind != JSON_KIND_OBJECT ||
		    !value_at(member, slice_bytes(path.p + n, path.len - n), &inner))
			continue;
		best = n;
		*found = inner;
	}
	buf_fini(&text);
	return best > 0;
}

static bool
one_met(struct slice name, struct json_value wanted, struct json_value state, int64_t last_seen, int64_t now)
{
	struct json_value is;
	int64_t ms;

	if (slice_is(name, "seenWithinMs"))
		return json_i64(wanted, &ms) == 0 && last_seen > 0 && now - last_seen <= ms;
	return name.len > 7 && memcmp(name.p, "status.", 7) == 0 &&
	    value_at(state, slice_bytes(name.p + 7, name.len - 7), &is) && json_same(wanted, is);
}

bool
condition_met(struct slice only_if_json, const struct db_device *d, int64_t last_seen, int64_t now)
{
	struct json_value wanted, state, key, value;
	struct buf text = BUF_INIT;
	struct json_iter it;
	struct slice name;
	bool met = true;

	if (json_parse(only_if_json, JSON_DEPTH_MAX, &wanted) == -1 || wanted.kind != JSON_KIND_OBJECT)
		return false;
	if (d->state_json.len == 0 || json_parse(d->state_json, JSON_DEPTH_MAX, &state) == -1)
		state = (struct json_value){ JSON_KIND_OBJECT, SLICE("{}") };
	json_iter_init(&it, wanted);
	while (met && json_object_next(&it, &key, &value)) {
		buf_clear(&text);
		(void)json_text(key, &text, &name);
		met = one_met(name, value, state, last_seen, now);
	}
	buf_fini(&text);
	return met;
}
