# Unit tests: the WebSocket codec.
WS_TESTS = \
	tests/unit/ws_deflate \
	tests/unit/ws_frame \
	tests/unit/ws_handshake \
	tests/unit/ws_reader \
	tests/unit/ws_utf8
check_PROGRAMS += $(WS_TESTS)
TESTS += $(WS_TESTS)

WS_TEST_LIBS = libws.a $(ZLIB_LIBS) $(UNIT_LIBS)

tests_unit_ws_deflate_SOURCES = tests/unit/ws_deflate.c
tests_unit_ws_deflate_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ws_deflate_LDADD = $(WS_TEST_LIBS)

tests_unit_ws_frame_SOURCES = tests/unit/ws_frame.c
tests_unit_ws_frame_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ws_frame_LDADD = $(WS_TEST_LIBS)

tests_unit_ws_handshake_SOURCES = tests/unit/ws_handshake.c
tests_unit_ws_handshake_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ws_handshake_LDADD = $(WS_TEST_LIBS)

tests_unit_ws_reader_SOURCES = tests/unit/ws_reader.c tests/unit/ws_trace.c tests/unit/ws_trace.h
tests_unit_ws_reader_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ws_reader_LDADD = $(WS_TEST_LIBS)

tests_unit_ws_utf8_SOURCES = tests/unit/ws_utf8.c
tests_unit_ws_utf8_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_ws_utf8_LDADD = $(WS_TEST_LIBS)
