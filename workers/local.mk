# The worker processes.  Each role's folder has its own fragment and adds to libworkers_a_SOURCES.
noinst_LIBRARIES += libworkers.a
libworkers_a_SOURCES = workers/role.c workers/role.h workers/roles.def

include workers/gateway/local.mk
include workers/keys/local.mk
include workers/store/local.mk
include workers/storage/local.mk
include workers/reader/local.mk
EXTRA_DIST += workers/README.md
