# What the processes of the store have in common.
libworkers_a_SOURCES += \
	workers/store/access.c workers/store/cursor.c workers/store/desk.c workers/store/desk.h workers/store/json_out.c \
	workers/store/live.c workers/store/publish.c workers/store/rate.c workers/store/rate.h workers/store/reply.c workers/store/rest.c workers/store/rest.h
