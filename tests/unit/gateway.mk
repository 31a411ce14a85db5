# Unit tests: gateway
check_PROGRAMS += tests/unit/addresses
TESTS += tests/unit/addresses
tests_unit_addresses_SOURCES = tests/unit/addresses.c
tests_unit_addresses_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_addresses_LDADD = $(BELAY_LIBS) $(UNIT_LIBS)
