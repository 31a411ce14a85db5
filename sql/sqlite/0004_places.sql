-- Places of events: of each tenant 1, 2, 3 … without a hole.  newest is the one given last.  What is at or before removed
-- is not there as it was published: retention took it, or it is older than this schema.
CREATE TABLE event_seq (
	tenant_pk INTEGER PRIMARY KEY NOT NULL,
	newest INTEGER NOT NULL,
	removed INTEGER NOT NULL
);
INSERT INTO event_seq SELECT tenant_pk, count(*), count(*) FROM events GROUP BY tenant_pk;

ALTER TABLE events RENAME TO older_events;
DROP INDEX events_device;
DROP INDEX events_tenant;

-- event_pk is tenant_pk * 2^40 + place: as a number of the row, not as a key of two columns, since a row of a kilobyte then
-- stays in its page (with a key of two columns all beyond 489 bytes goes to a page of its own).  received_at is the server's
-- clock, by which events go; at is what the device said.  type to user: what was published of it, and who may see it
-- (admins: enum publish_admins of src/msg/msg.h; user: it is for that user alone).  data_at: where in the payload the data
-- begins, which then ends one byte before it; 0: the data is in data_json.
CREATE TABLE events (
	event_pk INTEGER PRIMARY KEY,
	id BLOB NOT NULL,
	device_pk INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	at INTEGER NOT NULL,
	received_at INTEGER NOT NULL,
	event TEXT NOT NULL,
	actor TEXT NOT NULL,
	type TEXT NOT NULL,
	admins INTEGER NOT NULL,
	user TEXT NOT NULL,
	data_at INTEGER NOT NULL,
	data_json TEXT NOT NULL,
	payload BLOB NOT NULL
);
-- When they were received was not kept: not before what is older in the log.
INSERT INTO events SELECT tenant_pk * 1099511627776 + row_number() OVER (PARTITION BY tenant_pk ORDER BY seq), id, device_pk,
	epoch, at, max(at) OVER (PARTITION BY tenant_pk ORDER BY seq), event, actor, '', 0, '', 0, data_json, x''
	FROM older_events ORDER BY 1;
CREATE INDEX events_device ON events (device_pk);
DROP TABLE older_events;

-- A successor knows whom a connection replaced from the record of its predecessor.
ALTER TABLE devices DROP COLUMN replaced;
