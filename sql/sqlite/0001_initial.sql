-- The whole store.  Times are milliseconds since 1970 UTC, 0 where there is none; ids are 16 bytes; *_json is JSON text.
-- Integers that name states are listed in src/db/db.h.  An index is here only because a query of db.h needs it.

CREATE TABLE meta (
	name TEXT PRIMARY KEY NOT NULL,
	value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE tenants (
	tenant_pk INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE
);

CREATE TABLE devices (
	device_pk INTEGER PRIMARY KEY AUTOINCREMENT,
	tenant_pk INTEGER NOT NULL,
	device_id TEXT NOT NULL,
	owner TEXT NOT NULL,
	token_hash BLOB,
	deleted_at INTEGER NOT NULL DEFAULT 0,
	-- presence: bits of online and the columns _ws, _mqtt are by transport; conn is the holder's reference within the instance
	online INTEGER NOT NULL DEFAULT 0,
	epoch INTEGER NOT NULL DEFAULT 0,
	epoch_ws INTEGER NOT NULL DEFAULT 0,
	epoch_mqtt INTEGER NOT NULL DEFAULT 0,
	conn_ws INTEGER NOT NULL DEFAULT 0,
	conn_mqtt INTEGER NOT NULL DEFAULT 0,
	replaced INTEGER NOT NULL DEFAULT 0,
	since INTEGER NOT NULL DEFAULT 0,
	last_seen INTEGER NOT NULL DEFAULT 0,
	gone_reason TEXT NOT NULL DEFAULT '',
	-- owner and shares as they travel in records (src/msg/audience.h): what shares says, packed
	audience BLOB NOT NULL,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL,
	device_type TEXT NOT NULL,
	name TEXT NOT NULL,
	state_at INTEGER NOT NULL DEFAULT 0,
	state_json TEXT NOT NULL DEFAULT '',
	tags_json TEXT NOT NULL DEFAULT '[]',
	metadata_json TEXT NOT NULL DEFAULT '{}',
	settings_json TEXT NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX devices_id ON devices (tenant_pk, device_id) WHERE deleted_at = 0;
CREATE UNIQUE INDEX devices_token ON devices (token_hash) WHERE token_hash IS NOT NULL;
CREATE INDEX devices_owner ON devices (tenant_pk, owner) WHERE deleted_at = 0;
CREATE INDEX devices_deleted ON devices (tenant_pk, device_id) WHERE deleted_at <> 0;

CREATE TABLE shares (
	device_pk INTEGER NOT NULL,
	user TEXT NOT NULL,
	tenant_pk INTEGER NOT NULL,
	permission INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	commands_json TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	PRIMARY KEY (device_pk, user)
) WITHOUT ROWID;
CREATE INDEX shares_user ON shares (tenant_pk, user);

-- command_pk is the order in which commands were accepted.  open: its result is not known (queued, sent, accepted, or timed
-- out within a day).  trace_json: the elements of the trace, joined by commas.
CREATE TABLE commands (
	command_pk INTEGER PRIMARY KEY,
	id BLOB NOT NULL,
	device_pk INTEGER NOT NULL,
	status INTEGER NOT NULL,
	open INTEGER NOT NULL,
	outcome INTEGER NOT NULL,
	late INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	sent_epoch INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	sent_at INTEGER NOT NULL,
	accepted_at INTEGER NOT NULL,
	finished_at INTEGER NOT NULL,
	timeout_ms INTEGER NOT NULL,
	queue_ms INTEGER NOT NULL,
	queue_until INTEGER NOT NULL,
	-- who asked: a connection's reference, and which run of which instance it is of
	asker INTEGER NOT NULL,
	asker_boot INTEGER NOT NULL,
	command TEXT NOT NULL,
	requested_by TEXT NOT NULL,
	params_json TEXT NOT NULL,
	only_if_json TEXT NOT NULL,
	trace_json TEXT NOT NULL,
	result_json TEXT NOT NULL,
	error_json TEXT NOT NULL
);
CREATE UNIQUE INDEX commands_id ON commands (id);
CREATE INDEX commands_device ON commands (device_pk);
CREATE INDEX commands_open ON commands (device_pk, command_pk) WHERE open = 1;
CREATE INDEX commands_queue ON commands (queue_until) WHERE status = 0;
CREATE INDEX commands_stale ON commands (finished_at) WHERE open = 1 AND status = 5;

-- seq is the cursor that clients see: it only grows and is never used twice.
CREATE TABLE events (
	seq INTEGER PRIMARY KEY,
	id BLOB NOT NULL,
	tenant_pk INTEGER NOT NULL,
	device_pk INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	at INTEGER NOT NULL,
	event TEXT NOT NULL,
	actor TEXT NOT NULL,
	data_json TEXT NOT NULL
);
CREATE INDEX events_device ON events (device_pk);
CREATE INDEX events_tenant ON events (tenant_pk);

CREATE TABLE visitors (
	visitor_pk INTEGER PRIMARY KEY AUTOINCREMENT,
	id BLOB NOT NULL,
	tenant_pk INTEGER NOT NULL,
	device_pk INTEGER NOT NULL,
	status INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	decided_at INTEGER NOT NULL DEFAULT 0,
	decided_by TEXT NOT NULL DEFAULT '',
	command_id BLOB,
	name TEXT NOT NULL,
	snapshot_url TEXT NOT NULL,
	data_json TEXT NOT NULL
);
CREATE UNIQUE INDEX visitors_id ON visitors (tenant_pk, id);
CREATE INDEX visitors_tenant ON visitors (tenant_pk);

CREATE TABLE idempotency (
	tenant_pk INTEGER NOT NULL,
	user TEXT NOT NULL,
	key TEXT NOT NULL,
	command_id BLOB NOT NULL,
	params_hash BLOB NOT NULL,
	expires_at INTEGER NOT NULL,
	PRIMARY KEY (tenant_pk, user, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_expires ON idempotency (expires_at);

CREATE TABLE tickets (
	hash BLOB PRIMARY KEY NOT NULL,
	until INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	role INTEGER NOT NULL,
	any_tenant INTEGER NOT NULL,
	tenant TEXT NOT NULL,
	user TEXT NOT NULL,
	role_name TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX tickets_until ON tickets (until);
