# What load balancers say of their clients.
FUZZ_TARGETS += tests/fuzz/forwarded_fuzz tests/fuzz/proxy_fuzz
tests_fuzz_forwarded_fuzz_SOURCES = tests/fuzz/forwarded_fuzz.c $(FUZZ_MAIN)
tests_fuzz_forwarded_fuzz_LDADD = $(FUZZ_LIBS)
tests_fuzz_proxy_fuzz_SOURCES = tests/fuzz/proxy_fuzz.c $(FUZZ_MAIN)
tests_fuzz_proxy_fuzz_LDADD = $(FUZZ_LIBS)
