-- Values measured by devices, where store.telemetry_retention has them stored.  seq is the order in which they arrived, and
-- they go in that order, by received_at.  at is when they were measured, as the device says: they are listed by it, and it
-- may be any time.
CREATE TABLE telemetry (
	seq INTEGER PRIMARY KEY,
	device_pk INTEGER NOT NULL,
	received_at INTEGER NOT NULL,
	at INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	data_json TEXT NOT NULL
);
CREATE INDEX telemetry_device ON telemetry (device_pk, at);

-- Devices that were deleted while they had telemetry: it goes in small steps.
CREATE TABLE telemetry_gone (
	device_pk INTEGER PRIMARY KEY NOT NULL
);
