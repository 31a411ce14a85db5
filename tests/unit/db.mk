# Unit tests: the store's operations; devices by many ids; tenants remembered; which rows are a device's; the place of a store that ends with the instance; and that readers answer as the writer does.
DB_TESTS = \
	tests/unit/db \
	tests/unit/db_links \
	tests/unit/db_place \
	tests/unit/db_same tests/unit/db_page \
	tests/unit/db_ids tests/unit/db_tenants tests/unit/db_usage
check_PROGRAMS += $(DB_TESTS)
TESTS += $(DB_TESTS)

DB_TEST_LIBS = libdb.a libbase.a $(SQLITE_LIBS) $(JANSSON_LIBS) $(CRYPTO_LIBS) $(UNIT_LIBS)

tests_unit_db_SOURCES = tests/unit/db.c
tests_unit_db_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_LDADD = $(DB_TEST_LIBS)

tests_unit_db_links_SOURCES = tests/unit/db_links.c
tests_unit_db_links_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_links_LDADD = $(DB_TEST_LIBS)

tests_unit_db_place_SOURCES = tests/unit/db_place.c
tests_unit_db_place_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_place_LDADD = $(DB_TEST_LIBS)

tests_unit_db_same_SOURCES = tests/unit/db_same.c
tests_unit_db_same_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_same_LDADD = $(DB_TEST_LIBS)

tests_unit_db_ids_SOURCES = tests/unit/db_ids.c
tests_unit_db_ids_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_ids_LDADD = $(DB_TEST_LIBS)

tests_unit_db_tenants_SOURCES = tests/unit/db_tenants.c
tests_unit_db_tenants_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_tenants_LDADD = $(DB_TEST_LIBS)

tests_unit_db_usage_SOURCES = tests/unit/db_usage.c
tests_unit_db_usage_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_usage_LDADD = $(DB_TEST_LIBS)

tests_unit_db_page_SOURCES = tests/unit/db_page.c
tests_unit_db_page_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_db_page_LDADD = $(DB_TEST_LIBS)
