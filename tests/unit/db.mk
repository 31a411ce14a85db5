# Unit tests: the store's operations.
DB_TESTS = tests/unit/db
check_PROGRAMS += $(DB_TESTS)
TESTS += $(DB_TESTS)

DB_TEST_LIBS = libdb.a libbase.a $(SQLITE_LIBS) $(JANSSON_LIBS) $(CRYPTO_LIBS) $(UNIT_LIBS)

tests_unit_db_SOURCES = tests/unit/db.c
tests_unit_db_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_LDADD = $(DB_TEST_LIBS)
