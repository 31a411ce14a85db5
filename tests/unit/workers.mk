# Unit tests: workers
check_PROGRAMS += tests/unit/aside
TESTS += tests/unit/aside

tests_unit_aside_SOURCES = tests/unit/aside.c
tests_unit_aside_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_aside_LDADD = libworkers.a $(LAYER_LIBS) $(EXTERNAL_LIBS) $(UNIT_LIBS)

check_PROGRAMS += tests/unit/turns
TESTS += tests/unit/turns
tests_unit_turns_SOURCES = tests/unit/turns.c
tests_unit_turns_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_turns_LDADD = libworkers.a libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/unit/reader_line
TESTS += tests/unit/reader_line

tests_unit_reader_line_SOURCES = tests/unit/reader_line.c
tests_unit_reader_line_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_reader_line_LDADD = libworkers.a $(LAYER_LIBS) $(EXTERNAL_LIBS) $(UNIT_LIBS)
