/*
 * envelope.c: messages of clients in and out.
 *
 * Runs in the gateways and the bridge, once for each message: the text is
 * validated once and walked twice (envelope, payload), without allocation but
 * for the scratch that an envelope keeps for texts with escapes.
 */
#include <string.h>

#include "msg/envelope.h"

void
envelope_init(struct envelope *e)
{
	memset(e, 0, sizeof(*e));
	e->depth = SCHEMA_JSON_DEPTH;
}

void
envelope_fini(struct envelope *e)
{
	buf_fini(&e->scratch);
}

/* Decodes the id; -1 when it is no string, too long or not printable. */
static int
read_id(struct envelope *e, struct json_value v)
{
	struct slice id;
	size_t i, characters = 0;

	if (json_text(v, &e->scratch, &id) != 0 || schema_has_control(id))
		return -1;
	for (i = 0; i < id.len; i++)
		characters += ((unsigned char)id.p[i] & 0xc0) != 0x80;
	if (characters > ENVELOPE_ID_MAX)
		return -1;
	e->id = id;
	return 0;
}

int
envelope_parse(struct envelope *e, struct slice text, enum envelope_side from,
    struct envelope_fault *fault)
{
	enum { TYPE, ID, PAYLOAD, MEMBERS };
	static const char *const names[MEMBERS] = { "type", "id", "payload" };
	struct json_value member[MEMBERS], whole, key, v;
	bool given[MEMBERS] = { false, false, false }, missing[MEMBERS];
	struct json_fault wrong;
	struct json_iter it;
	struct slice type;
	int i, twice = -1;

	e->type = MSG_TYPE_NONE;
	e->id = e->unknown = SLICE_NONE;
	e->payload = (struct json_value){ JSON_KIND_OBJECT, SLICE("{}") };
	buf_clear(&e->scratch);

	if (json_parse_flags(text, e->depth, 0, &whole, &wrong) != 0) {
		envelope_fault_set(fault, ERROR_invalid_json, NULL, "%s at byte %zu", wrong.reason,
		    wrong.offset);
		return -1;
	}
	if (whole.kind != JSON_KIND_OBJECT) {
		envelope_fault_set(fault, ERROR_invalid_payload, NULL,
		    "a message must be a JSON object");
		return -1;
	}
	if (memchr(text.p, '\\', text.len) != NULL)
		buf_reserve(&e->scratch, text.len);	/* decoded texts must not move */

	json_iter_init(&it, whole);
	while (json_object_next(&it, &key, &v)) {
		for (i = 0; i < MEMBERS; i++) {
			if (!json_text_is(key, names[i]))
				continue;
			if (given[i] && twice < 0)
				twice = i;
			given[i] = true;
			member[i] = v;
			break;
		}
	}
	/* Many serializers write what is missing as null. */
	for (i = 0; i < MEMBERS; i++)
		missing[i] = !given[i] || member[i].kind == JSON_KIND_NULL;
	if (twice >= 0) {
		if (twice != ID && !missing[ID])
			(void)read_id(e, member[ID]);
		envelope_fault_set(fault, ERROR_invalid_payload, names[twice], "duplicate");
		return -1;
	}
	if (!missing[ID] && read_id(e, member[ID]) != 0) {
		envelope_fault_set(fault, ERROR_invalid_payload, "id",
		    "must be a string of at most %d printable characters", ENVELOPE_ID_MAX);
		return -1;
	}
	if (missing[TYPE]) {
		envelope_fault_set(fault, ERROR_invalid_payload, "type", "required");
		return -1;
	}
	if (json_text(member[TYPE], &e->scratch, &type) != 0) {
		envelope_fault_set(fault, ERROR_invalid_payload, "type", "must be a string");
		return -1;
	}
	if ((e->type = msg_type_find(type, (enum schema_side)from)) == MSG_TYPE_NONE) {
		envelope_fault_set(fault, ERROR_unknown_type, "type", NULL);
		e->unknown = type;
		if (!missing[PAYLOAD])
			e->payload = member[PAYLOAD];
		return -1;
	}
	if (!missing[PAYLOAD]) {
		if (member[PAYLOAD].kind != JSON_KIND_OBJECT) {
			envelope_fault_set(fault, ERROR_invalid_payload, "payload",
			    "must be an object");
			return -1;
		}
		e->payload = member[PAYLOAD];
	}
	return schema_check((enum schema_id)e->type, e->payload, "payload.", e->field, &e->scratch,
	    fault);
}

void
envelope_put(struct buf *out, const char *type, struct slice re, struct slice payload,
    struct slice cursor)
{
	buf_puts(out, "{\"type\":");
	buf_put_json_string(out, slice_of(type));
	if (re.p != NULL) {
		buf_puts(out, ",\"re\":");
		buf_put_json_string(out, re);
	}
	buf_puts(out, ",\"payload\":");
	buf_put_slice(out, payload.p != NULL ? payload : SLICE("{}"));
	if (cursor.p != NULL) {
		buf_puts(out, ",\"cursor\":");
		buf_put_json_string(out, cursor);
	}
	buf_putc(out, '}');
}

void
envelope_error_put(struct buf *out, struct slice re, const struct envelope_fault *fault)
{
	buf_puts(out, "{\"type\":\"error\"");
	if (re.p != NULL) {
		buf_puts(out, ",\"re\":");
		buf_put_json_string(out, re);
	}
	buf_puts(out, ",\"payload\":{\"code\":");
	buf_put_json_string(out, slice_of(error_name(fault->code)));
	if (fault->field[0] != '\0') {
		buf_puts(out, ",\"field\":");
		buf_put_json_string(out, slice_of(fault->field));
	}
	buf_puts(out, ",\"message\":");
	buf_put_json_string(out,
	    slice_of(fault->message[0] != '\0' ? fault->message : error_text(fault->code)));
	if (fault->retry_after_ms > 0) {
		buf_puts(out, ",\"retryAfterMs\":");
		buf_put_i64(out, fault->retry_after_ms);
	}
	buf_puts(out, "}}");
}
