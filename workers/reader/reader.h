/*
 * reader.h: a request that is read for, step by step, and what the files of this folder offer each other.
 *
 * A step is short (STEP_ROWS rows or STEP_US, whichever is less) and its own look at the store: no transaction outlives
 * it.  Between two steps of one request others have their turn (line.h), and the store may change.
 */
#ifndef BELAY_READER_READER_H
#define BELAY_READER_READER_H

#include "base/buf.h"
#include "base/json.h"
#include "msg/schema.h"
#include "reader/line.h"
#include "reader/list.h"
#include "reader/replay.h"

#define STEP_ROWS	1000		/* rows looked at in a step … */
#define STEP_US		2000		/* … or this time */
#define READ_ROWS_MAX	100000		/* of one request: its page may then be short, and its cursor goes on */

enum read_end { READ_DONE, READ_MORE, READ_FAILED };

struct type_count {
	char *type;			/* owned; NUL-terminated: no type has a NUL inside */
	size_t len;
	int64_t count;
};

/* One request. */
struct reading {
	struct waiter waiter;		/* first: its place in the line */
	uint16_t kind;			/* of the record */
	struct buf record;		/* owned; all slices of the request point into it */
	int64_t posted_us;		/* monotonic: when it was asked */
	bool gone;			/* who asked has gone: nothing is read for it any more */
	enum read_end (*step)(struct desk *k, struct reading *x);
	void (*fini)(struct reading *x);	/* frees what u owns; may be NULL */
	struct rest r;
	struct slice body_json;
	bool begun;
	unsigned looked;		/* rows of the steps before */

	struct buf text;		/* owned: decoded parameters; the desk's while this request has its turn */
	struct rest_list list;		/* freed with the request when it was not closed */
	union {
		struct {
			struct db_device_filter filter;
			struct buf after;	/* owned: behind which device to go on */
			struct slice status;	/* list: to be looked at row by row; empty: any */
			struct db_stats sums;	/* stats */
			struct type_count *types;	/* stats: owned, and their names */
			size_t type_count;
		} devices;
		struct replay replay;
		int64_t before;		/* commands */
		struct db_event_filter events;
		struct db_sample_filter samples;
		struct db_visitor_filter visitors;
		struct {
			struct json_value body;
			struct json_iter it;
			bool telling;
			unsigned count;
		} telemetry;
		struct {
			struct json_value array;
			struct json_iter it;
			bool check;
			unsigned count;
		} subscribe;
	} u;
};

/* Wants the desk's page, with the budget of a step: for the request's list, or so many rows. */
struct db_page *reading_page_of_list(struct desk *k, const struct reading *x);
struct db_page *reading_page(struct desk *k, unsigned rows);
/*
 * After a page whose rows were offered to the list: may it take more, are there more, and may this request go on?
 * What was looked at is counted.
 */
bool reading_goes_on(const struct desk *k, struct reading *x);

/* One for each line of reads.def, and the records of their own. */
#define READ(route) enum read_end read_##route(struct desk *k, struct reading *x);
#include "reader/reads.def"
#undef READ
enum read_end read_subscribe(struct desk *k, struct reading *x);
enum read_end read_resume(struct desk *k, struct reading *x);

#endif
