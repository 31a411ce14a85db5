# Unit tests: workers
check_PROGRAMS += tests/unit/reader_line
TESTS += tests/unit/reader_line

tests_unit_reader_line_SOURCES = tests/unit/reader_line.c
tests_unit_reader_line_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_reader_line_LDADD = libworkers.a $(LAYER_LIBS) $(EXTERNAL_LIBS) $(UNIT_LIBS)
