/*
 * rest.h: what the answers to REST requests have in common.
 */
#ifndef BELAY_STORAGE_REST_H
#define BELAY_STORAGE_REST_H

#include "storage/storage.h"

/* One request being answered. */
struct rest {
	const struct msg_rest *m;
	struct requester who;
};

/* A JSON body, or an error. */
enum db_result rest_ok(struct storage *s, const struct rest *r, unsigned status,
    const struct buf *body);
enum db_result rest_error(struct storage *s, const struct rest *r, enum error_code code,
    const char *field, const char *message);

/*
 * The device of the path, read into s->device, if the requester has at least that access.  DB_NONE:
 * it was answered (404,
 * 403) and nothing is left to do.
 */
enum db_result rest_device(struct storage *s, const struct rest *r, bool whole,
    enum access at_least);

/*
 * A parameter of the query, decoded into s->text; empty when there is none.  false: malformed, and
 * answered.
 */
bool rest_query(struct storage *s, const struct rest *r, const char *name, struct slice *value);
/* A time of the query; 0: there is none. */
bool rest_time(struct storage *s, const struct rest *r, const char *name, int64_t *at);
/*
 * limit and cursor of lists; the place is put into *place (0: none given), unless the kind is
 * CURSOR_NONE.  false: malformed, and answered.
 */
bool rest_page(struct storage *s, const struct rest *r, unsigned *limit, enum cursor_kind kind,
    int64_t *place);

/*
 * A list being written: `{"NAME":[…],"nextCursor":…}`.  It ends when limit or the room of one
 * record is used up; then the callback gets false and the last cursor is told.
 */
struct rest_list {
	struct storage *s;
	struct buf body;		/* owned */
	unsigned count, limit;
	size_t room;
	bool more;
	struct buf cursor;		/* owned: of the last element shown */
};
void list_open(struct storage *s, struct rest_list *l, const char *name, unsigned limit);
/* Before an element: false = it belongs on the next page. */
bool list_next(struct rest_list *l);
void list_cursor(struct rest_list *l, enum cursor_kind kind, int64_t tenant_pk, int64_t place);
void list_cursor_text(struct rest_list *l, struct slice cursor);
/*
 * Of a list that looked at as much as it may (LIST_SCAN_MAX rows in one request): it may be short, or even
 * empty, and goes on behind what it looked at.
 */
#define LIST_SCAN_MAX 5000
void list_scanned(struct rest_list *l, enum cursor_kind kind, int64_t tenant_pk, const struct db_scan *scan);
/* Answers 200 and frees. */
enum db_result list_close(struct rest_list *l, const struct rest *r);

/* rest_device.c */
enum db_result rest_device_register(struct storage *s, const struct rest *r);
enum db_result rest_device_list(struct storage *s, const struct rest *r);
enum db_result rest_device_stats(struct storage *s, const struct rest *r);
enum db_result rest_device_get(struct storage *s, const struct rest *r);
enum db_result rest_device_update(struct storage *s, const struct rest *r);
enum db_result rest_device_delete(struct storage *s, const struct rest *r);
enum db_result rest_device_token(struct storage *s, const struct rest *r);
/* rest_health.c */
/* Counts of all devices of the requester's tenant; *tenant_pk is 0, and the counts are, when nothing is known of it. */
enum db_result rest_tenant_devices(struct storage *s, const struct rest *r, struct db_stats *out,
    int64_t *tenant_pk);
enum db_result rest_health_devices(struct storage *s, const struct rest *r);
enum db_result rest_health_metrics(struct storage *s, const struct rest *r);
/* rest_share.c */
enum db_result rest_share_list(struct storage *s, const struct rest *r);
enum db_result rest_share_add(struct storage *s, const struct rest *r);
enum db_result rest_share_remove(struct storage *s, const struct rest *r);
/* rest_event.c */
enum db_result rest_device_events(struct storage *s, const struct rest *r);
enum db_result rest_events(struct storage *s, const struct rest *r);
/* rest_command.c */
enum db_result rest_command_get(struct storage *s, const struct rest *r);
enum db_result rest_device_commands(struct storage *s, const struct rest *r);
/* rest_telemetry.c */
enum db_result rest_telemetry(struct storage *s, const struct rest *r);
enum db_result rest_device_telemetry(struct storage *s, const struct rest *r);
/* visitor.c */
enum db_result rest_visitor_list(struct storage *s, const struct rest *r);
enum db_result rest_visitor_approve(struct storage *s, const struct rest *r);
enum db_result rest_visitor_deny(struct storage *s, const struct rest *r);

#endif
