/*
 * rows.h: how an engine hands a row out: with copies of its texts, kept with the row (its `text`) or added to a page.
 * Which of a row's slices are texts is said in rows.c alone.
 */
#ifndef BELAY_DB_ROWS_H
#define BELAY_DB_ROWS_H

#include "db/page.h"

/* With the tenant's name, by tenant_pk.  As tenants_name(). */
enum db_result rows_keep_device(struct db *db, struct db_device *d);
enum db_result rows_add_device(struct db *db, struct db_page *page, struct db_device *d);
/* Texts alone. */
void rows_keep_share(struct db_share *s);
void rows_add_share(struct db_page *page, struct db_share *s);
void rows_keep_command(struct db_command *c);
void rows_add_command(struct db_page *page, struct db_command *c);
void rows_keep_visitor(struct db_visitor *v);
void rows_add_visitor(struct db_page *page, struct db_visitor *v);
void rows_keep_ticket(struct db_ticket *t);
void rows_add_type(struct db_page *page, struct db_type *t);
void rows_add_sample(struct db_page *page, struct db_sample *v);

/* Where in the payload an event's data begins that ends one byte before it, and is not stored besides; 0: nowhere. */
size_t rows_event_data_at(const struct db_event *e);
/* Adds what the filter's `part` shows, if the event passes.  data_at: as above; the data is the payload's then. */
void rows_add_event(struct db_page *page, const struct db_event_filter *f, struct db_event *e, size_t data_at);

#endif
