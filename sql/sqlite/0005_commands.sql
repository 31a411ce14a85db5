-- role: of who asked (enum role of src/auth/identity.h), whose right is judged again when the command is sent.  Of commands of
-- before, a plain user's: what waits of others fails rather than that somebody's does who has no right any more.
ALTER TABLE commands ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
ALTER TABLE commands ADD COLUMN cancelled_by TEXT NOT NULL DEFAULT '';
