# The master process.
noinst_LIBRARIES += libmaster.a
libmaster_a_SOURCES = \
	src/master/children.c src/master/children.h \
	src/master/listeners.c src/master/listeners.h \
	src/master/master.c src/master/master.h \
	src/master/notify.c src/master/notify.h \
	src/master/pidfile.c src/master/pidfile.h \
	src/master/setup.c src/master/setup.h \
	src/master/upgrade.c src/master/upgrade.h
