/*
 * rest_command.c: commands shown: one, or those of a device, the newest
 * first.  Only the storage process.
 */
#include "storage/rest.h"

enum db_result
rest_command_get(struct storage *s, const struct rest *r)
{
	struct db_command *c = &s->desk.command;
	struct buf body = BUF_INIT;
	uint8_t id[UUID_LEN];
	enum db_result result = DB_NONE;

	if (uuid_parse(r->m->target, id) == 0)
		result = DB(s->desk.db, command_get, id, c);
	if (result == DB_OK)
		result = DB(s->desk.db, device_by_pk, c->device_pk, false, &s->desk.device);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE || !slice_eq(s->desk.device.tenant, r->who.tenant))
		return rest_error(&s->desk, r, ERROR_not_found, NULL, "no such command");
	if (access_level(&s->desk, &r->who, &s->desk.device) < ACCESS_VIEW)
		return rest_error(&s->desk, r, ERROR_no_access, NULL, NULL);
	buf_puts(&body, "{\"command\":");
	json_command(&body, c, s->desk.device.id);
	buf_putc(&body, '}');
	rest_ok(&s->desk, r, 200, &body);
	buf_fini(&body);
	return DB_OK;
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

enum db_result
rest_device_commands(struct storage *s, const struct rest *r)
{
	struct rest_list l;
	unsigned limit;
	int64_t before;
	enum db_result result = rest_device(&s->desk, r, false, ACCESS_VIEW);

	if (result != DB_OK)
		return result;
	if (!rest_page(&s->desk, r, &limit, CURSOR_COMMAND, &before))
		return DB_OK;
	list_open(&s->desk, &l, "commands", limit);
	if (DB(s->desk.db, command_list, s->desk.device.pk, before, limit + 1, show_command,
	    &l) == DB_FAILED) {
		buf_fini(&l.body);
		buf_fini(&l.cursor);
		return DB_FAILED;
	}
	return list_close(&l, r);
}
