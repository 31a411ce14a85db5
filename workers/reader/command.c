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
	if (access_level(k, &x->r.who, &k->device) < ACCESS_VIEW) {
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

static bool
show_command(void *arg, const struct db_command *c)
{
	struct rest_list *l = arg;

	if (!list_next(l))
		return false;
	json_command(&l->body, c, l->k->device.id);
	list_cursor(l, CURSOR_COMMAND, l->k->device.tenant_pk, c->pk);
	return true;
}

/* One step: each row that is looked at is shown, and a page is short. */
enum read_end
read_device_commands(struct desk *k, struct reading *x)
{
	unsigned limit;
	int64_t before;
	enum db_result result = rest_device(k, &x->r, false, ACCESS_VIEW);

	if (result != DB_OK)
		return result == DB_FAILED ? READ_FAILED : READ_DONE;
	if (!rest_page(k, &x->r, &limit, CURSOR_COMMAND, &before))
		return READ_DONE;
	list_open(k, &x->list, "commands", limit);
	if (DB(k->db, command_list, k->device.pk, before, limit + 1, show_command, &x->list) == DB_FAILED)
		return READ_FAILED;
	list_close(&x->list, &x->r);
	return READ_DONE;
}
