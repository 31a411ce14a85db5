# The records between processes, and the messages of clients.
noinst_LIBRARIES += libmsg.a
libmsg_a_SOURCES = \
	src/msg/audience.c src/msg/audience.h \
	src/msg/command_json.c src/msg/command_json.h \
	src/msg/msg.c src/msg/msg.def src/msg/msg.h
include src/msg/envelope.mk
