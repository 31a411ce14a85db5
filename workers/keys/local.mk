# The keys process: key sets from their addresses.  Without libcurl it is there, but has nothing to fetch with.
libworkers_a_SOURCES += \
	workers/keys/fetch.h \
	workers/keys/keys.c workers/keys/keys.h \
	workers/keys/schedule.c workers/keys/schedule.h
if HAVE_CURL
libworkers_a_SOURCES += workers/keys/fetch.c
else
libworkers_a_SOURCES += workers/keys/fetch_none.c
endif
EXTRA_DIST += workers/keys/README.md
