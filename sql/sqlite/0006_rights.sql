-- Shares that run out are found by their end.
CREATE INDEX shares_end ON shares (expires_at) WHERE expires_at <> 0;

-- Tokens of devices that are good beside the newest, devices.token_hash, until that is used for the first time, and no longer
-- than until (0: without another end).  waits: a newer one was made when this one had not been used yet.
CREATE TABLE old_tokens (
	hash BLOB PRIMARY KEY NOT NULL,
	device_pk INTEGER NOT NULL,
	until INTEGER NOT NULL,
	waits INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX old_tokens_device ON old_tokens (device_pk);
CREATE INDEX old_tokens_until ON old_tokens (until) WHERE until <> 0;
