# Unit tests: the storage role over a real store, without other processes; and the same process killed at full speed.
STORAGE_TESTS = \
	tests/unit/storage \
	tests/unit/storage_kill
check_PROGRAMS += $(STORAGE_TESTS)
TESTS += $(STORAGE_TESTS)

STORAGE_TEST_LIBS = libworkers.a $(LAYER_LIBS) $(EXTERNAL_LIBS) $(UNIT_LIBS)
STORAGE_TEST_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)/tests/unit

tests_unit_storage_SOURCES = tests/unit/storage.c tests/unit/storage_world.c tests/unit/storage_world.h
tests_unit_storage_CPPFLAGS = $(STORAGE_TEST_CPPFLAGS)
tests_unit_storage_LDADD = $(STORAGE_TEST_LIBS)
# The test sets the wall clock, and lets time pass.
STORAGE_TEST_CLOCKS = -Wl,--wrap=clock_now_ms -Wl,--wrap=clock_mono_ms -Wl,--wrap=clock_mono_us \
	-Wl,--wrap=clock_boot_ms
tests_unit_storage_LDFLAGS = $(AM_LDFLAGS) $(STORAGE_TEST_CLOCKS)

tests_unit_storage_kill_SOURCES = tests/unit/storage_kill.c tests/unit/storage_world.c tests/unit/storage_world.h
tests_unit_storage_kill_CPPFLAGS = $(STORAGE_TEST_CPPFLAGS)
tests_unit_storage_kill_LDADD = $(STORAGE_TEST_LIBS)

# What devices have in flight.
check_PROGRAMS += tests/unit/flight
TESTS += tests/unit/flight
tests_unit_flight_SOURCES = tests/unit/flight.c
tests_unit_flight_CPPFLAGS = $(STORAGE_TEST_CPPFLAGS)
tests_unit_flight_LDADD = libworkers.a $(LAYER_LIBS) $(EXTERNAL_LIBS) $(UNIT_LIBS)

# What a command costs in the storage process: "make tests/bench/store_bench"; see its head.
EXTRA_PROGRAMS += tests/bench/store_bench
CLEANFILES += tests/bench/store_bench
tests_bench_store_bench_SOURCES = tests/bench/store_bench.c tests/unit/storage_world.c tests/unit/storage_world.h
tests_bench_store_bench_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)/tests -I$(top_srcdir)/tests/unit
tests_bench_store_bench_LDADD = libworkers.a $(LAYER_LIBS) $(EXTERNAL_LIBS)

# The same, killed after each step: with the test points of the batch and of shared memory built in.
check_PROGRAMS += tests/unit/storage_steps
TESTS += tests/unit/storage_steps
tests_unit_storage_steps_SOURCES = tests/unit/storage_steps.c tests/unit/storage_world.c tests/unit/storage_world.h \
	workers/storage/batch.c workers/storage/effect.c
tests_unit_storage_steps_CPPFLAGS = $(STORAGE_TEST_CPPFLAGS) -DSTORAGE_TEST -DSHM_TEST
tests_unit_storage_steps_LDADD = tests/shm/libshm_test.a $(STORAGE_TEST_LIBS)

# What a command costs in rows, index entries and bytes of log.
check_PROGRAMS += tests/unit/storage_cost
TESTS += tests/unit/storage_cost
tests_unit_storage_cost_SOURCES = tests/unit/storage_cost.c tests/unit/storage_world.c tests/unit/storage_world.h
tests_unit_storage_cost_CPPFLAGS = $(STORAGE_TEST_CPPFLAGS)
tests_unit_storage_cost_LDADD = $(STORAGE_TEST_LIBS)

# An engine that gives transactions up, and loses the answer to COMMIT.
check_PROGRAMS += tests/unit/storage_again
TESTS += tests/unit/storage_again
tests_unit_storage_again_SOURCES = tests/unit/storage_again.c tests/unit/storage_world.c tests/unit/storage_world.h
tests_unit_storage_again_CPPFLAGS = $(STORAGE_TEST_CPPFLAGS)
tests_unit_storage_again_LDADD = $(STORAGE_TEST_LIBS)

# The storage role over an engine that counts the commands of each device for itself.
check_PROGRAMS += tests/unit/storage_numbers
TESTS += tests/unit/storage_numbers
tests_unit_storage_numbers_SOURCES = tests/unit/storage.c tests/unit/db_numbers.c tests/unit/storage_world.c \
	tests/unit/storage_world.h
tests_unit_storage_numbers_CPPFLAGS = $(STORAGE_TEST_CPPFLAGS)
tests_unit_storage_numbers_LDADD = $(STORAGE_TEST_LIBS)
tests_unit_storage_numbers_LDFLAGS = $(AM_LDFLAGS) $(STORAGE_TEST_CLOCKS) -Wl,--wrap=db_open

check_PROGRAMS += tests/unit/storage_keys
TESTS += tests/unit/storage_keys
tests_unit_storage_keys_SOURCES = tests/unit/storage_keys.c tests/unit/db_numbers.c tests/unit/storage_world.c \
	tests/unit/storage_world.h
tests_unit_storage_keys_CPPFLAGS = $(STORAGE_TEST_CPPFLAGS)
tests_unit_storage_keys_LDADD = $(STORAGE_TEST_LIBS)
tests_unit_storage_keys_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=db_open
