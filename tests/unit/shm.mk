# Tests of shm/: unit tests, and real processes that are killed (tests/shm).  They use a build of the library with the
# test points of segment.h in it.  SHM_KILLS=1000 in the environment makes the killing longer.
check_LIBRARIES = tests/shm/libshm_test.a
tests_shm_libshm_test_a_SOURCES = $(libshm_a_SOURCES) tests/shm/lib.c tests/shm/lib.h
tests_shm_libshm_test_a_CPPFLAGS = $(AM_CPPFLAGS) -DSHM_TEST

SHM_TEST_LIBS = tests/shm/libshm_test.a libbase.a $(CRYPTO_LIBS)
SHM_TESTS = tests/shm/points tests/shm/mailbox tests/shm/tables tests/shm/pending \
	tests/shm/limits tests/shm/outbox tests/shm/threads

check_PROGRAMS += tests/unit/shm $(SHM_TESTS)
TESTS += tests/unit/shm $(SHM_TESTS)

tests_unit_shm_SOURCES = tests/unit/shm.c
tests_unit_shm_CPPFLAGS = $(UNIT_CPPFLAGS) -DSHM_TEST
tests_unit_shm_LDADD = $(SHM_TEST_LIBS) $(UNIT_LIBS)

tests_shm_points_SOURCES = tests/shm/points.c
tests_shm_points_CPPFLAGS = $(AM_CPPFLAGS) -DSHM_TEST
tests_shm_points_LDADD = $(SHM_TEST_LIBS)

tests_shm_mailbox_SOURCES = tests/shm/mailbox.c
tests_shm_mailbox_CPPFLAGS = $(AM_CPPFLAGS) -DSHM_TEST
tests_shm_mailbox_LDADD = $(SHM_TEST_LIBS)

tests_shm_tables_SOURCES = tests/shm/tables.c
tests_shm_tables_CPPFLAGS = $(AM_CPPFLAGS) -DSHM_TEST
tests_shm_tables_LDADD = $(SHM_TEST_LIBS)

tests_shm_pending_SOURCES = tests/shm/pending.c
tests_shm_pending_CPPFLAGS = $(AM_CPPFLAGS) -DSHM_TEST
tests_shm_pending_LDADD = $(SHM_TEST_LIBS) -lpthread

tests_shm_outbox_SOURCES = tests/shm/outbox.c
tests_shm_outbox_CPPFLAGS = $(AM_CPPFLAGS) -DSHM_TEST
tests_shm_outbox_LDADD = $(SHM_TEST_LIBS)

tests_shm_limits_SOURCES = tests/shm/limits.c
tests_shm_limits_CPPFLAGS = $(AM_CPPFLAGS) -DSHM_TEST
tests_shm_limits_LDADD = $(SHM_TEST_LIBS)

tests_shm_threads_SOURCES = tests/shm/threads.c
tests_shm_threads_CPPFLAGS = $(AM_CPPFLAGS) -DSHM_TEST
tests_shm_threads_LDADD = $(SHM_TEST_LIBS) -lpthread

# Built, not run: what the operations cost, in nanoseconds.
check_PROGRAMS += tests/bench/shm_bench
tests_bench_shm_bench_SOURCES = tests/bench/shm_bench.c
tests_bench_shm_bench_LDADD = libshm.a libbase.a $(CRYPTO_LIBS)
