/*
 * rows.c: see rows.h.  Every process that has a handle; owns nothing.
 */
#include <string.h>

#include "db/rows.h"
#include "db/tenants.h"

#define COUNT(texts) (sizeof(texts) / sizeof((texts)[0]))

/* Copies what the slices show to the buffer (emptied first) and points them there. */
static void
keep(struct buf *text, struct slice *const *slices, size_t n)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += slices[i]->len;
	buf_clear(text);
	buf_reserve(text, total + 1);
	for (size_t i = 0; i < n; i++) {
		char *at = text->data + text->len;

		buf_put_slice(text, *slices[i]);
		slices[i]->p = at;
	}
}

/* Those of a device that was not read whole come first. */
#define DEVICE_TEXTS(d) { &(d)->tenant, &(d)->id, &(d)->owner, &(d)->gone_reason, &(d)->audience, &(d)->type, \
	    &(d)->name, &(d)->state_json, &(d)->tags_json, &(d)->metadata_json, &(d)->settings_json }
#define DEVICE_TEXTS_HEAD 5

enum db_result
rows_keep_device(struct db *db, struct db_device *d)
{
	struct slice *texts[] = DEVICE_TEXTS(d);
	enum db_result result = tenants_name(db, d->tenant_pk, &d->tenant);

	if (result == DB_OK)
		keep(&d->text, texts, d->whole ? COUNT(texts) : DEVICE_TEXTS_HEAD);
	return result;
}

enum db_result
rows_add_device(struct db *db, struct db_page *page, struct db_device *d)
{
	struct slice *texts[] = DEVICE_TEXTS(d);
	enum db_result result = tenants_name(db, d->tenant_pk, &d->tenant);

	if (result == DB_OK)
		page_add(page, d, sizeof(*d), texts, d->whole ? COUNT(texts) : DEVICE_TEXTS_HEAD);
	return result;
}

#define SHARE_TEXTS(s) { &(s)->user, &(s)->commands_json }

void
rows_keep_share(struct db_share *s)
{
	struct slice *texts[] = SHARE_TEXTS(s);

	keep(&s->text, texts, COUNT(texts));
}

void
rows_add_share(struct db_page *page, struct db_share *s)
{
	struct slice *texts[] = SHARE_TEXTS(s);

	page_add(page, s, sizeof(*s), texts, COUNT(texts));
}

#define COMMAND_TEXTS(c) { &(c)->command, &(c)->requested_by, &(c)->params_json, &(c)->only_if_json, \
	    &(c)->trace_json, &(c)->result_json, &(c)->error_json, &(c)->cancelled_by }

void
rows_keep_command(struct db_command *c)
{
	struct slice *texts[] = COMMAND_TEXTS(c);

	keep(&c->text, texts, COUNT(texts));
}

void
rows_add_command(struct db_page *page, struct db_command *c)
{
	struct slice *texts[] = COMMAND_TEXTS(c);

	page_add(page, c, sizeof(*c), texts, COUNT(texts));
}

#define VISITOR_TEXTS(v) { &(v)->decided_by, &(v)->name, &(v)->snapshot_url, &(v)->data_json, &(v)->device }

void
rows_keep_visitor(struct db_visitor *v)
{
	struct slice *texts[] = VISITOR_TEXTS(v);

	keep(&v->text, texts, COUNT(texts));
}

void
rows_add_visitor(struct db_page *page, struct db_visitor *v)
{
	struct slice *texts[] = VISITOR_TEXTS(v);

	page_add(page, v, sizeof(*v), texts, COUNT(texts));
}

void
rows_keep_ticket(struct db_ticket *t)
{
	struct slice *texts[] = { &t->tenant, &t->user, &t->role_name };

	keep(&t->text, texts, COUNT(texts));
}

void
rows_add_type(struct db_page *page, struct db_type *t)
{
	struct slice *texts[] = { &t->type };

	page_add(page, t, sizeof(*t), texts, COUNT(texts));
}

void
rows_add_sample(struct db_page *page, struct db_sample *v)
{
	struct slice *texts[] = { &v->data_json };

	page_add(page, v, sizeof(*v), texts, COUNT(texts));
}

/* Events: where the data is part of the payload, the last two are one. */
#define EVENT_TEXTS(e) { &(e)->device, &(e)->event, &(e)->actor, &(e)->type, &(e)->user, &(e)->payload, \
	    &(e)->data_json }

size_t
rows_event_data_at(const struct db_event *e)
{
	size_t at;

	if (e->data_json.len == 0 || e->payload.len <= e->data_json.len + 1)
		return 0;
	at = e->payload.len - 1 - e->data_json.len;
	return memcmp(e->payload.p + at, e->data_json.p, e->data_json.len) == 0 ? at : 0;
}

void
rows_add_event(struct db_page *page, const struct db_event_filter *f, struct db_event *e, size_t data_at)
{
	struct slice *texts[] = EVENT_TEXTS(e);
	size_t n = COUNT(texts);
	bool within = data_at > 0 && data_at < e->payload.len;

	if (!db_event_passes(f, e))
		return;
	if (within)
		e->data_json = (struct slice){ e->payload.p + data_at, e->payload.len - 1 - data_at };
	if (f->part == EVENT_LISTED) {
		e->payload = SLICE_NONE;	/* read for the data's sake alone */
	} else if (within) {
		e->payload = page_text(page, e->payload);
		e->data_json.p = e->payload.p + data_at;
		n -= 2;
	}
	page_add(page, e, sizeof(*e), texts, n);
}

void
db_event_copy(struct buf *text, struct db_event *e)
{
	struct slice *texts[] = EVENT_TEXTS(e);

	for (size_t i = 0; i < COUNT(texts); i++)
		buf_put_slice(text, *texts[i]);
}

void
db_events_point(const struct buf *text, struct db_event *events, size_t n)
{
	const char *at = text->data;

	for (size_t i = 0; i < n; i++) {
		struct slice *texts[] = EVENT_TEXTS(&events[i]);

		for (size_t k = 0; k < COUNT(texts); k++) {
			texts[k]->p = at;
			at += texts[k]->len;
		}
	}
}
