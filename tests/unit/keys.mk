# Unit tests: the keys process
check_PROGRAMS += tests/unit/keys_schedule
TESTS += tests/unit/keys_schedule
tests_unit_keys_schedule_SOURCES = tests/unit/keys_schedule.c
tests_unit_keys_schedule_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_keys_schedule_LDADD = libworkers.a libbase.a $(UNIT_LIBS)
