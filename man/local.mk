# The manual.  man/lists puts the lists of the .def files into the pages, so that nothing is written twice.
noinst_PROGRAMS += man/lists
man_lists_SOURCES = man/lists.c
man_lists_LDADD = libmsg.a libbase.a $(EXTERNAL_LIBS)

MAN_PAGES = man/belayd.8 man/belayctl.1 man/belayd.conf.5 man/belay-protocol.7 man/belay-api.7 man/belay-processes.7
nodist_man_MANS = $(MAN_PAGES)
EXTRA_DIST += $(MAN_PAGES:=.in)
CLEANFILES += $(MAN_PAGES)

man/belayd.8: man/belayd.8.in
man/belayctl.1: man/belayctl.1.in
man/belayd.conf.5: man/belayd.conf.5.in
man/belay-protocol.7: man/belay-protocol.7.in
man/belay-api.7: man/belay-api.7.in
man/belay-processes.7: man/belay-processes.7.in
$(MAN_PAGES): man/lists$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) man && man/lists$(EXEEXT) <$(srcdir)/$@.in >$@.tmp && mv $@.tmp $@
