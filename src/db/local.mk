# The store, over SQLite.
noinst_LIBRARIES += libdb.a
libdb_a_SOURCES = \
	src/db/db.c src/db/db.h src/db/page.c src/db/page.h src/db/ops.def src/db/migration.h \
	src/db/folders.c src/db/folders.h src/db/place.c src/db/place.h src/db/tenants.c src/db/tenants.h src/db/retain.c \
	src/db/rows.c src/db/rows.h src/db/samples.c \
	src/db/sqlite.c src/db/sqlite.h src/db/sqlite_command.c src/db/sqlite_device.c src/db/sqlite_event.c \
	src/db/sqlite_checkpoint.c src/db/sqlite_links.c src/db/sqlite_telemetry.c src/db/sqlite_usage.c \
	src/db/sqlite_statements.def
