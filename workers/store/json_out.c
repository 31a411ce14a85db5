/*
 * json_out.c: devices, commands, events, visitors and shares as belay-protocol(7)
 * shows them.  Texts named *_json go out as they are.
 */
#include "base/must.h"
#include "store/desk.h"

const char *
command_status_name(enum command_status status)
{
	static const char *const names[] = {
		[COMMAND_QUEUED] = "queued", [COMMAND_SENT] = "sent",
		    [COMMAND_ACCEPTED] = "accepted",
		[COMMAND_EXECUTED] = "executed", [COMMAND_FAILED] = "failed",
		    [COMMAND_TIMEOUT] = "timeout",
		[COMMAND_EXPIRED] = "expired", [COMMAND_CANCELLED] = "cancelled"
	};

	must((size_t)status < sizeof(names) / sizeof(names[0]));
	return names[status];
}

const char *
permission_name(enum db_permission permission)
{
	return permission == DB_ADMIN ? "admin" : permission == DB_CONTROL ? "control" : "view";
}

const char *
transport_name(unsigned transport)
{
	return transport == DIRECTORY_MQTT ? "mqtt" : "ws";
}

static const char *
outcome_name(enum command_outcome outcome)
{
	return outcome == OUTCOME_CONFIRMED ? "confirmed" : outcome == OUTCOME_UNCONFIRMED ?
	    "unconfirmed" : "not_sent";
}

static void
put_json(struct buf *b, struct slice json)
{
	if (json.len > 0)
		buf_put_slice(b, json);
	else
		buf_put(b, "null", 4);
}

#define PUT(literal) buf_put(b, (literal), sizeof(literal) - 1)

void
json_command(struct buf *b, const struct db_command *c, struct slice device)
{
	PUT("{\"commandId\":");
	buf_put_json_uuid(b, c->id);
	PUT(",\"deviceId\":");
	buf_put_json_string(b, device);
	PUT(",\"command\":");
	buf_put_json_string(b, c->command);
	PUT(",\"params\":");
	buf_put_slice(b, c->params_json);
	PUT(",\"status\":\"");
	buf_puts(b, command_status_name(c->status));
	PUT("\",\"late\":");
	buf_puts(b, c->late ? "true" : "false");
	PUT(",\"outcome\":\"");
	buf_puts(b, outcome_name(c->outcome));
	PUT("\",\"safeToRetry\":");
	buf_puts(b, c->outcome == OUTCOME_NOT_SENT ? "true" : "false");
	PUT(",\"requestedBy\":");
	buf_put_json_string(b, c->requested_by);
	PUT(",\"createdAt\":");
	buf_put_json_time(b, c->created_at);
	PUT(",\"sentAt\":");
	buf_put_json_time(b, c->sent_at);
	PUT(",\"acceptedAt\":");
	buf_put_json_time(b, c->accepted_at);
	PUT(",\"finishedAt\":");
	buf_put_json_time(b, c->finished_at);
	PUT(",\"timeoutMs\":");
	buf_put_i64(b, c->timeout_ms);
	PUT(",\"queueMs\":");
	buf_put_i64(b, c->queue_ms);
	PUT(",\"attempt\":");
	buf_put_i64(b, c->attempt);
	PUT(",\"result\":");
	put_json(b, c->result_json);
	PUT(",\"error\":");
	put_json(b, c->error_json);
	PUT(",\"cancelledBy\":");
	if (c->cancelled_by.len > 0)
		buf_put_json_string(b, c->cancelled_by);
	else
		PUT("null");
	PUT(",\"trace\":[");
	buf_put_slice(b, c->trace_json);
	PUT("]}");
}

/*
 * Is it connected, as far as anybody knows?  What changes is in the row before it is in the directory.  *seen_at: when
 * it was heard.
 */
static bool
is_held(const struct desk *k, const struct db_device *d, struct directory_view *v, int64_t *seen_at)
{
	*seen_at = d->last_seen;
	if (d->online == 0 || directory_find(k->shm, desk_device_key(k, d), v) != 1)
		return false;
	*seen_at = desk_seen_at(k, v);
	return desk_is_held(k, v);
}

/*
 * unknown: it never connected.  suspect: it is taken for connected, but nothing was heard of it for one and a half
 * heartbeats, or its connection was lost with a process or instance and it has server.return_time to come back.
 * v: its entry in the directory; NULL: it is not held.
 */
static const char *
status_of(const struct desk *k, const struct db_device *d, const struct directory_view *v)
{
	if (v != NULL)
		return k->mono - v->last_seen_mono_ms > k->suspect_ms ? "suspect" : "online";
	return d->online != 0 ? "suspect" : d->since == 0 ? "unknown" : "offline";
}

const char *
json_presence_status(const struct desk *k, const struct db_device *d)
{
	struct directory_view v;
	int64_t seen_at;

	return status_of(k, d, is_held(k, d, &v, &seen_at) ? &v : NULL);
}

static unsigned
transport_of(const struct db_device *d, const struct directory_view *v)
{
	bool ws = v != NULL ? v->ref[DIRECTORY_WS] != REF_NONE : (d->online & 1u << DIRECTORY_WS) != 0;

	return ws ? DIRECTORY_WS : DIRECTORY_MQTT;
}

/* All of it by one look at the directory; false: see json_device(). */
static bool
put_presence(struct desk *k, struct buf *b, const struct db_device *d)
{
	struct directory_view v;
	int64_t seen_at;
	bool here = is_held(k, d, &v, &seen_at);
	unsigned transport = transport_of(d, here ? &v : NULL);

	PUT("{\"status\":\"");
	buf_puts(b, status_of(k, d, here ? &v : NULL));
	PUT("\",\"transport\":");
	if (d->online != 0)
		buf_printf(b, "\"%s\"", transport_name(transport));
	else
		PUT("null");
	PUT(",\"epoch\":");
	buf_put_i64(b, here && v.epoch[transport] > d->epoch ? v.epoch[transport] : d->epoch);
	PUT(",\"since\":");
	buf_put_json_time(b, here ? v.since_ms[transport] : d->since);
	PUT(",\"lastSeen\":");
	buf_put_json_time(b, seen_at);
	PUT(",\"reason\":");
	if (d->online == 0 && d->gone_reason.len > 0)
		buf_put_json_string(b, d->gone_reason);
	else
		PUT("null");
	PUT("}");
	return here || d->online == 0;
}

bool
json_device(struct desk *k, struct buf *b, const struct db_device *d)
{
	bool settled;

	must(d->whole);
	PUT("{\"deviceId\":");
	buf_put_json_string(b, d->id);
	PUT(",\"tenantId\":");
	buf_put_json_string(b, d->tenant);
	PUT(",\"ownerId\":");
	buf_put_json_string(b, d->owner);
	PUT(",\"name\":");
	buf_put_json_string(b, d->name);
	PUT(",\"deviceType\":");
	buf_put_json_string(b, d->type);
	PUT(",\"tags\":");
	buf_put_slice(b, d->tags_json);
	PUT(",\"metadata\":");
	buf_put_slice(b, d->metadata_json);
	PUT(",\"settings\":");
	buf_put_slice(b, d->settings_json);
	PUT(",\"state\":");
	put_json(b, d->state_json);
	PUT(",\"createdAt\":");
	buf_put_json_time(b, d->created_at);
	PUT(",\"updatedAt\":");
	buf_put_json_time(b, d->updated_at);
	PUT(",\"presence\":");
	settled = put_presence(k, b, d);
	PUT("}");
	return settled;
}

void
json_event(struct desk *k, struct buf *b, const struct db_event *e)
{
	PUT("{\"eventId\":");
	buf_put_json_uuid(b, e->id);
	PUT(",\"cursor\":\"");
	cursor_put(k, b, CURSOR_EVENT, e->tenant_pk, e->seq);
	PUT("\",\"deviceId\":");
	buf_put_json_string(b, e->device);
	PUT(",\"event\":");
	buf_put_json_string(b, e->event);
	PUT(",\"data\":");
	put_json(b, e->data_json);
	PUT(",\"actor\":");
	if (e->actor.len > 0)
		buf_put_json_string(b, e->actor);
	else
		PUT("null");
	PUT(",\"at\":");
	buf_put_json_time(b, e->at);
	PUT(",\"receivedAt\":");
	buf_put_json_time(b, e->received_at);
	PUT("}");
}

void
json_sample(struct buf *b, const struct db_sample *v, struct slice device)
{
	PUT("{\"deviceId\":");
	buf_put_json_string(b, device);
	PUT(",\"epoch\":");
	buf_put_i64(b, v->epoch);
	PUT(",\"at\":");
	buf_put_json_moment(b, v->at);
	PUT(",\"data\":");
	buf_put_slice(b, v->data_json);
	PUT("}");
}

void
json_visitor(struct buf *b, const struct db_visitor *v, struct slice device)
{
	static const char *const status[] = {
		[VISITOR_PENDING] = "pending", [VISITOR_APPROVED] = "approved",
		    [VISITOR_DENIED] = "denied"
	};

	PUT("{\"visitorId\":");
	buf_put_json_uuid(b, v->id);
	PUT(",\"deviceId\":");
	buf_put_json_string(b, device);
	PUT(",\"name\":");
	if (v->name.len > 0)
		buf_put_json_string(b, v->name);
	else
		PUT("null");
	PUT(",\"snapshotUrl\":");
	if (v->snapshot_url.len > 0)
		buf_put_json_string(b, v->snapshot_url);
	else
		PUT("null");
	PUT(",\"data\":");
	put_json(b, v->data_json);
	PUT(",\"status\":\"");
	buf_puts(b, status[v->status]);
	PUT("\",\"decidedBy\":");
	if (v->decided_by.len > 0)
		buf_put_json_string(b, v->decided_by);
	else
		PUT("null");
	PUT(",\"decidedAt\":");
	buf_put_json_time(b, v->decided_at);
	PUT(",\"commandId\":");
	if (v->has_command)
		buf_put_json_uuid(b, v->command_id);
	else
		PUT("null");
	PUT(",\"createdAt\":");
	buf_put_json_time(b, v->created_at);
	PUT("}");
}

void
json_share(struct buf *b, const struct db_share *share)
{
	PUT("{\"userId\":");
	buf_put_json_string(b, share->user);
	buf_printf(b, ",\"permission\":\"%s\"", permission_name(share->permission));
	if (share->expires_at != 0) {
		PUT(",\"expiresAt\":");
		buf_put_json_time(b, share->expires_at);
	}
	if (share->commands_json.len > 0) {
		PUT(",\"commands\":");
		buf_put_slice(b, share->commands_json);
	}
	PUT("}");
}
