/*
 * envelope_fuzz.c: a message from each side, and the same text as each request body.
 *
 * What is taken must have its required fields and point into the text or the scratch; a fault must be one that can
 * be told, and its error message must itself be a valid message of the server.
 */
#include <stdint.h>

#include "base/must.h"
#include "msg/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_fields(enum schema_id which, const struct field_value *field, struct slice text,
    const struct buf *scratch)
{
	const struct schema *s = &schema_table[which];

	for (unsigned i = 0; i < s->fields_n; i++) {
		const struct field_value *v = &field[i];

		must(s->fields[i].presence == FIELD_OPTIONAL || s->fields[i].presence == FIELD_EITHER || v->present ||
		    v->null);
		must(s->fields[i].presence != FIELD_REQUIRED || v->present);
		if (!v->present)
			continue;
		must(v->json.raw.p >= text.p && v->json.raw.p + v->json.raw.len <= text.p + text.len);
		must(v->str.len == 0 || (v->str.p >= text.p && v->str.p + v->str.len <= text.p + text.len) ||
		    (v->str.p >= scratch->data && v->str.p + v->str.len <= scratch->data + scratch->len));
		if (v->kind == FIELD_KIND_ID)
			must(schema_is_id(v->str));
		if (v->kind == FIELD_KIND_LINE)
			must(!schema_has_control(v->str));
		if (v->kind == FIELD_KIND_INT)
			must(v->i64 >= s->fields[i].min && v->i64 <= s->fields[i].max);
		if (v->kind == FIELD_KIND_ENUM)
			must(slice_is(v->str, s->fields[i].choices[v->i64]));
	}
}

/* The fault as an error message; parsed by another envelope. */
static void
check_fault(struct slice re, const struct envelope_fault *fault)
{
	struct envelope_fault unexpected;
	struct buf out = BUF_INIT;
	struct envelope e;

	must(fault->code > ERROR_NONE && fault->code < ERROR_COUNT);
	envelope_init(&e);
	envelope_error_put(&out, re, fault);
	must(envelope_parse(&e, buf_slice(&out), ENVELOPE_FROM_SERVER, &unexpected) == 0);
	must(slice_is(e.field[FIELD_error_code].str, error_name(fault->code)));
	envelope_fini(&e);
	buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum envelope_side sides[] = { ENVELOPE_FROM_DEVICE, ENVELOPE_FROM_USER,
	    ENVELOPE_FROM_SERVER };
	struct slice text = { (const char *)data, size };
	struct envelope_fault fault;
	struct envelope e;
	struct fields f;

	envelope_init(&e);
	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
		if (envelope_parse(&e, text, sides[i], &fault) == 0) {
			must((schema_table[e.type].from & sides[i]) != 0);
			check_fields((enum schema_id)e.type, e.field, text, &e.scratch);
		} else {
			check_fault(e.id, &fault);
		}
	}
	envelope_fini(&e);

	fields_init(&f);
	for (int i = SCHEMA_NONE + 1; i < SCHEMA_COUNT; i++) {
		if (schema_parse((enum body_schema)i, text, &f, &fault) != 0)
			check_fault(SLICE_NONE, &fault);
		else if (f.json.raw.p >= text.p &&
		    f.json.raw.p < text.p + size)	/* not the {} of an empty body */
			check_fields((enum schema_id)i, f.field, text, &f.scratch);
	}
	fields_fini(&f);
	return 0;
}
