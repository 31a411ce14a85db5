# Unit tests: tokens and keys.
AUTH_TESTS = \
	tests/unit/auth_explain \
	tests/unit/auth_verify
check_PROGRAMS += $(AUTH_TESTS)
TESTS += $(AUTH_TESTS)

AUTH_TEST_LIBS = libauth.a libbase.a $(JWT_LIBS) $(JANSSON_LIBS) $(LIBCONFIG_LIBS) $(CRYPTO_LIBS) $(UNIT_LIBS)

tests_unit_auth_explain_SOURCES = tests/unit/auth_explain.c tests/unit/auth_tokens.c tests/unit/auth_tokens.h
tests_unit_auth_explain_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_auth_explain_LDADD = $(AUTH_TEST_LIBS)

tests_unit_auth_verify_SOURCES = tests/unit/auth_verify.c tests/unit/auth_tokens.c tests/unit/auth_tokens.h
tests_unit_auth_verify_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_auth_verify_LDADD = $(AUTH_TEST_LIBS)
