# What helps to run it: samples go to the documentation, the unit where --with-systemdsystemunitdir says, and with it, to where
# systemd looks below the prefix, what makes its user and folders.
dist_doc_DATA = README.md LICENSE contrib/belayd.conf contrib/haproxy.cfg contrib/nginx.conf
EXTRA_DIST += contrib/quickstart.sh contrib/packages.sh contrib/systemd/belayd.service.in \
	contrib/systemd/sysusers.d/belay.conf contrib/systemd/tmpfiles.d/belay.conf

contrib/systemd/belayd.service: contrib/systemd/belayd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) contrib/systemd && \
	sed -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g' $(srcdir)/contrib/systemd/belayd.service.in >$@.tmp && \
	mv $@.tmp $@
CLEANFILES += contrib/systemd/belayd.service
sysusersdir = $(prefix)/lib/sysusers.d
tmpfilesdir = $(prefix)/lib/tmpfiles.d
if INSTALL_UNIT
systemdsystemunit_DATA = contrib/systemd/belayd.service
sysusers_DATA = contrib/systemd/sysusers.d/belay.conf
tmpfiles_DATA = contrib/systemd/tmpfiles.d/belay.conf
else
doc_DATA = contrib/systemd/belayd.service
endif

# The HTTP requests as OpenAPI and the messages as AsyncAPI, from the .def files.
noinst_PROGRAMS += contrib/documents
contrib_documents_SOURCES = contrib/documents.c
contrib_documents_LDADD = libhttp.a libmsg.a libbase.a $(EXTERNAL_LIBS)
DOCUMENTS = contrib/openapi.json contrib/asyncapi.json
nodist_doc_DATA = $(DOCUMENTS)
CLEANFILES += $(DOCUMENTS)
contrib/openapi.json contrib/asyncapi.json: contrib/documents$(EXEEXT)
	$(AM_V_GEN)contrib/documents$(EXEEXT) `basename $@ .json` >$@.tmp && mv $@.tmp $@
