noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	src/base/address.c src/base/address.h \
	src/base/block.c src/base/block.h \
	src/base/buf.c src/base/buf.h \
	src/base/conf.c src/base/conf.def src/base/conf.h src/base/conf_issuer.def \
	src/base/conf_check.c src/base/conf_check.h \
	src/base/conf_finish.c \
	src/base/conf_load.c src/base/conf_load.h \
	src/base/conf_numbers.c \
	src/base/conf_pack.c src/base/conf_print.c src/base/conf_table.h \
	src/base/conf_share.c src/base/conf_share.h \
	src/base/clock.c src/base/clock.h \
	src/base/cores.c src/base/cores.h \
	src/base/digest.c src/base/digest.h \
	src/base/json.c src/base/json.h \
	src/base/log.c src/base/log.h \
	src/base/log_syslog.c src/base/log_syslog.h \
	src/base/must.c src/base/must.h \
	src/base/names.c src/base/names.h \
	src/base/slice.h \
	src/base/stats.def src/base/stats_names.c src/base/stats_names.h \
	src/base/text.c src/base/text.h \
	src/base/title.c src/base/title.h \
	src/base/uuid.c src/base/uuid.h \
	src/base/version.h \
	src/base/window.c src/base/window.h
