check_PROGRAMS += tests/unit/envelope tests/unit/json
TESTS += tests/unit/envelope tests/unit/json
tests_unit_envelope_SOURCES = tests/unit/envelope.c
tests_unit_envelope_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_envelope_LDADD = libmsg.a libbase.a $(UNIT_LIBS) $(CRYPTO_LIBS)
tests_unit_json_SOURCES = tests/unit/json.c
tests_unit_json_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_json_LDADD = libbase.a $(UNIT_LIBS) $(CRYPTO_LIBS)
