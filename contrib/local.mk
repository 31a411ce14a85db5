# What helps to run it: samples go to the documentation, the unit where --with-systemdsystemunitdir says.
dist_doc_DATA = README.md LICENSE contrib/belayd.conf contrib/haproxy.cfg contrib/nginx.conf
EXTRA_DIST += contrib/quickstart.sh contrib/packages.sh contrib/systemd/belayd.service.in

contrib/systemd/belayd.service: contrib/systemd/belayd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) contrib/systemd && \
	sed -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g' $(srcdir)/contrib/systemd/belayd.service.in >$@.tmp && \
	mv $@.tmp $@
CLEANFILES += contrib/systemd/belayd.service
if INSTALL_UNIT
systemdsystemunit_DATA = contrib/systemd/belayd.service
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
