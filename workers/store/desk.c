/*
 * desk.c: a desk from its start to its end; see desk.h.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "store/desk.h"

void
desk_init(struct desk *k, struct worker *w)
{
	k->w = w;
	k->shm = w->shm;
	k->key = shm_hash_key(w->shm);
	desk_settings(k, w->conf);
	desk_clocks(k);
}

void
desk_settings(struct desk *k, const struct conf *conf)
{
	k->members_view = conf->auth_tenant_members == CONF_TENANT_MEMBERS_VIEW;
	k->suspect_ms = conf->limits_heartbeat_ms * 3 / 2;
}

void
desk_clocks(struct desk *k)
{
	k->now = clock_now_ms();
	k->mono = clock_mono_ms();
}

void
desk_fini(struct desk *k)
{
	db_close(&k->db);
	cursor_stop(k);
	db_device_fini(&k->device);
	db_command_fini(&k->command);
	db_share_fini(&k->share);
	db_visitor_fini(&k->visitor);
	buf_fini(&k->json);
	buf_fini(&k->text);
	buf_fini(&k->cursor);
	buf_fini(&k->pack);
}

struct hash128
desk_device_key(const struct desk *k, const struct db_device *d)
{
	return audience_device_key(k->key, d->tenant, d->id);
}
