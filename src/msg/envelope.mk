# The messages of clients: envelopes and their schemas.
libmsg_a_SOURCES += \
	src/msg/envelope.c src/msg/envelope.h \
	src/msg/error.c src/msg/error.def src/msg/error.h \
	src/msg/event.def src/msg/event.h \
	src/msg/schema.c src/msg/schema.def src/msg/schema.h src/msg/schema_each.h
