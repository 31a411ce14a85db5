/*
 * list.h: parameters of the query, and lists as they are written.
 */
#ifndef BELAY_READER_LIST_H
#define BELAY_READER_LIST_H

#include "store/rest.h"

/*
 * A parameter of the query, decoded into k->text; empty when there is none.  false: malformed, and
 * answered.
 */
bool rest_query(struct desk *k, const struct rest *r, const char *name, struct slice *value);
/* A time of the query; 0: there is none. */
bool rest_time(struct desk *k, const struct rest *r, const char *name, int64_t *at);
/*
 * limit and cursor of lists; the place is put into *place (0: none given), unless the kind is
 * CURSOR_NONE.  false: malformed, and answered.
 */
bool rest_page(struct desk *k, const struct rest *r, unsigned *limit, enum cursor_kind kind,
    int64_t *place);

/*
 * A list being written: `{"NAME":[…],"nextCursor":…}`.  It ends when limit or the room of one
 * record is used up; then the last cursor is told.
 */
struct rest_list {
	struct desk *k;
	struct buf body;		/* owned */
	unsigned count, limit;
	size_t room;
	bool more;
	struct buf cursor;		/* owned: of the last element shown */
};
void list_open(struct desk *k, struct rest_list *l, const char *name, unsigned limit);
/* Wants a page for it: the elements that it still takes, and the one behind them, which says that there are more. */
void list_want(const struct rest_list *l, struct db_page *page);
/* Before an element: false = it belongs on the next page. */
bool list_next(struct rest_list *l);
void list_cursor(struct rest_list *l, enum cursor_kind kind, int64_t tenant_pk, int64_t place);
void list_cursor_text(struct rest_list *l, struct slice cursor);
/*
 * Of a list that looked at as much as it may (READ_ROWS_MAX rows in one request): it may be short, or even
 * empty, and goes on behind what the page looked at.
 */
void list_ran_out(struct rest_list *l, enum cursor_kind kind, int64_t tenant_pk, const struct db_page *page);
/* Answers 200 and frees. */
enum db_result list_close(struct rest_list *l, const struct rest *r);

#endif
