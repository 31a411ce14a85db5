# The operator's tool.  Its parts are a library so that unit tests can link them.
noinst_LIBRARIES += libctl.a
libctl_a_SOURCES = \
	src/belayctl/client.c src/belayctl/client.h \
	src/belayctl/commands.def \
	src/belayctl/ctl.c src/belayctl/ctl.h \
	src/belayctl/ctl_device.c \
	src/belayctl/ctl_probe.c \
	src/belayctl/ctl_send.c \
	src/belayctl/ctl_sim.c \
	src/belayctl/ctl_stats.c \
	src/belayctl/ctl_store.c \
	src/belayctl/ctl_tail.c \
	src/belayctl/ctl_token.c \
	src/belayctl/line.c src/belayctl/line.h \
	src/belayctl/sim_device.c src/belayctl/sim_device.h \
	src/belayctl/url.c src/belayctl/url.h \
	src/belayctl/web.c src/belayctl/web.h

bin_PROGRAMS += belayctl
belayctl_SOURCES = src/belayctl/main.c
belayctl_LDADD = libctl.a $(LAYER_LIBS) $(EXTERNAL_LIBS)
