/*
 * wheel.h: one timer for all connections: a wheel of lists that turns once a second.
 *
 * A connection has one due second, the earliest of all that it waits for; what
 * is due is worked out again when it fires (session.c).
 */
#ifndef BELAY_GATEWAY_WHEEL_H
#define BELAY_GATEWAY_WHEEL_H

#include <stdint.h>

struct conn;
struct conn_table;

#define WHEEL_SIZE 256

struct wheel {
	uint32_t list[WHEEL_SIZE];	/* connection index + 1; 0: empty */
	uint32_t now;			/* seconds, monotonic: the last turned */
};

void wheel_init(struct wheel *wheel, uint32_t now_s);
/* Sets the due second, replacing an earlier setting; not of one that has ended.  Seconds gone by fire next. */
void wheel_set(struct wheel *wheel, struct conn_table *table, struct conn *c, uint32_t due_s);
void wheel_clear(struct wheel *wheel, struct conn_table *table, struct conn *c);
/*
 * Fires all that is due up to now_s; fire may set, clear and free any connection but must not turn.
 */
void wheel_turn(struct wheel *wheel, struct conn_table *table, uint32_t now_s,
    void (*fire)(void *arg, struct conn *c), void *arg);

#endif
