/*
 * ticket.c: single-use tickets, which stand for a token in a URL.  Only the
 * storage process.
 */
#include "storage/storage.h"

enum db_result
ticket_put(struct storage *s, const struct msg_ticket_put *m)
{
	struct db_ticket t = {
		.until = wall_run_ms(s) - (s->desk.mono - m->asked_ms) + m->lasts_ms,
		.expires_at = m->expires, .role = m->role,
		.any_tenant = m->any_tenant != 0,
		.tenant = m->tenant, .user = m->user, .role_name = m->role_name
	};

	TRY(batch_begin(s));
	TRY(DB(s->desk.db, ticket_put, m->ticket_hash, &t));
	reply_json(&s->desk, m->request, m->ref, 200, SLICE("{}"));
	return DB_OK;
}

enum db_result
ticket_take(struct storage *s, const struct msg_ticket_take *m)
{
	struct msg_ticket_taken answer = { .request = m->request, .ref = m->ref,
	    .code = ERROR_invalid_token };
	struct db_ticket t = { .text = BUF_INIT };
	enum db_result result;

	TRY(batch_begin(s));
	result = DB(s->desk.db, ticket_take, m->ticket_hash, &t);
	if (result == DB_OK && t.until > wall_run_ms(s)) {
		answer.code = ERROR_NONE;
		answer.expires = t.expires_at;
		answer.role = t.role;
		answer.any_tenant = t.any_tenant;
		answer.tenant = t.tenant;
		answer.user = t.user;
		answer.role_name = t.role_name;
	}
	if (result != DB_FAILED)
		post_to_ref(&s->desk, ticket_taken, &answer);
	db_ticket_fini(&t);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}
