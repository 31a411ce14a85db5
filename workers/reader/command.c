/*
 * command.c: commands shown: one, or those of a device, the newest first.  Only readers.
 */
#include "reader/reader.h"

enum read_end
read_command_get(struct desk *k, struct reading *x)
{
	struct db_command *c = &k->command;
	struct buf body = BUF_INIT;
	uint8_t id[UUID_LEN];
	enum db_result result = DB_NONE;

	if (uuid_parse(x->r.target, id) == 0)
		result = DB(k->db, command_get, id, c);
	if (result == DB_OK)
		result = DB(k->db, device_by_pk, c->device_pk, false, &k->device);
	if (result == DB_FAILED)
		return READ_FAILED;
	if (result == DB_NONE || !slice_eq(k->device.tenant, x->r.who.tenant)) {
		rest_error(k, &x->r, ERROR_not_found, NULL, "no such command");
		return READ_DONE;
	}
	if (!rest_may(k, &x->r, &k->device)) {
		rest_error(k, &x->r, ERROR_no_access, NULL, NULL);
		return READ_DONE;
	}
	buf_puts(&body, "{\"command\":");
	json_command(&body, c, k->device.id);
	buf_putc(&body, '}');
	rest_ok(k, &x->r, 200, &body);
	buf_fini(&body);
	return READ_DONE;
}

enum read_end
read_device_commands(struct desk *k, struct reading *x)
{
	struct rest_list *l = &x->list;
	const struct db_command *c;
	struct db_page *page;
	unsigned limit;
	enum db_result result = rest_device(k, &x->r, false);

	if (result != DB_OK)
		return result == DB_FAILED ? READ_FAILED : READ_DONE;
	if (!x->begun) {
		if (!rest_page(k, &x->r, &limit, CURSOR_COMMAND, &x->u.before))
			return READ_DONE;
		list_open(k, l, "commands", limit);
		x->begun = true;
	}
	page = reading_page_of_list(k, x);
	if (DB(k->db, command_list, k->device.pk, x->u.before, page) == DB_FAILED)
		return READ_FAILED;
	c = page->row;
	for (unsigned i = 0; i < page->count && list_next(l); i++) {
		json_command(&l->body, &c[i], k->device.id);
		list_cursor(l, CURSOR_COMMAND, k->device.tenant_pk, c[i].number);
	}
	x->u.before = page->last;
	if (reading_goes_on(k, x))
		return READ_MORE;
	list_ran_out(l, CURSOR_COMMAND, k->device.tenant_pk, page);
	list_close(l, &x->r);
	return READ_DONE;
}
