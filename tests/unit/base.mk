# Unit tests: base
check_PROGRAMS += tests/unit/base tests/unit/conf
TESTS += tests/unit/base tests/unit/conf

tests_unit_base_SOURCES = tests/unit/base.c
tests_unit_base_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_LDADD = libbase.a $(CRYPTO_LIBS) $(UNIT_LIBS)

tests_unit_conf_SOURCES = tests/unit/conf.c
tests_unit_conf_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_conf_LDADD = libbase.a $(LIBCONFIG_LIBS) $(CRYPTO_LIBS) $(UNIT_LIBS)
