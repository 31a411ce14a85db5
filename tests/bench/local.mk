# Load programs: built by "make bench", never installed, not part of "make all".
BENCH_TARGETS = \
	tests/bench/bench_command tests/bench/bench_connect tests/bench/bench_echo \
	tests/bench/bench_fanout tests/bench/bench_hold tests/bench/bench_telemetry tests/bench/bench_tenants \
	tests/bench/bench_verify \
	tests/bench/raw_epoll

EXTRA_PROGRAMS += $(BENCH_TARGETS)
EXTRA_LIBRARIES += tests/bench/libbench.a
CLEANFILES += $(BENCH_TARGETS) tests/bench/libbench.a

tests_bench_libbench_a_SOURCES = \
	tests/bench/lib.h \
	tests/bench/lib_args.c \
	tests/bench/lib_belay.c \
	tests/bench/lib_conn.c \
	tests/bench/lib_hist.c \
	tests/bench/lib_proc.c

BENCH_LIBS = tests/bench/libbench.a libauth.a libbase.a $(EXTERNAL_LIBS)
tests_bench_bench_command_SOURCES = tests/bench/bench_command.c
tests_bench_bench_command_LDADD = $(BENCH_LIBS)
tests_bench_bench_connect_SOURCES = tests/bench/bench_connect.c
tests_bench_bench_connect_LDADD = $(BENCH_LIBS)
tests_bench_bench_echo_SOURCES = tests/bench/bench_echo.c
tests_bench_bench_echo_LDADD = $(BENCH_LIBS)
tests_bench_bench_fanout_SOURCES = tests/bench/bench_fanout.c
tests_bench_bench_fanout_LDADD = $(BENCH_LIBS)
tests_bench_bench_hold_SOURCES = tests/bench/bench_hold.c
tests_bench_bench_hold_LDADD = $(BENCH_LIBS)
tests_bench_bench_telemetry_SOURCES = tests/bench/bench_telemetry.c
tests_bench_bench_telemetry_LDADD = $(BENCH_LIBS)
tests_bench_bench_tenants_SOURCES = tests/bench/bench_tenants.c
tests_bench_bench_tenants_LDADD = $(BENCH_LIBS)
tests_bench_bench_verify_SOURCES = tests/bench/bench_verify.c tests/unit/auth_tokens.c tests/unit/auth_tokens.h
tests_bench_bench_verify_LDADD = $(BENCH_LIBS)
tests_bench_raw_epoll_SOURCES = tests/bench/raw_epoll.c
tests_bench_raw_epoll_LDADD = $(BENCH_LIBS)

.PHONY: bench
bench: belayd$(EXEEXT) belayctl$(EXEEXT) $(BENCH_TARGETS)

EXTRA_DIST += tests/bench/README.md tests/bench/bench_get.py tests/bench/run.sh \
	tests/bench/peers/echo.js tests/bench/peers/fanout.js tests/bench/peers/jwt.js \
	tests/bench/peers/package.json tests/bench/peers/relay.js
