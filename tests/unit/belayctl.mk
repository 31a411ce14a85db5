# Unit tests: belayctl
check_PROGRAMS += tests/unit/belayctl
TESTS += tests/unit/belayctl

tests_unit_belayctl_SOURCES = tests/unit/belayctl.c
tests_unit_belayctl_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_belayctl_LDADD = libctl.a $(LAYER_LIBS) $(EXTERNAL_LIBS) $(UNIT_LIBS)
