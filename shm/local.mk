# The shared segment of an instance: see shm/README.md.

noinst_LIBRARIES += libshm.a
libshm_a_SOURCES = \
	shm/buckets.c shm/buckets.h \
	shm/directory.c shm/directory.h \
	shm/effects.c shm/effects.h \
	shm/holdings.c shm/holdings.h \
	shm/lock.c shm/lock.h \
	shm/mailbox.c shm/mailbox.h \
	shm/pending.c shm/pending.h \
	shm/ref.h \
	shm/segment.c shm/segment.h shm/shm.h \
	shm/slots.c \
	shm/stats.c shm/stats.h \
	shm/table.c shm/table.h \
	shm/topics.c shm/topics.h

EXTRA_DIST += shm/README.md
