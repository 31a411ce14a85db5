/*
 * memory_values.c: values and their texts as one block of memory.
 *
 *	before (the row's own links, or nothing) | values, whose slices point behind it | texts
 *
 * The texts lie in the order of the shape's slices, so that the first few of them, or all, are
 * copied to a caller as one run.  Only the storage process; owns nothing.
 */
#include <stdlib.h>

#include "base/must.h"
#include "db/memory.h"

#define S(type, member) offsetof(type, member)

/* The first five are what is read of a device that is not asked for whole. */
const struct memory_shape memory_device_shape = {
	sizeof(struct memory_device_values), sizeof(struct db_device), S(struct db_device, text), 11,
	{ S(struct db_device, tenant), S(struct db_device, id), S(struct db_device, owner),
	  S(struct db_device, gone_reason), S(struct db_device, audience), S(struct db_device, type),
	  S(struct db_device, name), S(struct db_device, state_json),
	  S(struct db_device, tags_json), S(struct db_device, metadata_json),
	  S(struct db_device, settings_json) }
};

const struct memory_shape memory_share_shape = {
	sizeof(struct db_share), sizeof(struct db_share), S(struct db_share, text), 2,
	{ S(struct db_share, user), S(struct db_share, commands_json) }
};

const struct memory_shape memory_command_shape = {
	sizeof(struct db_command), sizeof(struct db_command), S(struct db_command, text), 7,
	{ S(struct db_command, command), S(struct db_command, requested_by),
	  S(struct db_command, params_json), S(struct db_command, only_if_json),
	  S(struct db_command, trace_json), S(struct db_command, result_json),
	  S(struct db_command, error_json) }
};

const struct memory_shape memory_event_shape = {
	sizeof(struct db_event), sizeof(struct db_event), 0, 3,
	{ S(struct db_event, event), S(struct db_event, actor), S(struct db_event, data_json) }
};

const struct memory_shape memory_sample_shape = {
	sizeof(struct db_sample), sizeof(struct db_sample), 0, 1, { S(struct db_sample, data_json) }
};

const struct memory_shape memory_visitor_shape = {
	sizeof(struct db_visitor), sizeof(struct db_visitor), S(struct db_visitor, text), 4,
	{ S(struct db_visitor, decided_by), S(struct db_visitor, name),
	  S(struct db_visitor, snapshot_url), S(struct db_visitor, data_json) }
};

const struct memory_shape memory_ticket_shape = {
	sizeof(struct db_ticket), sizeof(struct db_ticket), S(struct db_ticket, text), 3,
	{ S(struct db_ticket, tenant), S(struct db_ticket, user), S(struct db_ticket, role_name) }
};

static inline struct slice *
slice_at(void *values, size_t offset)
{
	return (struct slice *)(void *)((char *)values + offset);
}

static inline const struct slice *
slice_in(const void *values, size_t offset)
{
	return (const struct slice *)(const void *)((const char *)values + offset);
}

static inline struct buf *
text_of(const struct memory_shape *shape, void *values)
{
	return (struct buf *)(void *)((char *)values + shape->text);
}

void *
memory_pack(const struct memory_shape *shape, size_t before, const void *values)
{
	size_t total = before + shape->size;
	char *block, *copy, *text;

	for (unsigned i = 0; i < shape->count; i++)
		total += slice_in(values, shape->slice[i])->len;
	block = must_realloc(NULL, total);
	copy = block + before;
	text = copy + shape->size;
	memcpy(copy, values, shape->size);
	for (unsigned i = 0; i < shape->count; i++) {
		struct slice *s = slice_at(copy, shape->slice[i]);

		if (s->len > 0)
			memcpy(text, s->p, s->len);
		s->p = text;
		text += s->len;
	}
	if (shape->text != 0)
		*text_of(shape, copy) = (struct buf)BUF_INIT;
	return block;
}

void
memory_unpack(const struct memory_shape *shape, unsigned n, const void *values, void *out)
{
	struct buf text = *text_of(shape, out);
	const struct slice *first = slice_in(values, shape->slice[0]);
	const struct slice *last = slice_in(values, shape->slice[n - 1]);

	buf_clear(&text);
	buf_reserve(&text, 1);
	buf_put(&text, first->p, (size_t)(last->p - first->p) + last->len);
	memcpy(out, values, shape->shown);
	for (unsigned i = 0; i < shape->count; i++) {
		struct slice *s = slice_at(out, shape->slice[i]);

		if (i < n)
			s->p = text.data + (s->p - first->p);
		else
			*s = SLICE_NONE;
	}
	*text_of(shape, out) = text;
}

void
memory_append(const struct memory_shape *shape, void *values, struct slice *slice)
{
	struct buf *text = text_of(shape, values);
	const char *before = text->data;

	buf_put_slice(text, *slice);
	for (unsigned i = 0; i < shape->count; i++) {
		struct slice *s = slice_at(values, shape->slice[i]);

		s->p = text->data + (s->p - before);
	}
	slice->p = text->data + text->len - slice->len;
}
