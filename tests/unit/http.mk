check_PROGRAMS += tests/unit/http
TESTS += tests/unit/http
tests_unit_http_SOURCES = tests/unit/http.c
tests_unit_http_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_http_LDADD = libhttp.a libbase.a $(UNIT_LIBS) $(CRYPTO_LIBS)

check_PROGRAMS += tests/unit/forwarded
TESTS += tests/unit/forwarded
tests_unit_forwarded_SOURCES = tests/unit/forwarded.c
tests_unit_forwarded_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_forwarded_LDADD = libhttp.a libbase.a $(UNIT_LIBS) $(CRYPTO_LIBS)
