# Listeners and the only read and write calls on clients' sockets.
noinst_LIBRARIES += libnet.a
libnet_a_SOURCES = \
	src/net/listen.c src/net/listen.h \
	src/net/sock.c src/net/sock.h
libnet_a_SOURCES += \
	src/net/proxy.c src/net/proxy.h \
	src/net/tls.c src/net/tls.h
