/*
 * rest_command.c: commands shown: one, or those of a device, the newest
 * first.  Only the storage process.
 */
#include "storage/rest.h"

enum db_result
rest_command_get(struct storage *s, const struct rest *r)
{
	struct db_command *c = &s->command;
	struct buf body = BUF_INIT;
	uint8_t id[UUID_LEN];
	enum db_result result = DB_NONE;

	if (uuid_parse(r->m->target, id) == 0)
		result = DB(s->db, command_get, id, c);
	if (result == DB_OK)
		result = DB(s->db, device_by_pk, c->device_pk, false, &s->device);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE || !slice_eq(s->device.tenant, r->who.tenant))
		return rest_error(s, r, ERROR_not_found, NULL, "no such command");
	if (access_level(s, &r->who, &s->device) < ACCESS_VIEW)
		return rest_error(s, r, ERROR_no_access, NULL, NULL);
	buf_puts(&body, "{\"command\":");
	json_command(&body, c, s->device.id);
	buf_putc(&body, '}');
	rest_ok(s, r, 200, &body);
	buf_fini(&body);
	return DB_OK;
}

static bool
show_command(void *arg, const struct db_command *c)
{
	struct rest_list *l = arg;

	if (!list_next(l))
		return false;
	json_command(&l->body, c, l->s->device.id);
	list_cursor(l, CURSOR_COMMAND, l->s->device.tenant_pk, c->pk);
	return true;
}

enum db_result
rest_device_commands(struct storage *s, const struct rest *r)
{
	struct rest_list l;
	unsigned limit;
	int64_t before;
	enum db_result result = rest_device(s, r, false, ACCESS_VIEW);

	if (result != DB_OK)
		return result;
	if (!rest_page(s, r, &limit, CURSOR_COMMAND, &before))
		return DB_OK;
	list_open(s, &l, "commands", limit);
	if (DB(s->db, command_list, s->device.pk, before, limit + 1, show_command,
	    &l) == DB_FAILED) {
		buf_fini(&l.body);
		buf_fini(&l.cursor);
		return DB_FAILED;
	}
	return list_close(&l, r);
}
