# Fuzz targets: each NAME_fuzz.c has LLVMFuzzerTestOneInput and a corpus in corpus/NAME/.  "make check" runs each over its
# corpus through replay.c; "make fuzz" builds them with clang's libFuzzer into fuzz/.  A target takes three lines:
#	FUZZ_TARGETS += tests/fuzz/frame_fuzz
#	tests_fuzz_frame_fuzz_SOURCES = tests/fuzz/frame_fuzz.c $(FUZZ_MAIN)
#	tests_fuzz_frame_fuzz_LDADD = $(FUZZ_LIBS)
FUZZ_TARGETS =
if ENABLE_FUZZING
FUZZ_MAIN =
else
FUZZ_MAIN = tests/fuzz/replay.c
endif
# FUZZ_ENGINE comes from configure: automake takes no linker flag that it can see in an LDADD.
FUZZ_LIBS = $(LAYER_LIBS) $(EXTERNAL_LIBS) $(FUZZ_ENGINE)

check_PROGRAMS += $(FUZZ_TARGETS)
TESTS += $(FUZZ_TARGETS)
EXTRA_DIST += tests/fuzz/replay.c tests/fuzz/corpus

# Then, for example: cd fuzz && tests/fuzz/frame_fuzz -max_len=4096 NEW ../tests/fuzz/corpus/frame
fuzz:
	$(MKDIR_P) fuzz
	test -f fuzz/Makefile || (cd fuzz && $(abs_top_srcdir)/configure CC=clang --enable-fuzzing CFLAGS='-g -O1')
	cd fuzz && $(MAKE) $(AM_MAKEFLAGS) $(FUZZ_TARGETS)
.PHONY: fuzz

# The WebSocket codec, which needs no library of ours.
WS_FUZZ_LIBS = libws.a $(ZLIB_LIBS) $(FUZZ_ENGINE)
FUZZ_TARGETS += tests/fuzz/ws_deflate_fuzz tests/fuzz/ws_handshake_fuzz tests/fuzz/ws_reader_fuzz tests/fuzz/ws_utf8_fuzz
tests_fuzz_ws_deflate_fuzz_SOURCES = tests/fuzz/ws_deflate_fuzz.c $(FUZZ_MAIN)
tests_fuzz_ws_deflate_fuzz_LDADD = $(WS_FUZZ_LIBS)
tests_fuzz_ws_handshake_fuzz_SOURCES = tests/fuzz/ws_handshake_fuzz.c $(FUZZ_MAIN)
tests_fuzz_ws_handshake_fuzz_LDADD = $(WS_FUZZ_LIBS)
tests_fuzz_ws_reader_fuzz_SOURCES = tests/fuzz/ws_reader_fuzz.c tests/unit/ws_trace.c tests/unit/ws_trace.h $(FUZZ_MAIN)
tests_fuzz_ws_reader_fuzz_LDADD = $(WS_FUZZ_LIBS)
tests_fuzz_ws_utf8_fuzz_SOURCES = tests/fuzz/ws_utf8_fuzz.c tests/unit/ws_trace.c tests/unit/ws_trace.h $(FUZZ_MAIN)
tests_fuzz_ws_utf8_fuzz_LDADD = $(WS_FUZZ_LIBS)

# Tokens and keys.
FUZZ_TARGETS += tests/fuzz/claims_fuzz tests/fuzz/jwks_fuzz tests/fuzz/jws_fuzz
tests_fuzz_claims_fuzz_SOURCES = tests/fuzz/claims_fuzz.c $(FUZZ_MAIN)
tests_fuzz_claims_fuzz_LDADD = $(FUZZ_LIBS)
tests_fuzz_jwks_fuzz_SOURCES = tests/fuzz/jwks_fuzz.c $(FUZZ_MAIN)
tests_fuzz_jwks_fuzz_LDADD = $(FUZZ_LIBS)
tests_fuzz_jws_fuzz_SOURCES = tests/fuzz/jws_fuzz.c $(FUZZ_MAIN)
tests_fuzz_jws_fuzz_LDADD = $(FUZZ_LIBS)

include tests/fuzz/http.mk
include tests/fuzz/net.mk
include tests/fuzz/web.mk
