# belayctl's reader of HTTP responses.
FUZZ_TARGETS += tests/fuzz/web_fuzz
tests_fuzz_web_fuzz_SOURCES = tests/fuzz/web_fuzz.c $(FUZZ_MAIN)
tests_fuzz_web_fuzz_LDADD = libctl.a $(FUZZ_LIBS)
