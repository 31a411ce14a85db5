# The gateway: clients' connections.
libworkers_a_SOURCES += \
	workers/gateway/accept.c workers/gateway/accept.h \
	workers/gateway/api.c workers/gateway/api.h workers/gateway/own.c workers/gateway/own.h \
	workers/gateway/api_command.c workers/gateway/api_command.h \
	workers/gateway/api_health.c workers/gateway/api_health.h \
	workers/gateway/aside.c workers/gateway/aside.h \
	workers/gateway/ask.c workers/gateway/ask.h \
	workers/gateway/conn.c workers/gateway/conn.h \
	workers/gateway/cors.c workers/gateway/cors.h \
	workers/gateway/dashboard.c workers/gateway/dashboard.h \
	workers/gateway/deliver.c workers/gateway/deliver.h \
	workers/gateway/device.c workers/gateway/device.h \
	workers/gateway/drain.c \
	workers/gateway/follow.c workers/gateway/follow.h \
	workers/gateway/gateway.c workers/gateway/gateway.h \
	workers/gateway/http.c workers/gateway/http.h \
	workers/gateway/keysets.c workers/gateway/keysets.h \
	workers/gateway/limits.c workers/gateway/limits.h \
	workers/gateway/output.c workers/gateway/output.h \
	workers/gateway/party.c workers/gateway/party.h \
	workers/gateway/peer.c workers/gateway/peer.h workers/gateway/reads.c workers/gateway/reads.h \
	workers/gateway/resume.c workers/gateway/resume.h workers/gateway/revoke.c workers/gateway/revoke.h \
	workers/gateway/refusals.c workers/gateway/refusals.h \
	workers/gateway/room.c workers/gateway/room.h \
	workers/gateway/session.c workers/gateway/session.h \
	workers/gateway/traffic.c workers/gateway/traffic.h \
	workers/gateway/tell.c workers/gateway/tell.h \
	workers/gateway/ticket.c workers/gateway/ticket.h \
	workers/gateway/tls_conn.c workers/gateway/tls_conn.h \
	workers/gateway/turns.c workers/gateway/turns.h \
	workers/gateway/upgrade.c workers/gateway/upgrade.h \
	workers/gateway/users.c workers/gateway/users.h \
	workers/gateway/wheel.c workers/gateway/wheel.h \
	workers/gateway/ws.c workers/gateway/ws.h
