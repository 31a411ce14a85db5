/*
 * envelope.c: messages and request bodies against their schemas: what is taken, which fault is told, and what is
 * written back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "msg/envelope.h"

#define UUID_A "0198f2d4-7a10-7000-8000-0123456789ab"

#define D ENVELOPE_FROM_DEVICE
#define U ENVELOPE_FROM_USER
#define S ENVELOPE_FROM_SERVER

static const struct {
	enum envelope_side from;
	const char *text;
	enum msg_type type;		/* MSG_TYPE_NONE: refused */
	enum error_code code;
	const char *field;		/* of the fault */
	const char *id;			/* NULL: none */
} messages[] = {
	/* The envelope itself. */
	{ U, "{\"type\":\"ping\"}", MSG_TYPE_ping, ERROR_NONE, "", NULL },
	{ U, "{\"type\":\"ping\",\"id\":\"7\",\"payload\":{}}", MSG_TYPE_ping, ERROR_NONE, "", "7" },
	{ U, " {\"id\":\"\",\"x\":[1],\"type\":\"ping\"} ", MSG_TYPE_ping, ERROR_NONE, "", "" },
	{ U, "{\"t\\u0079pe\":\"p\\u0069ng\",\"id\":\"\\u00e9\\\"\"}", MSG_TYPE_ping, ERROR_NONE, "",
	    "\xc3\xa9\"" },
	{ U, "", 0, ERROR_invalid_json, "", NULL },
	{ U, "hello", 0, ERROR_invalid_json, "", NULL },
	{ U, "{\"type\":\"ping\",}", 0, ERROR_invalid_json, "", NULL },
	{ U, "{\"type\":\"ping\",\"id\":\"a\"", 0, ERROR_invalid_json, "", NULL },
	{ U, "[]", 0, ERROR_invalid_payload, "", NULL },
	{ U, "\"ping\"", 0, ERROR_invalid_payload, "", NULL },
	{ U, "null", 0, ERROR_invalid_payload, "", NULL },
	{ U, "{}", 0, ERROR_invalid_payload, "type", NULL },
	{ U, "{\"id\":\"a\"}", 0, ERROR_invalid_payload, "type", "a" },
	{ U, "{\"type\":1,\"id\":\"a\"}", 0, ERROR_invalid_payload, "type", "a" },
	{ U, "{\"type\":null}", 0, ERROR_invalid_payload, "type", NULL },
	{ U, "{\"type\":\"\"}", 0, ERROR_unknown_type, "type", NULL },
	{ U, "{\"type\":\"nonsense\",\"id\":\"a\"}", 0, ERROR_unknown_type, "type", "a" },
	{ U, "{\"type\":\"PING\"}", 0, ERROR_unknown_type, "type", NULL },
	{ U, "{\"type\":\"ping\",\"type\":\"ping\",\"id\":\"a\"}", 0, ERROR_invalid_payload, "type", "a" },
	{ U, "{\"type\":\"ping\",\"id\":\"a\",\"id\":\"a\"}", 0, ERROR_invalid_payload, "id", NULL },
	{ U, "{\"type\":\"ping\",\"payload\":{},\"payload\":{}}", 0, ERROR_invalid_payload, "payload", NULL },
	{ U, "{\"type\":\"ping\",\"id\":7}", 0, ERROR_invalid_payload, "id", NULL },
	{ U, "{\"type\":\"ping\",\"id\":null}", MSG_TYPE_ping, ERROR_NONE, "", NULL },
	{ U, "{\"type\":\"ping\",\"id\":null,\"id\":\"a\"}", 0, ERROR_invalid_payload, "id", NULL },
	{ U, "{\"type\":\"ping\",\"id\":\"a\\nb\"}", 0, ERROR_invalid_payload, "id", NULL },
	{ U, "{\"type\":\"ping\",\"id\":\"\\u0085\"}", 0, ERROR_invalid_payload, "id", NULL },
	{ U, "{\"type\":\"ping\",\"payload\":[],\"id\":\"a\"}", 0, ERROR_invalid_payload, "payload", "a" },
	{ U, "{\"type\":\"ping\",\"payload\":null}", MSG_TYPE_ping, ERROR_NONE, "", NULL },
	{ U, "{\"type\":\"cancel\",\"payload\":null}", 0, ERROR_invalid_payload, "payload.commandId", NULL },
	{ U, "{\"type\":\"ping\",\"payload\":\"{}\"}", 0, ERROR_invalid_payload, "payload", NULL },
	{ U, "{\"type\":\"ping\",\"id\":\"0123456789012345678901234567890123456789012345678901234567890123\"}",
	    MSG_TYPE_ping, ERROR_NONE, "", "0123456789012345678901234567890123456789012345678901234567890123" },
	{ U, "{\"type\":\"ping\",\"id\":\"01234567890123456789012345678901234567890123456789012345678901234\"}",
	    0, ERROR_invalid_payload, "id", NULL },

	/* Who may send what. */
	{ D, "{\"type\":\"ping\"}", MSG_TYPE_ping, ERROR_NONE, "", NULL },
	{ D, "{\"type\":\"heartbeat\",\"payload\":{\"battery\":81}}", MSG_TYPE_heartbeat, ERROR_NONE, "",
	    NULL },
	{ U, "{\"type\":\"heartbeat\"}", 0, ERROR_unknown_type, "type", NULL },
	{ D, "{\"type\":\"subscribe\",\"payload\":{\"devices\":[]}}", 0, ERROR_unknown_type, "type", NULL },
	{ D, "{\"type\":\"connected\"}", 0, ERROR_unknown_type, "type", NULL },
	{ S, "{\"type\":\"command\",\"payload\":{}}", 0, ERROR_invalid_payload, "payload.commandId", NULL },
	{ S, "{\"type\":\"ok\",\"re\":\"1\",\"payload\":{\"devices\":null}}", MSG_TYPE_ok, ERROR_NONE, "",
	    NULL },

	/* Fields. */
	{ D, "{\"type\":\"status\",\"payload\":{\"door\":\"open\",\"door\":1}}", MSG_TYPE_status, ERROR_NONE,
	    "", NULL },
	{ D, "{\"type\":\"telemetry\",\"payload\":{\"data\":{\"t\":1}}}", MSG_TYPE_telemetry, ERROR_NONE, "",
	    NULL },
	{ D, "{\"type\":\"telemetry\",\"payload\":{\"data\":[1]}}", 0, ERROR_invalid_payload, "payload.data",
	    NULL },
	{ D, "{\"type\":\"telemetry\",\"id\":\"q\"}", 0, ERROR_invalid_payload, "payload.data", "q" },
	{ D, "{\"type\":\"telemetry\",\"payload\":{\"data\":null}}", 0, ERROR_invalid_payload, "payload.data",
	    NULL },
	{ D, "{\"type\":\"telemetry\",\"payload\":{\"data\":{},\"at\":\"yesterday\"}}", 0,
	    ERROR_invalid_payload,
	    "payload.at", NULL },
	{ D, "{\"type\":\"telemetry\",\"payload\":{\"data\":{},\"at\":null}}", MSG_TYPE_telemetry, ERROR_NONE,
	    "", NULL },
	{ D, "{\"type\":\"telemetry\",\"payload\":{\"data\":{},\"at\":1}}", 0, ERROR_invalid_payload,
	    "payload.at", NULL },
	{ D, "{\"type\":\"telemetry\",\"payload\":{\"data\":{},\"d\\u0061ta\":{}}}", 0, ERROR_invalid_payload,
	    "payload.data", NULL },
	{ D,
	    "{\"type\":\"event\",\"payload\":{\"event\":\"motion_detected\",\"at\":\"2026-01-31T12:00:00.123Z\"}}",
	    MSG_TYPE_event, ERROR_NONE, "", NULL },
	{ D, "{\"type\":\"event\",\"payload\":{\"event\":\"x_anything.of-its:own\"}}", MSG_TYPE_event,
	    ERROR_NONE, "", NULL },
	{ D, "{\"type\":\"event\",\"payload\":{\"event\":\"x_\"}}", 0, ERROR_invalid_payload, "payload.event",
	    NULL },
	{ D, "{\"type\":\"event\",\"payload\":{\"event\":\"x_A\"}}", 0, ERROR_invalid_payload, "payload.event",
	    NULL },
	{ D, "{\"type\":\"event\",\"payload\":{\"event\":\"command_executed\"}}", 0, ERROR_invalid_payload,
	    "payload.event", NULL },
	{ D, "{\"type\":\"event\",\"payload\":{\"event\":\"whatever\"}}", 0, ERROR_invalid_payload,
	    "payload.event", NULL },
	{ D,
	    "{\"type\":\"command_ack\",\"id\":\"9\",\"payload\":{\"commandId\":\"" UUID_A "\",\"status\":\"executed\","
	    "\"result\":[1,null]}}", MSG_TYPE_command_ack, ERROR_NONE, "", "9" },
	{ D, "{\"type\":\"command_ack\",\"payload\":{\"status\":\"executed\"}}", 0, ERROR_invalid_payload,
	    "payload.commandId", NULL },
	{ D, "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"7\",\"status\":\"executed\"}}", 0,
	    ERROR_invalid_payload, "payload.commandId", NULL },
	{ D, "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"" UUID_A "\"}}", 0, ERROR_invalid_payload,
	    "payload.status", NULL },
	{ D, "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"" UUID_A "\",\"status\":\"done\"}}", 0,
	    ERROR_invalid_payload, "payload.status", NULL },
	{ D, "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"" UUID_A "\",\"status\":\"failed\","
	    "\"error\":7}}", 0, ERROR_invalid_payload, "payload.error", NULL },
	{ D, "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"" UUID_A "\",\"status\":\"failed\","
	    "\"error\":{\"message\":\"m\"}}}", 0, ERROR_invalid_payload, "payload.error.code", NULL },
	{ D, "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"" UUID_A "\",\"status\":\"failed\","
	    "\"error\":{\"code\":\"c\",\"code\":\"d\"}}}", 0, ERROR_invalid_payload, "payload.error.code",
	    NULL },
	{ D, "{\"type\":\"visitor\"}", MSG_TYPE_visitor, ERROR_NONE, "", NULL },
	{ D, "{\"type\":\"visitor\",\"payload\":{\"name\":\"Ada\",\"snapshotUrl\":\"https://x/y.jpg\"}}",
	    MSG_TYPE_visitor, ERROR_NONE, "", NULL },
	{ D, "{\"type\":\"visitor\",\"payload\":{\"snapshotUrl\":\"javascript:alert(1)\"}}", 0,
	    ERROR_invalid_payload,
	    "payload.snapshotUrl", NULL },
	{ D, "{\"type\":\"visitor\",\"payload\":{\"snapshotUrl\":\"//evil/x\"}}", 0, ERROR_invalid_payload,
	    "payload.snapshotUrl", NULL },
	{ D, "{\"type\":\"visitor\",\"payload\":{\"name\":\"a\\nb\"}}", 0, ERROR_invalid_payload,
	    "payload.name", NULL },
	{ U, "{\"type\":\"subscribe\",\"payload\":{\"devices\":[\"d1\",\"a.b_c:d@e|f+g=h-i\"]}}",
	    MSG_TYPE_subscribe,
	    ERROR_NONE, "", NULL },
	{ U, "{\"type\":\"subscribe\",\"payload\":{\"devices\":null}}", MSG_TYPE_subscribe, ERROR_NONE, "",
	    NULL },
	{ U, "{\"type\":\"subscribe\"}", 0, ERROR_invalid_payload, "payload.devices", NULL },
	{ U, "{\"type\":\"subscribe\",\"payload\":{\"devices\":\"d1\"}}", 0, ERROR_invalid_payload,
	    "payload.devices", NULL },
	{ U, "{\"type\":\"subscribe\",\"payload\":{\"devices\":[\"d1\",\"d 2\"]}}", 0, ERROR_invalid_payload,
	    "payload.devices[1]", NULL },
	{ U, "{\"type\":\"subscribe\",\"payload\":{\"devices\":[\"d1\",2]}}", 0, ERROR_invalid_payload,
	    "payload.devices[1]", NULL },
	{ U, "{\"type\":\"unsubscribe\",\"payload\":{\"devices\":null}}", 0, ERROR_invalid_payload,
	    "payload.devices", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d1\",\"command\":\"unlock_door\"}}",
	    MSG_TYPE_command,
	    ERROR_NONE, "", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"command\":\"unlock_door\"},\"id\":\"c\"}", 0,
	    ERROR_invalid_payload,
	    "payload.deviceId", "c" },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"\",\"command\":\"u\"}}", 0,
	    ERROR_invalid_payload,
	    "payload.deviceId", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"rm -rf\"}}", 0,
	    ERROR_invalid_payload,
	    "payload.command", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"timeoutMs\":999}}", 0,
	    ERROR_invalid_payload, "payload.timeoutMs", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"timeoutMs\":300001}}",
	    0,
	    ERROR_invalid_payload, "payload.timeoutMs", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"timeoutMs\":1500.5}}",
	    0,
	    ERROR_invalid_payload, "payload.timeoutMs", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"timeoutMs\":\"5000\"}}",
	    0,
	    ERROR_invalid_payload, "payload.timeoutMs", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"queueMs\":-1}}", 0,
	    ERROR_invalid_payload, "payload.queueMs", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"queueMs\":2592000000}}",
	    MSG_TYPE_command, ERROR_NONE, "", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"queueMs\":2592000001}}",
	    0,
	    ERROR_invalid_payload, "payload.queueMs", NULL },
	{ U, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"params\":[]}}", 0,
	    ERROR_invalid_payload, "payload.params", NULL },
	{ U,
	    "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"onlyIf\":{\"status.door\":"
	    "\"closed\",\"seenWithinMs\":10000}}}", MSG_TYPE_command, ERROR_NONE, "", NULL },
	{ U,
	    "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"onlyIf\":{\"door\":1}}}",
	    0,
	    ERROR_invalid_payload, "payload.onlyIf", NULL },
	{ U,
	    "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"onlyIf\":{\"status.\":1}}}", 0,
	    ERROR_invalid_payload, "payload.onlyIf", NULL },
	{ U,
	    "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"onlyIf\":{\"seenWithinMs\":"
	    "\"1\"}}}", 0, ERROR_invalid_payload, "payload.onlyIf.seenWithinMs", NULL },
	{ U,
	    "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\",\"idempotencyKey\":\"\"}}",
	    0,
	    ERROR_invalid_payload, "payload.idempotencyKey", NULL },
	{ U, "{\"type\":\"cancel\",\"payload\":{\"commandId\":\"" UUID_A "\"}}", MSG_TYPE_cancel, ERROR_NONE,
	    "", NULL },
	{ U, "{\"type\":\"visitor_decide\",\"payload\":{\"visitorId\":\"" UUID_A "\",\"decision\":\"maybe\"}}",
	    0,
	    ERROR_invalid_payload, "payload.decision", NULL },
	{ U, "{\"type\":\"auth\",\"payload\":{\"token\":\"a.b.c\"}}", MSG_TYPE_auth, ERROR_NONE, "", NULL },
	{ U, "{\"type\":\"auth\",\"payload\":{\"token\":\"\"}}", 0, ERROR_invalid_payload, "payload.token",
	    NULL },
	{ U, "{\"type\":\"auth\",\"payload\":{\"token\":{}}}", 0, ERROR_invalid_payload, "payload.token",
	    NULL },
};

/* A copy of exactly the text's size: a sanitizer sees a read past its end. */
static struct slice
copy_of(const char *text)
{
	size_t len = strlen(text);
	char *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, text, len);
	return (struct slice){ copy, len };
}

static void
test_messages(void **state)
{
	struct envelope e;

	(void)state;
	envelope_init(&e);
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		struct envelope_fault fault = { ERROR_NONE, "", "", 0 };
		struct slice text = copy_of(messages[i].text);
		int rc = envelope_parse(&e, text, messages[i].from, &fault);

		if ((rc == 0) != (messages[i].type != MSG_TYPE_NONE) || (rc == 0 &&
		    e.type != messages[i].type) ||
		    fault.code != messages[i].code || strcmp(fault.field, messages[i].field) != 0)
			fail_msg("%s: %d, type %d, code %s, field %s, %s", messages[i].text, rc, e.type,
			    error_name(fault.code), fault.field, fault.message);
		if (messages[i].id == NULL ? e.id.p != NULL : e.id.p == NULL || !slice_is(e.id, messages[i].id))
			fail_msg("%s: id", messages[i].text);
		free((char *)text.p);
	}
	envelope_fini(&e);
}

/* However a message is cut, it is invalid_json and nothing is read past the cut. */
static void
test_cut(void **state)
{
	struct envelope_fault fault;
	struct envelope e;

	(void)state;
	envelope_init(&e);
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		size_t len = strlen(messages[i].text);

		if (messages[i].code == ERROR_invalid_json || len == 0 || messages[i].text[len - 1] == ' ')
			continue;
		for (size_t n = 0; n < len; n++) {
			char *cut = malloc(n > 0 ? n : 1);

			memcpy(cut, messages[i].text, n);
			if (messages[i].text[0] != 'n')
				assert_int_equal(envelope_parse(&e, (struct slice){ cut, n }, messages[i].from,
				    &fault), -1);
			free(cut);
		}
	}
	envelope_fini(&e);
}

static int
parse(struct envelope *e, const char *text, enum envelope_side from, struct envelope_fault *fault)
{
	return envelope_parse(e, slice_of(text), from, fault);
}

static void
test_command(void **state)
{
	static const char text[] = "{\"type\":\"command\",\"id\":\"c1\",\"payload\":{\"deviceId\":\"front\\u002ddoor\","
	    "\"command\":\"unlock_door\",\"params\":{\"a\":[1, 2]},\"timeoutMs\":5e3,\"idempotencyKey\":\"k\\\"1\","
	    "\"queueMs\":null,\"later\":true}}";
	struct envelope_fault fault;
	struct envelope e;

	(void)state;
	envelope_init(&e);
	assert_int_equal(parse(&e, text, U, &fault), 0);
	assert_true(slice_is(e.field[FIELD_command_deviceId].str, "front-door"));
	assert_true(slice_is(e.field[FIELD_command_command].str, "unlock_door"));
	assert_true(slice_is(e.field[FIELD_command_params].json.raw, "{\"a\":[1, 2]}"));
	assert_true(e.field[FIELD_command_timeoutMs].present);
	assert_int_equal(e.field[FIELD_command_timeoutMs].i64, 5000);
	assert_true(slice_is(e.field[FIELD_command_idempotencyKey].str, "k\"1"));
	assert_false(e.field[FIELD_command_queueMs].present);
	assert_true(e.field[FIELD_command_queueMs].null);
	assert_false(e.field[FIELD_command_onlyIf].present);
	/* The next message leaves nothing of this one. */
	assert_int_equal(parse(&e, "{\"type\":\"command\",\"payload\":{\"deviceId\":\"d\",\"command\":\"u\"}}",
	    U, &fault), 0);
	assert_false(e.field[FIELD_command_params].present);
	assert_int_equal(e.field[FIELD_command_timeoutMs].i64, 0);
	assert_null(e.id.p);
	envelope_fini(&e);
}

static void
test_ack(void **state)
{
	struct envelope_fault fault;
	struct envelope e;
	char id[UUID_TEXT_LEN + 1];

	(void)state;
	envelope_init(&e);
	assert_int_equal(parse(&e, "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"" UUID_A
	    "\",\"status\":\"failed\",\"result\":null,\"error\":\"jam\\tmed\"}}", D, &fault), 0);
	uuid_format(e.field[FIELD_command_ack_commandId].uuid, id);
	assert_string_equal(id, UUID_A);
	assert_int_equal(e.field[FIELD_command_ack_status].i64, CHOICE_ack_status_failed);
	assert_true(e.field[FIELD_command_ack_result].present && e.field[FIELD_command_ack_result].null);
	assert_true(slice_is(e.field[FIELD_command_ack_result].json.raw, "null"));
	assert_true(slice_is(e.field[FIELD_command_ack_error].code, "device_error"));
	assert_true(slice_is(e.field[FIELD_command_ack_error].str, "jam\tmed"));
	assert_int_equal(parse(&e, "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"" UUID_A
	    "\",\"status\":\"unknown\",\"error\":{\"message\":\"m\",\"code\":\"c\",\"x\":1}}}", D, &fault), 0);
	assert_int_equal(e.field[FIELD_command_ack_status].i64, CHOICE_ack_status_unknown);
	assert_true(slice_is(e.field[FIELD_command_ack_error].code, "c"));
	assert_true(slice_is(e.field[FIELD_command_ack_error].str, "m"));
	assert_false(e.field[FIELD_command_ack_result].present);
	assert_int_equal(parse(&e, "{\"type\":\"telemetry\",\"payload\":{\"at\":\"2026-01-31T12:00:00.123Z\","
	    "\"data\":{}}}", D, &fault), 0);
	assert_true(e.field[FIELD_telemetry_at].i64 == INT64_C(1769860800123));
	assert_int_equal(parse(&e, "{\"type\":\"subscribe\",\"payload\":{\"devices\":[\"a\",\"b\"]}}", U,
	    &fault), 0);
	assert_int_equal(e.field[FIELD_subscribe_devices].i64, 2);
	envelope_fini(&e);
}

/* Many texts with escapes in one message: none moves while another is decoded. */
static void
test_scratch(void **state)
{
	struct buf text = BUF_INIT;
	struct envelope_fault fault;
	struct envelope e;

	(void)state;
	envelope_init(&e);
	buf_puts(&text, "{\"\\u0069d\":\"\\u0061\",\"p\\u0061yload\":{\"n\\u0061me\":\"\\u0062");
	for (int i = 0; i < 190; i++)
		buf_puts(&text, "\\u00e9");
	buf_puts(&text, "\",\"sn\\u0061pshotUrl\":\"\\/");
	for (int i = 0; i < 2000; i++)
		buf_puts(&text, "\\u0063");
	buf_puts(&text, "\"},\"type\":\"v\\u0069sitor\"}");
	assert_int_equal(envelope_parse(&e, buf_slice(&text), D, &fault), 0);
	assert_true(slice_is(e.id, "a"));
	assert_int_equal(e.field[FIELD_visitor_name].str.len, 1 + 2 * 190);
	assert_true(e.field[FIELD_visitor_name].str.p[0] == 'b' &&
	    e.field[FIELD_visitor_name].str.p[1] == '\xc3');
	assert_int_equal(e.field[FIELD_visitor_snapshotUrl].str.len, 2001);
	assert_true(e.field[FIELD_visitor_snapshotUrl].str.p[2000] == 'c');
	buf_fini(&text);
	envelope_fini(&e);
}

static void
test_limits(void **state)
{
	struct buf text = BUF_INIT;
	struct envelope_fault fault;
	struct envelope e;

	(void)state;
	envelope_init(&e);
	for (int n = 1000; n <= 1001; n++) {
		buf_clear(&text);
		buf_puts(&text, "{\"type\":\"subscribe\",\"payload\":{\"devices\":[\"d\"");
		for (int i = 1; i < n; i++)
			buf_puts(&text, ",\"d\"");
		buf_puts(&text, "]}}");
		assert_int_equal(envelope_parse(&e, buf_slice(&text), U, &fault), n == 1000 ? 0 : -1);
	}
	assert_string_equal(fault.field, "payload.devices");
	for (int n = 64; n <= 65; n++) {
		buf_clear(&text);
		buf_printf(&text,
		    "{\"type\":\"command\",\"payload\":{\"command\":\"u\",\"deviceId\":\"%0*d\"}}", n, 0);
		assert_int_equal(envelope_parse(&e, buf_slice(&text), U, &fault), n == 64 ? 0 : -1);
	}
	/* 32 levels are taken, the envelope and the payload among them. */
	for (int n = 29; n <= 30; n++) {
		buf_clear(&text);
		buf_puts(&text, "{\"type\":\"telemetry\",\"payload\":{\"data\":{\"a\":");
		for (int i = 0; i < n; i++)
			buf_putc(&text, '[');
		for (int i = 0; i < n; i++)
			buf_putc(&text, ']');
		buf_puts(&text, "}}}");
		assert_int_equal(envelope_parse(&e, buf_slice(&text), D, &fault), n == 29 ? 0 : -1);
	}
	assert_int_equal(fault.code, ERROR_invalid_json);
	buf_fini(&text);
	envelope_fini(&e);
}

static void
test_put(void **state)
{
	struct envelope_fault fault;
	struct buf out = BUF_INIT;
	struct envelope e;

	(void)state;
	envelope_init(&e);
	envelope_put(&out, "ok", SLICE_NONE, SLICE_NONE, SLICE_NONE);
	assert_true(slice_is(buf_slice(&out), "{\"type\":\"ok\",\"payload\":{}}"));
	buf_clear(&out);
	envelope_put(&out, "resumed", SLICE("a\"b"), SLICE("{\"replayed\":1}"), SLICE("c1"));
	assert_true(slice_is(buf_slice(&out),
	    "{\"type\":\"resumed\",\"re\":\"a\\\"b\",\"payload\":{\"replayed\":1},\"cursor\":\"c1\"}"));
	assert_int_equal(envelope_parse(&e, buf_slice(&out), S, &fault), 0);

	buf_clear(&out);
	envelope_fault_set(&fault, ERROR_invalid_payload, "payload.commandId", "required");
	envelope_error_put(&out, SLICE("7"), &fault);
	assert_true(slice_is(buf_slice(&out),
	    "{\"type\":\"error\",\"re\":\"7\",\"payload\":{\"code\":\"invalid_payload\","
	    "\"field\":\"payload.commandId\",\"message\":\"required\"}}"));
	assert_int_equal(envelope_parse(&e, buf_slice(&out), S, &fault), 0);

	buf_clear(&out);
	envelope_fault_set(&fault, ERROR_rate_limited, NULL, NULL);
	fault.retry_after_ms = 250;
	envelope_error_put(&out, SLICE_NONE, &fault);
	assert_true(slice_is(buf_slice(&out), "{\"type\":\"error\",\"payload\":{\"code\":\"rate_limited\","
	    "\"message\":\"too many requests\",\"retryAfterMs\":250}}"));
	assert_int_equal(envelope_parse(&e, buf_slice(&out), S, &fault), 0);
	buf_fini(&out);
	envelope_fini(&e);
}

static const struct {
	enum body_schema body;
	const char *text;
	enum error_code code;
	const char *field;
} bodies[] = {
	{ BODY_device_register, "{\"name\":\"Front\"}", ERROR_NONE, "" },
	{ BODY_device_register, "{\"name\":\"\xc3\xa9\",\"deviceId\":\"d1\",\"deviceType\":\"door-lock\","
	    "\"tags\":[\"a b\"],\"metadata\":{},\"settings\":{},\"ownerId\":\"u\",\"tenantId\":\"t\"}",
	    ERROR_NONE, "" },
	{ BODY_device_register, "", ERROR_invalid_payload, "name" },
	{ BODY_device_register, " \r\n", ERROR_invalid_payload, "name" },
	{ BODY_device_register, "{", ERROR_invalid_json, "" },
	{ BODY_device_register, "[]", ERROR_invalid_payload, "body" },
	{ BODY_device_register, "{\"name\":\"\"}", ERROR_invalid_payload, "name" },
	{ BODY_device_register, "{\"name\":\"a\",\"name\":\"b\"}", ERROR_invalid_payload, "name" },
	{ BODY_device_register, "{\"name\":\"a\",\"deviceId\":\"a/b\"}", ERROR_invalid_payload, "deviceId" },
	{ BODY_device_register, "{\"name\":\"a\",\"deviceId\":null}", ERROR_NONE, "" },
	{ BODY_device_register, "{\"name\":\"a\",\"tags\":[\"\"]}", ERROR_invalid_payload, "tags[0]" },
	{ BODY_device_register, "{\"name\":\"a\",\"tags\":{}}", ERROR_invalid_payload, "tags" },
	{ BODY_device_update, "{}", ERROR_NONE, "" },
	{ BODY_device_update, "{\"settings\":[]}", ERROR_invalid_payload, "settings" },
	{ BODY_device_share, "{\"userId\":\"auth0|1\",\"permission\":\"view\",\"commands\":[\"unlock_door\"],"
	    "\"expiresAt\":\"2030-01-01T00:00:00Z\"}", ERROR_NONE, "" },
	{ BODY_device_share, "{\"userId\":\"u\",\"permission\":\"owner\"}", ERROR_invalid_payload,
	    "permission" },
	{ BODY_device_share, "{\"permission\":\"view\"}", ERROR_invalid_payload, "userId" },
	{ BODY_device_share, "{\"userId\":\"u\",\"permission\":\"view\",\"expiresAt\":\"2030\"}",
	    ERROR_invalid_payload,
	    "expiresAt" },
	{ BODY_command, "{\"deviceId\":\"d\",\"command\":\"u\"}", ERROR_NONE, "" },
	{ BODY_command, "{\"deviceId\":\"d\"}", ERROR_invalid_payload, "command" },
	{ BODY_command_open, "{\"deviceId\":\"d\"}", ERROR_NONE, "" },
	{ BODY_telemetry_post, "{\"deviceId\":\"d\",\"data\":{}}", ERROR_NONE, "" },
	{ BODY_telemetry_post, "{\"deviceId\":\"d\"}", ERROR_invalid_payload, "data" },
	{ BODY_broadcast, "{\"type\":\"news\",\"payload\":{},\"userIds\":[\"u1\"]}", ERROR_NONE, "" },
	{ BODY_broadcast, "{\"type\":\"News\",\"payload\":{}}", ERROR_invalid_payload, "type" },
	{ BODY_broadcast, "{\"type\":\"news\"}", ERROR_invalid_payload, "payload" },
	{ BODY_broadcast, "{\"type\":\"news\",\"payload\":{},\"userIds\":[1]}", ERROR_invalid_payload,
	    "userIds[0]" },
	{ BODY_send, "{\"type\":\"news\",\"payload\":{\"a\":1}}", ERROR_NONE, "" },
};

static void
test_bodies(void **state)
{
	struct fields f;

	(void)state;
	fields_init(&f);
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct envelope_fault fault = { ERROR_NONE, "", "", 0 };
		struct slice text = copy_of(bodies[i].text);
		int rc = schema_parse(bodies[i].body, text, &f, &fault);

		if ((rc == 0) != (bodies[i].code == ERROR_NONE) || fault.code != bodies[i].code ||
		    strcmp(fault.field, bodies[i].field) != 0)
			fail_msg("%s: %d %s %s %s", bodies[i].text, rc, error_name(fault.code), fault.field,
			    fault.message);
		free((char *)text.p);
	}
	fields_fini(&f);
}

static void
test_elements(void **state)
{
	struct envelope_fault fault;
	struct json_value array, e;
	struct json_iter it;
	struct fields f;

	(void)state;
	fields_init(&f);
	assert_int_equal(json_parse(SLICE("[{\"deviceId\":\"d\\u0031\",\"data\":{}},{\"deviceId\":\"d\"},7]"),
	    32, &array), 0);
	json_iter_init(&it, array);
	assert_true(json_array_next(&it, &e));
	assert_int_equal(schema_parse_element(BODY_telemetry_post, e, 0, &f, &fault), 0);
	assert_true(slice_is(f.field[FIELD_telemetry_post_deviceId].str, "d1"));
	assert_true(json_array_next(&it, &e));
	assert_int_equal(schema_parse_element(BODY_telemetry_post, e, 1, &f, &fault), -1);
	assert_string_equal(fault.field, "[1].data");
	assert_true(json_array_next(&it, &e));
	assert_int_equal(schema_parse_element(BODY_telemetry_post, e, 2, &f, &fault), -1);
	assert_string_equal(fault.field, "[2]");
	fields_fini(&f);
}

/* The lists agree with one another and with what is documented about them. */
static void
test_lists(void **state)
{
	(void)state;
	for (int i = SCHEMA_NONE + 1; i < SCHEMA_COUNT; i++) {
		const struct schema *s = &schema_table[i];

		assert_true(strlen(s->doc) > 10 && s->doc[strlen(s->doc) - 1] == '.');
		assert_true(schema_is_type_name(slice_of(s->name)));
		assert_true((s->from == 0) == (s->to == 0));
		for (unsigned n = 0; n < s->fields_n; n++) {
			assert_true(strlen(s->fields[n].doc) > 1);
			assert_true((s->fields[n].kind == FIELD_KIND_ENUM) == (s->fields[n].choices != NULL));
			for (unsigned m = 0; m < n; m++)
				assert_string_not_equal(s->fields[n].name, s->fields[m].name);
		}
		for (int k = SCHEMA_NONE + 1; k < i; k++)
			assert_false((s->from & schema_table[k].from) != 0 && strcmp(s->name,
			    schema_table[k].name) == 0);
	}
	assert_int_equal(msg_type_find(SLICE("command"), SCHEMA_USER), MSG_TYPE_command);
	assert_int_equal(msg_type_find(SLICE("command"), SCHEMA_SERVER), MSG_TYPE_server_command);
	assert_string_equal(msg_type_name(MSG_TYPE_server_command), "command");
	for (int c = ERROR_NONE + 1; c < ERROR_COUNT; c++)
		assert_true(error_status((enum error_code)c) >= 400 &&
		    error_text((enum error_code)c)[0] != '\0');
	assert_true(schema_is_line(SLICE("\xc3\xa9"), 1, 1) && schema_is_line(SLICE("ab"), 2, 2));
	assert_false(schema_is_line(SLICE("abc"), 0, 2) || schema_is_line(SLICE_NONE, 1, 2));
	assert_false(schema_is_line(SLICE("\xe9"), 0, 9) || schema_is_line(SLICE("a\x7f"), 0, 9));
	assert_true(schema_is_line(SLICE_NONE, 0, 0));
	assert_int_equal(error_of_status(431), ERROR_headers_too_large);
	assert_int_equal(error_of_status(499), ERROR_bad_request);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages), cmocka_unit_test(test_cut), cmocka_unit_test(test_command),
		cmocka_unit_test(test_ack), cmocka_unit_test(test_scratch), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_put), cmocka_unit_test(test_bodies), cmocka_unit_test(test_elements),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
