/*
 * json_fuzz.c: our JSON scanner against jansson.
 *
 * Both must take the same texts and read the same out of them, except that jansson also refuses numbers out of
 * range, and duplicate keys as it is asked to here; and that it takes a NUL byte for the end of the text.
 */
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
compare(struct json_value v, json_t *j, struct buf *scratch)
{
	struct json_value key, member;
	struct json_iter it;
	struct slice s;
	size_t n = 0;
	int64_t i64;
	bool b;

	switch (v.kind) {
	case JSON_KIND_NULL:
		must(json_is_null(j));
		break;
	case JSON_KIND_BOOL:
		must(json_bool(v, &b) == 0 && json_is_boolean(j) && b == json_is_true(j));
		break;
	case JSON_KIND_NUMBER:
		must(json_is_number(j));
		if (json_is_integer(j))
			must(json_i64(v, &i64) == 0 && i64 == json_integer_value(j));
		else if (json_i64(v, &i64) == 0)
			must((double)i64 == json_real_value(j));
		break;
	case JSON_KIND_STRING:
		buf_clear(scratch);
		must(json_is_string(j) && json_text(v, scratch, &s) == 0);
		must(s.len == json_string_length(j) && memcmp(s.p, json_string_value(j), s.len) == 0);
		must(json_text_is(v, json_string_value(j)));
		break;
	case JSON_KIND_ARRAY:
		must(json_is_array(j));
		json_iter_init(&it, v);
		for (n = 0; json_array_next(&it, &member); n++)
			compare(member, json_array_get(j, n), scratch);
		must(n == json_array_size(j));
		break;
	case JSON_KIND_OBJECT:
		must(json_is_object(j));
		json_iter_init(&it, v);
		for (n = 0; json_object_next(&it, &key, &member); n++) {
			struct json_value found;
			struct buf name = BUF_INIT;
			json_t *theirs;

			buf_clear(scratch);
			must(json_text(key, scratch, &s) == 0);
			buf_put_slice(&name, s);
			buf_putc(&name, '\0');
			theirs = json_object_get(j, name.data);
			must(theirs != NULL);
			must(json_get(v, name.data, &found) == 0 && found.raw.p == member.raw.p);
			buf_fini(&name);
			compare(member, theirs, scratch);
		}
		must(n == json_object_size(j));
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = { (const char *)data, size };
	struct buf scratch = BUF_INIT;
	struct json_fault fault;
	struct json_value v;
	json_error_t error;
	json_t *j;
	int rc;

	rc = json_parse_flags(text, 128, 0, &v, &fault);
	must(rc == 0 || (fault.reason != NULL && fault.offset <= size));
	if (rc == 0)
		must(json_parse_flags(text, 128, JSON_UTF8_CHECKED, &v, NULL) == 0);
	if (rc != 0 && strcmp(fault.reason, "nested too deeply") == 0)
		return 0;
	if (size > 0 && memchr(data, 0, size) != NULL) {
		must(rc != 0);
		return 0;
	}
	j = json_loadb(size > 0 ? text.p : "", size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	if (j == NULL)
		must(rc != 0 || json_error_code(&error) == json_error_numeric_overflow ||
		    json_error_code(&error) == json_error_duplicate_key);
	else
		must(rc == 0);
	if (j != NULL)
		compare(v, j, &scratch);
	json_decref(j);
	buf_fini(&scratch);
	return 0;
}
