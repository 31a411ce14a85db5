# The role that reads the store.
libworkers_a_SOURCES += \
	workers/reader/command.c workers/reader/device.c workers/reader/event.c workers/reader/line.c workers/reader/line.h \
	workers/reader/list.c workers/reader/list.h workers/reader/reader.c workers/reader/reader.h workers/reader/reads.def \
	workers/reader/subscribe.c workers/reader/telemetry.c workers/reader/visitor.c
