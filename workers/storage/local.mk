# The role that speaks SQL.
libworkers_a_SOURCES += \
	workers/storage/batch.c workers/storage/batch.h \
	workers/storage/command.c workers/storage/command_ack.c workers/storage/command_new.c workers/storage/command_queue.c \
	workers/storage/condition.c workers/storage/device_auth.c workers/storage/device_token.c workers/storage/effect.c workers/storage/event.c \
	workers/storage/flight.c workers/storage/flight.h \
	workers/storage/presence.c workers/storage/quota.c workers/storage/quota.h workers/storage/recover.c \
	workers/storage/report.c workers/storage/rest.c workers/storage/rest.h \
	workers/storage/rest_device.c workers/storage/rest_health.c workers/storage/rest_share.c workers/storage/retention.c workers/storage/sample.c \
	workers/storage/storage.c workers/storage/storage.h workers/storage/tally.c workers/storage/tally.h workers/storage/ticket.c workers/storage/visitor.c \
	workers/storage/wall.c
