/*
 * json.c: the JSON scanner: what it takes and refuses, what it reads out, and that it never looks past the text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

/* Parses a copy of exactly the text's size, so that a sanitizer sees a read past its end. */
static int
parse(struct slice text, unsigned depth, enum json_kind *kind, struct json_fault *fault)
{
	char *copy = malloc(text.len > 0 ? text.len : 1);
	struct json_value v;
	int rc;

	assert_non_null(copy);
	if (text.len > 0)
		memcpy(copy, text.p, text.len);
	rc = json_parse_flags((struct slice){ copy, text.len }, depth, 0, &v, fault);
	if (rc == 0 && kind != NULL)
		*kind = v.kind;
	free(copy);
	return rc;
}

static const struct {
	const char *text;
	enum json_kind kind;
} valid[] = {
	{ "{}", JSON_KIND_OBJECT }, { " \t\r\n{ } \n", JSON_KIND_OBJECT }, { "[]", JSON_KIND_ARRAY },
	{ "null", JSON_KIND_NULL }, { "true", JSON_KIND_BOOL }, { "false", JSON_KIND_BOOL },
	{ "0", JSON_KIND_NUMBER }, { "-0", JSON_KIND_NUMBER }, { "-0.0e-0", JSON_KIND_NUMBER },
	{ "10", JSON_KIND_NUMBER }, { "1.5", JSON_KIND_NUMBER }, { "1E+9", JSON_KIND_NUMBER },
	{ "1e999999", JSON_KIND_NUMBER }, { "123456789012345678901234567890", JSON_KIND_NUMBER },
	{ "\"\"", JSON_KIND_STRING }, { "\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\"", JSON_KIND_STRING },
	{ "\"\\u0041\\uD83D\\uDE00\\udbff\\udfff\\uffff\"", JSON_KIND_STRING },
	{ "\"\x7f\"", JSON_KIND_STRING },
	{ "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
	    JSON_KIND_STRING },
	{ "[1, [2, {\"a\":[]}], {}, \"x\", null, true, -1.5e3]", JSON_KIND_ARRAY },
	{ "{\"a\":1,\"a\":2}", JSON_KIND_OBJECT },
	{ "{\"\":{\"b\" : [ ] } , \"c\":{}}", JSON_KIND_OBJECT },
	{ "[\"12345678901234567890123456789012345678\"]", JSON_KIND_ARRAY },
};

static const char *const invalid[] = {
	"", " ", "{", "}", "[", "]", "{]", "[}", "[1,]", "[,1]", "[1 2]", "[1,,2]", "{,}", "{\"a\"}",
	    "{\"a\":}",
	"{\"a\":1,}", "{\"a\" 1}", "{a:1}", "{'a':1}", "{1:1}", "{\"a\":1 \"b\":2}", "{\"a\":1}}", "[1]]",
	    "1 2",
	"{}x", "nul", "nulll", "True", "NULL", "tru", "falsee", "nan", "Infinity", "-Infinity", "undefined",
	"01", "-01", "-", "+1", ".5", "1.", "1.e1", "1e", "1e+", "0x10", "1_000", "--1", "1.5.5", "1e1.5",
	    "- 1",
	"\"", "\"a", "\"\\", "\"\\\"", "\"\\x41\"", "\"\\u\"", "\"\\u12\"", "\"\\u123\"", "\"\\u123g\"",
	"\"\\U0041\"", "\"\\u0000\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\ud800\"", "\"\\ud800x\"",
	"\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\ud83d\\ude0\"", "\"a\nb\"", "\"a\tb\"", "\"\x01\"",
	    "\"\x1f\"",
	"\"1234567\x1f\"", "\"1234567890\n\"", "'a'", "\xef\xbb\xbf{}", "/**/{}", "{}//", "[1]\x0b",
	    "\xc2\xa0{}",
	"\"\x80\"", "\"\xc0\x80\"", "\"\xc1\xbf\"", "\"\xc2\"", "\"\xc2\x41\"", "\"\xe0\x9f\xbf\"",
	"\"\xed\xa0\x80\"", "\"\xed\xbf\xbf\"", "\"\xe2\x82\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"",
	"\"\xf5\x80\x80\x80\"", "\"\xff\"", "\"\xf0\x9f\x98\"", "[\"a\",", "{\"a\":[1,{\"b\":2]}", "[1:2]",
	"{\"a\",1}", "[\"\\u00e9\\\"]", "\xff", "[1\xff]", "{\"a\":\"b\"", "{\"a\":\"b\",", "{\"a\":\"b\",\"",
};

static void
test_valid(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++) {
		struct json_fault fault;
		enum json_kind kind;

		if (parse(slice_of(valid[i].text), 32, &kind, &fault) != 0)
			fail_msg("%s: %s at %zu", valid[i].text, fault.reason, fault.offset);
		assert_int_equal(kind, valid[i].kind);
	}
}

static void
test_invalid(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++) {
		struct json_fault fault = { NULL, 99999 };

		if (parse(slice_of(invalid[i]), 32, NULL, &fault) == 0)
			fail_msg("taken: %s", invalid[i]);
		assert_non_null(fault.reason);
		assert_true(fault.offset <= strlen(invalid[i]));
	}
	assert_int_equal(parse(SLICE("\"a\0b\""), 32, NULL, NULL), -1);
	assert_int_equal(parse(SLICE("{}\0"), 32, NULL, NULL), -1);
	assert_int_equal(parse(SLICE_NONE, 32, NULL, NULL), -1);
}

/* No proper beginning of an object, array or string is valid, at whatever byte it is cut. */
static void
test_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++) {
		struct slice s = slice_of(valid[i].text);

		if (valid[i].kind < JSON_KIND_STRING)
			continue;
		while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\n'))
			s.len--;
		while (s.len-- > 0)
			assert_int_equal(parse(s, 32, NULL, NULL), -1);
	}
}

static void
test_fault(void **state)
{
	struct json_fault fault;

	(void)state;
	assert_int_equal(parse(SLICE("{\"a\":tru}"), 32, NULL, &fault), -1);
	assert_int_equal(fault.offset, 5);
	assert_int_equal(parse(SLICE("{\"a\":1,}"), 32, NULL, &fault), -1);
	assert_int_equal(fault.offset, 7);
	assert_int_equal(parse(SLICE("[\"abc\xff\"]"), 32, NULL, &fault), -1);
	assert_string_equal(fault.reason, "ill-formed UTF-8");
	assert_int_equal(fault.offset, 5);
	assert_int_equal(parse(SLICE("[1"), 32, NULL, &fault), -1);
	assert_string_equal(fault.reason, "unexpected end");
}

static void
test_depth(void **state)
{
	char text[2 * 600];

	(void)state;
	for (unsigned depth = 1; depth <= 520; depth++) {
		for (unsigned i = 0; i < depth; i++) {
			text[i] = '[';
			text[2 * depth - 1 - i] = ']';
		}
		struct slice s = { text, 2 * depth };

		assert_int_equal(parse(s, 32, NULL, NULL), depth <= 32 ? 0 : -1);
		assert_int_equal(parse(s, 1000, NULL, NULL), depth <= JSON_DEPTH_MAX ? 0 : -1);
	}
	assert_int_equal(parse(SLICE("1"), 0, NULL, NULL), 0);
	assert_int_equal(parse(SLICE("[]"), 0, NULL, NULL), -1);
	assert_int_equal(parse(SLICE("[{\"a\":[{}]},[[{}]]]"), 4, NULL, NULL), 0);
}

static void
test_utf8_checked(void **state)
{
	struct json_value v;

	(void)state;
	assert_int_equal(json_parse_flags(SLICE("\"\xc3\xa9\""), 1, JSON_UTF8_CHECKED, &v, NULL), 0);
	assert_int_equal(json_parse_flags(SLICE("\"\x01\""), 1, JSON_UTF8_CHECKED, &v, NULL), -1);
}

static void
test_iterate(void **state)
{
	static const char text[] = " { \"a\" : [ 1 , \"]}\\\"\" , { } ] ,"
	    "\"b\\u0063\":\"x\", \"d\":-1.5e3,\"e\":null } ";
	struct json_value v, key, value;
	struct json_iter it, array;

	(void)state;
	assert_int_equal(json_parse(SLICE(text), 8, &v), 0);
	assert_true(v.raw.p[0] == '{' && v.raw.p[v.raw.len - 1] == '}');
	json_iter_init(&it, v);
	assert_true(json_object_next(&it, &key, &value));
	assert_true(slice_is(key.raw, "\"a\""));
	assert_true(slice_is(value.raw, "[ 1 , \"]}\\\"\" , { } ]"));
	json_iter_init(&array, value);
	assert_true(json_array_next(&array, &value) && slice_is(value.raw, "1"));
	assert_int_equal(value.kind, JSON_KIND_NUMBER);
	assert_true(json_array_next(&array, &value) && slice_is(value.raw, "\"]}\\\"\""));
	assert_true(json_array_next(&array, &value) && slice_is(value.raw, "{ }"));
	assert_false(json_array_next(&array, &value));
	assert_false(json_array_next(&array, &value));
	assert_true(json_object_next(&it, &key, &value));
	assert_true(json_text_is(key, "bc"));
	assert_false(json_text_is(key, "b\\u0063"));
	assert_false(json_text_is(key, "b"));
	assert_false(json_text_is(key, "bcd"));
	assert_true(json_object_next(&it, &key, &value) && slice_is(value.raw, "-1.5e3"));
	assert_true(json_object_next(&it, &key, &value) && value.kind == JSON_KIND_NULL);
	assert_false(json_object_next(&it, &key, &value));

	assert_int_equal(json_get(v, "bc", &value), 0);
	assert_true(slice_is(value.raw, "\"x\""));
	assert_int_equal(json_get(v, "z", &value), -1);
	assert_int_equal(json_get(value, "z", &value), -1);
	json_iter_init(&it, value);		/* of a string: nothing */
	assert_false(json_array_next(&it, &value));
}

static void
test_text(void **state)
{
	static const struct { const char *json, *text; } cases[] = {
		{ "\"\"", "" }, { "\"abc\"", "abc" }, { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t" },
		{ "\"\\u0001\\u007f\\u0080\\u07ff\\u0800\\uffff\"",
		    "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf" },
		{ "\"x\\uD83D\\uDE00y\"", "x\xf0\x9f\x98\x80y" }, { "\"\\ud800\\udc00\"", "\xf0\x90\x80\x80" },
		{ "\"\\uDBFF\\uDFFF\"", "\xf4\x8f\xbf\xbf" }, { "\"\\u00e9t\xc3\xa9\"", "\xc3\xa9t\xc3\xa9" },
	};
	struct buf scratch = BUF_INIT;
	struct json_value v;
	struct slice s;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct slice json = slice_of(cases[i].json);

		assert_int_equal(json_parse(json, 1, &v), 0);
		assert_int_equal(json_text(v, &scratch, &s), 0);
		assert_true(slice_is(s, cases[i].text));
		assert_true(json_text_is(v, cases[i].text));
		if (strchr(cases[i].json, '\\') == NULL)
			assert_true(s.p == json.p + 1);
	}
	assert_int_equal(json_parse(SLICE("1"), 1, &v), 0);
	assert_int_equal(json_text(v, &scratch, &s), -1);
	buf_fini(&scratch);
}

static void
test_i64(void **state)
{
	static const struct { const char *json; int rc; int64_t value; } cases[] = {
		{ "0", 0, 0 }, { "-0", 0, 0 }, { "0.000", 0, 0 }, { "0e999999999999999999999", 0, 0 },
		{ "-1", 0, -1 }, { "1.0", 0, 1 }, { "1e3", 0, 1000 }, { "1.5e1", 0, 15 }, { "1.5", -1, 0 },
		{ "15e-1", -1, 0 }, { "150e-1", 0, 15 }, { "1500.00e-2", 0, 15 }, { "0.05e2", 0, 5 },
		{ "0.05E+1", -1, 0 }, { "9223372036854775807", 0, INT64_MAX }, { "9223372036854775808", -1, 0 },
		{ "-9223372036854775808", 0, INT64_MIN }, { "-9223372036854775809", -1, 0 },
		{ "18446744073709551616", -1, 0 }, { "1e18", 0, INT64_C(1000000000000000000) }, { "1e19", -1,
		    0 },
		{ "1e999999999999999999999", -1, 0 }, { "1e-999999999999999999999", -1, 0 },
		{ "1000000000000000000000000e-20", 0, 10000 }, { "0.00000000000000000000000001e28", 0, 100 },
		{ "922337203685477580.7e1", 0, INT64_MAX }, { "\"1\"", -1, 0 }, { "true", -1, 0 },
		{ "1234567890123456789.5", -1, 0 }, { "30000", 0, 30000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct json_value v;
		int64_t n = 0;

		assert_int_equal(json_parse(slice_of(cases[i].json), 1, &v), 0);
		if (json_i64(v, &n) != cases[i].rc || n != cases[i].value)
			fail_msg("%s: %lld", cases[i].json, (long long)n);
	}
}

static void
test_bool(void **state)
{
	struct json_value v;
	bool b = false;

	(void)state;
	assert_int_equal(json_parse(SLICE("true"), 1, &v), 0);
	assert_true(json_bool(v, &b) == 0 && b);
	assert_int_equal(json_parse(SLICE("false"), 1, &v), 0);
	assert_true(json_bool(v, &b) == 0 && !b);
	assert_int_equal(json_parse(SLICE("null"), 1, &v), 0);
	assert_int_equal(json_bool(v, &b), -1);
}

static void
test_canonical(void **state)
{
	static const struct { const char *json, *text; } cases[] = {
		{ " { \"b\" : [ 1 , 2.0 ] , \"a\" : { } } ", "{\"a\":{},\"b\":[1,2]}" },
		{ "{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}" },
		{ "{\"ab\":1,\"a\":2,\"\":3}", "{\"\":3,\"a\":2,\"ab\":1}" },
		{ "\"\\u0041\\/\\ud83d\\ude00\"", "\"A/\xf0\x9f\x98\x80\"" },
		{ "-0", "0" }, { "-0.0", "0" }, { "1e3", "1000" }, { "10.50", "10.5" }, { "1.05E+1", "10.5" },
		{ "9007199254740993.0", "9007199254740993" }, { "-9223372036854775808", "-9223372036854775808" },
		{ "1000000000000000000000000000000", "1e+30" }, { "1e999", "1e999" }, { "1e-999", "0" },
		{ "[true,false,null]", "[true,false,null]" }, { "[]", "[]" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = BUF_INIT;
		struct json_value v, again;

		assert_int_equal(json_parse(slice_of(cases[i].json), 4, &v), 0);
		json_put_canonical(&out, v);
		if (!slice_is(buf_slice(&out), cases[i].text))
			fail_msg("%s: %.*s", cases[i].json, (int)out.len, out.data);
		assert_int_equal(json_parse(buf_slice(&out), 4, &again), 0);
		assert_true(json_same(v, again));
		buf_fini(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid), cmocka_unit_test(test_invalid), cmocka_unit_test(test_cut),
		cmocka_unit_test(test_fault), cmocka_unit_test(test_depth), cmocka_unit_test(test_utf8_checked),
		cmocka_unit_test(test_iterate), cmocka_unit_test(test_text), cmocka_unit_test(test_i64),
		cmocka_unit_test(test_bool), cmocka_unit_test(test_canonical),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
