# The store, over SQLite.
noinst_LIBRARIES += libdb.a
libdb_a_SOURCES = \
	src/db/db.c src/db/db.h src/db/ops.def src/db/migration.h \
	src/db/folders.c src/db/folders.h \
	src/db/memory.c src/db/memory.h src/db/memory_command.c src/db/memory_device.c \
	src/db/memory_event.c src/db/memory_key.c src/db/memory_retain.c src/db/memory_share.c \
	src/db/memory_telemetry.c src/db/memory_undo.c src/db/memory_values.c src/db/memory_visitor.c \
	src/db/memory_hash.c src/db/memory_hash.h src/db/memory_list.h \
	src/db/memory_series.c src/db/memory_series.h src/db/memory_tree.c src/db/memory_tree.h \
	src/db/sqlite.c src/db/sqlite.h src/db/sqlite_command.c src/db/sqlite_device.c src/db/sqlite_event.c \
	src/db/sqlite_telemetry.c \
	src/db/sqlite_statements.def
