# Unit tests: master.  The program brings two roles of its own, so that those of libworkers.a stay out.
check_PROGRAMS += tests/unit/master
TESTS += tests/unit/master

tests_unit_master_SOURCES = tests/unit/master.c workers/role.c
tests_unit_master_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_master_LDADD = libmaster.a libnet.a libmsg.a libshm.a libbase.a $(LIBEVENT_LIBS) $(LIBCONFIG_LIBS) $(CRYPTO_LIBS) $(UNIT_LIBS)
