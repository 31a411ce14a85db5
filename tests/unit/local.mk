# Unit tests.  One fragment per owner, each adding its programs:
#	check_PROGRAMS += tests/unit/frame
#	TESTS += tests/unit/frame
#	tests_unit_frame_SOURCES = tests/unit/frame.c
#	tests_unit_frame_LDADD = libws.a $(UNIT_LIBS)
# A program exits with the number of its failures, or 77 when it can't run here (never cmocka's skip()).
UNIT_LIBS = $(CMOCKA_LIBS)
UNIT_CPPFLAGS = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)

if HAVE_CMOCKA
include tests/unit/base.mk
include tests/unit/shm.mk
include tests/unit/net.mk
include tests/unit/http.mk
include tests/unit/ws.mk
include tests/unit/msg.mk
include tests/unit/envelope.mk
include tests/unit/auth.mk
include tests/unit/db.mk
include tests/unit/storage.mk
include tests/unit/keys.mk
include tests/unit/workers.mk
include tests/unit/master.mk
include tests/unit/belayctl.mk
else
check-local:
	@echo 'Without cmocka the unit tests were left out (Debian: libcmocka-dev).' >&2; test "x$$CI" = x
endif
