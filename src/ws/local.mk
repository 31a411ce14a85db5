# The WebSocket codec: libc and zlib only.
noinst_LIBRARIES += libws.a
libws_a_SOURCES = \
	src/ws/close.c \
	src/ws/close.def \
	src/ws/close.h \
	src/ws/deflate.c \
	src/ws/deflate.h \
	src/ws/frame.c \
	src/ws/frame.h \
	src/ws/handshake.c \
	src/ws/handshake.h \
	src/ws/reader.c \
	src/ws/reader.h \
	src/ws/sha1.c \
	src/ws/sha1.h \
	src/ws/utf8.c \
	src/ws/utf8.h
