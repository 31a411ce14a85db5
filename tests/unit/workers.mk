# Unit tests: workers
check_PROGRAMS += tests/unit/aside
TESTS += tests/unit/aside

tests_unit_aside_SOURCES = tests/unit/aside.c
tests_unit_aside_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_aside_LDADD = libworkers.a $(LAYER_LIBS) $(EXTERNAL_LIBS) $(UNIT_LIBS)
