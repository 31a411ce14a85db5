/*
 * wheel.c: the timer of all connections of a gateway process.
 */
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/wheel.h"

void
wheel_init(struct wheel *wheel, uint32_t now_s)
{
	for (unsigned i = 0; i < WHEEL_SIZE; i++)
		wheel->list[i] = 0;
	wheel->now = now_s;
}

void
wheel_clear(struct wheel *wheel, struct conn_table *table, struct conn *c)
{
	if (c->due_s == 0)
		return;
	if (c->wheel_prev != 0)
		conn_at(table, c->wheel_prev - 1)->wheel_next = c->wheel_next;
	else
		wheel->list[c->due_s % WHEEL_SIZE] = c->wheel_next;
	if (c->wheel_next != 0)
		conn_at(table, c->wheel_next - 1)->wheel_prev = c->wheel_prev;
	c->due_s = c->wheel_next = c->wheel_prev = 0;
}

void
wheel_set(struct wheel *wheel, struct conn_table *table, struct conn *c, uint32_t due_s)
{
	uint32_t *head;

	if (c->doomed)			/* it is given back before anything is due */
		return;
	if (due_s <= wheel->now)
		due_s = wheel->now + 1;
	if (c->due_s == due_s)
		return;
	wheel_clear(wheel, table, c);
	head = &wheel->list[due_s % WHEEL_SIZE];
	c->due_s = due_s;
	c->wheel_prev = 0;
	c->wheel_next = *head;
	if (*head != 0)
		conn_at(table, *head - 1)->wheel_prev = c->index + 1;
	*head = c->index + 1;
}

void
wheel_turn(struct wheel *wheel, struct conn_table *table, uint32_t now_s,
    void (*fire)(void *arg, struct conn *c), void *arg)
{
	/* After a long stop (a suspended machine) one whole round finds everything. */
	if (now_s > wheel->now + WHEEL_SIZE)
		wheel->now = now_s - WHEEL_SIZE;
	while (wheel->now < now_s) {
		uint32_t spot = ++wheel->now % WHEEL_SIZE, at = wheel->list[spot];

		/*
		 * What fires is taken out first and may be set again, always for a later second: it
		 * then stands before `at` in some list and is not met again here.
		 */
		while (at != 0) {
			struct conn *c = conn_at(table, at - 1);

			at = c->wheel_next;
			if (c->due_s <= now_s) {
				wheel_clear(wheel, table, c);
				fire(arg, c);
			}
		}
	}
}
