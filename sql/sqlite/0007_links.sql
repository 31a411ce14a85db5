-- Which events and which commands are a device's.  An index over all rows of all devices cost a page of the log for each row,
-- since each entry went beside others of its device.  Now the newest numbers of each device stand together in device_tail, which
-- is small and so is written many devices at a time; when there are 16 they go, as they are, to the end of device_events or
-- device_commands.  A run of numbers is text: the first one, and then how much higher each is than the one before, with blanks
-- between.  Rows that are named and are not there (any more) count for nothing; nor do those that are another device's.
CREATE TABLE device_tail (
	device_pk INTEGER PRIMARY KEY NOT NULL,
	events TEXT NOT NULL,
	commands TEXT NOT NULL
);
-- By the last number of each: they are appended, and go with the events of that number and lower.
CREATE TABLE device_events (
	last_pk INTEGER PRIMARY KEY NOT NULL,
	device_pk INTEGER NOT NULL,
	numbers TEXT NOT NULL
);
CREATE TABLE device_commands (
	last_pk INTEGER PRIMARY KEY NOT NULL,
	device_pk INTEGER NOT NULL,
	numbers TEXT NOT NULL
);

INSERT INTO device_events SELECT pk, device_pk, numbers FROM (SELECT pk, device_pk, nth, pk_after,
	group_concat(CASE nth % 16 WHEN 0 THEN pk ELSE pk - pk_before END, ' ') OVER (PARTITION BY device_pk, nth / 16 ORDER BY nth)
	AS numbers FROM (SELECT event_pk AS pk, device_pk, row_number() OVER w - 1 AS nth, lag(event_pk) OVER w AS pk_before,
	lead(event_pk) OVER w AS pk_after FROM events WINDOW w AS (PARTITION BY device_pk ORDER BY event_pk)))
	WHERE nth % 16 = 15 OR pk_after IS NULL ORDER BY 1;
INSERT INTO device_commands SELECT pk, device_pk, numbers FROM (SELECT pk, device_pk, nth, pk_after,
	group_concat(CASE nth % 16 WHEN 0 THEN pk ELSE pk - pk_before END, ' ') OVER (PARTITION BY device_pk, nth / 16 ORDER BY nth)
	AS numbers FROM (SELECT command_pk AS pk, device_pk, row_number() OVER w - 1 AS nth, lag(command_pk) OVER w AS pk_before,
	lead(command_pk) OVER w AS pk_after FROM commands WINDOW w AS (PARTITION BY device_pk ORDER BY command_pk)))
	WHERE nth % 16 = 15 OR pk_after IS NULL ORDER BY 1;
CREATE INDEX device_events_device ON device_events (device_pk);
CREATE INDEX device_commands_device ON device_commands (device_pk);
DROP INDEX events_device;
DROP INDEX commands_device;

CREATE TRIGGER device_tail_gone AFTER DELETE ON devices BEGIN
	DELETE FROM device_tail WHERE device_pk = OLD.device_pk;
END;
