# The migrations, numbered and named in the file's name, are carried inside the binary: sql/embed.awk writes them as C.
SQLITE_MIGRATIONS = $(srcdir)/sql/sqlite/[0-9]*.sql

src/db/migrations_sqlite.c: sql/embed.awk $(SQLITE_MIGRATIONS)
	$(AM_V_GEN)$(MKDIR_P) src/db && \
	LC_ALL=C $(AWK) -v engine=sqlite -f $(srcdir)/sql/embed.awk $(SQLITE_MIGRATIONS) >$@.tmp && mv $@.tmp $@

nodist_libdb_a_SOURCES = src/db/migrations_sqlite.c
BUILT_SOURCES += src/db/migrations_sqlite.c
CLEANFILES += src/db/migrations_sqlite.c
EXTRA_DIST += sql/embed.awk sql/sqlite
