/*
 * desk.c: a desk from its start to its end; see desk.h.
 */
#include "base/clock.h"
#include "base/conf.h"
#include "store/desk.h"

#define STEP_MS		1000		/* a smaller one of the wall clock is none */
#define SURE_MS		100		/* between two readings that are taken for one moment */
#define READINGS	3		/* tried for that */

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
	for (unsigned i = 0; i < READINGS; i++) {
		int64_t boot = clock_boot_ms();

		k->now = clock_now_ms();
		if (clock_boot_ms() - boot > SURE_MS)
			continue;		/* somebody else had the processor */
		k->ahead = k->now - boot;
		break;
	}
	k->mono = clock_mono_ms();
	/* Two readings of one moment may differ by a millisecond: what is shown of a moment must not. */
	if (k->now - k->mono - k->mono_ahead >= STEP_MS || k->mono_ahead - (k->now - k->mono) >= STEP_MS)
		k->mono_ahead = k->now - k->mono;
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
	db_page_fini(&k->page);
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

int64_t
desk_seen_at(const struct desk *k, const struct directory_view *v)
{
	return k->mono_ahead + v->last_seen_mono_ms;
}
