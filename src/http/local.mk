# HTTP/1.1: requests, bodies, responses, routes.  Knows nothing of sockets.
noinst_LIBRARIES += libhttp.a
libhttp_a_SOURCES = \
	src/http/body.c src/http/body.h \
	src/http/request.c src/http/request.h \
	src/http/response.c src/http/response.h \
	src/http/route.c src/http/route.h src/http/routes.def src/http/answers.def src/http/answers_each.h \
	src/http/uri.c src/http/uri.h
libhttp_a_SOURCES += src/http/forwarded.c src/http/forwarded.h
