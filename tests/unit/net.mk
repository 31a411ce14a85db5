# Unit tests: net
check_PROGRAMS += tests/unit/listen
TESTS += tests/unit/listen

tests_unit_listen_SOURCES = tests/unit/listen.c
tests_unit_listen_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_listen_LDADD = libnet.a libbase.a $(CRYPTO_LIBS) $(UNIT_LIBS)

check_PROGRAMS += tests/unit/proxy tests/unit/tls
TESTS += tests/unit/proxy tests/unit/tls
tests_unit_proxy_SOURCES = tests/unit/proxy.c
tests_unit_proxy_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_proxy_LDADD = libnet.a $(UNIT_LIBS)
tests_unit_tls_SOURCES = tests/unit/tls.c
tests_unit_tls_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_tls_LDADD = libnet.a libbase.a $(CRYPTO_LIBS) $(UNIT_LIBS)
