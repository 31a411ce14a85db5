-- A user's own devices in the order of their ids, to be walked in steps.
DROP INDEX devices_owner;
CREATE INDEX devices_owner ON devices (tenant_pk, owner, device_id) WHERE deleted_at = 0;

-- How many devices a tenant has of each type, how many of them are online, and how many of those by MQTT alone (transport
-- bits 2): kept, since counting takes long where there are many.
CREATE TABLE device_counts (
	tenant_pk INTEGER NOT NULL,
	device_type TEXT NOT NULL,
	total INTEGER NOT NULL,
	online INTEGER NOT NULL DEFAULT 0,
	mqtt INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (tenant_pk, device_type)
) WITHOUT ROWID;
INSERT INTO device_counts (tenant_pk, device_type, total, online, mqtt)
	SELECT tenant_pk, device_type, count(*), sum(online <> 0), sum(online = 2) FROM devices WHERE deleted_at = 0
	GROUP BY tenant_pk, device_type;
CREATE TRIGGER device_counts_more AFTER INSERT ON devices BEGIN
	INSERT INTO device_counts (tenant_pk, device_type, total) VALUES (NEW.tenant_pk, NEW.device_type, 1)
		ON CONFLICT (tenant_pk, device_type) DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER device_counts_change AFTER UPDATE OF online, deleted_at ON devices
	WHEN NEW.online <> OLD.online OR NEW.deleted_at <> OLD.deleted_at BEGIN
	UPDATE device_counts SET total = total - (NEW.deleted_at <> 0) + (OLD.deleted_at <> 0),
		online = online + (NEW.online <> 0) - (OLD.online <> 0), mqtt = mqtt + (NEW.online = 2) - (OLD.online = 2)
		WHERE tenant_pk = NEW.tenant_pk AND device_type = NEW.device_type;
END;
