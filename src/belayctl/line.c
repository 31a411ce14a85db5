/*
 * line.c: TCP and TLS for belayctl, without blocking but for name resolution.
 * Addresses of a name are tried one after the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/must.h"
#include "belayctl/line.h"

int
line_resolve(const struct url *u, struct line_addresses *out, const char **why)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list, *a;
	char port[8];
	int rc;

	memset(out, 0, sizeof(*out));
	snprintf(port, sizeof(port), "%u", u->port);
	rc = getaddrinfo(u->host, port, &hints, &list);
	if (rc != 0) {
		*why = rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc);
		return -1;
	}
	for (a = list; a != NULL && out->n < LINE_ADDRESSES; a = a->ai_next) {
		memcpy(&out->at[out->n].sa, a->ai_addr, a->ai_addrlen);
		out->at[out->n++].len = a->ai_addrlen;
	}
	freeaddrinfo(list);
	return 0;
}

static int
line_fail(struct line *l, enum line_fault fault, int error, const char *why)
{
	l->fault = fault;
	l->error = error;
	snprintf(l->why, sizeof(l->why), "%s", why);
	return -1;
}

/* Starts on the next address; -1 when there is none left. */
static int
line_next(struct line *l)
{
	int one = 1;

	while (l->next < l->addresses->n) {
		unsigned i = l->next++;

		if (l->fd != -1)
			close(l->fd);
		l->fd = socket(l->addresses->at[i].sa.ss_family,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (l->fd == -1) {
			line_fail(l, LINE_CONNECT, errno, strerror(errno));
			continue;
		}
		setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (connect(l->fd, (const struct sockaddr *)&l->addresses->at[i].sa,
		    l->addresses->at[i].len) == 0 || errno == EINPROGRESS) {
			l->fault = LINE_OK;
			l->wants = POLLOUT;
			return 0;
		}
		line_fail(l, LINE_CONNECT, errno, strerror(errno));
	}
	return -1;
}

void
line_open(struct line *l, const struct url *u, const struct line_addresses *a, struct line_tls *tls)
{
	memset(l, 0, sizeof(*l));
	l->fd = -1;
	l->url = u;
	l->addresses = a;
	l->tls = tls;
	if (a->n == 0)
		line_fail(l, LINE_CONNECT, EADDRNOTAVAIL, "the name has no address");
	else
		line_next(l);
}

void
line_close(struct line *l)
{
	SSL_free(l->ssl);
	l->ssl = NULL;
	if (l->fd != -1)
		close(l->fd);
	l->fd = -1;
	l->connected = l->tcp = false;
}

void
line_tls_fini(struct line_tls *tls)
{
	SSL_CTX_free(tls->ctx);
	tls->ctx = NULL;
}

static int
tls_start(struct line *l)
{
	if (l->tls->ctx == NULL) {
		l->tls->ctx = SSL_CTX_new(TLS_client_method());
		must(l->tls->ctx != NULL);
		SSL_CTX_set_min_proto_version(l->tls->ctx, TLS1_2_VERSION);
		SSL_CTX_set_default_verify_paths(l->tls->ctx);
		SSL_CTX_set_mode(l->tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
		    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
		SSL_CTX_set_verify(l->tls->ctx, l->tls->insecure ? SSL_VERIFY_NONE :
		    SSL_VERIFY_PEER, NULL);
	}
	l->ssl = SSL_new(l->tls->ctx);
	must(l->ssl != NULL);
	SSL_set_fd(l->ssl, l->fd);
	if (!X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(l->ssl), l->url->host)) {
		ERR_clear_error();
		SSL_set_tlsext_host_name(l->ssl, l->url->host);
		SSL_set1_host(l->ssl, l->url->host);
	}
	SSL_set_connect_state(l->ssl);
	return 0;
}

/* Translates what an SSL call returned into -1 with wants or a fault. */
static int
tls_result(struct line *l, int rc)
{
	int saved = errno, err = SSL_get_error(l->ssl, rc);
	unsigned long code = ERR_get_error();
	long verify = SSL_get_verify_result(l->ssl);
	enum line_fault fault = l->connected ? LINE_IO : LINE_TLS;
	char text[160];

	ERR_clear_error();
	if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE) {
		l->wants = err == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
		return -1;
	}
	if (!l->connected && verify != X509_V_OK && !l->tls->insecure) {
		snprintf(text, sizeof(text), "certificate: %s",
		    X509_verify_cert_error_string(verify));
		return line_fail(l, fault, 0, text);
	}
	if (code != 0) {
		const char *reason = ERR_reason_error_string(code);

		if (ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER || ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST)
			reason = "what answers there does not speak TLS (http or ws instead?)";
		return line_fail(l, fault, 0, reason != NULL ? reason : "TLS error");
	}
	if (err == SSL_ERROR_SYSCALL && saved != 0)
		return line_fail(l, fault, saved, strerror(saved));
	return line_fail(l, fault, 0, "the peer ended the connection");
}

int
line_step(struct line *l)
{
	socklen_t len = sizeof(int);
	int err = 0, rc;

	if (l->connected)
		return 1;
	if (l->fault != LINE_OK)
		return -1;
	if (!l->tcp) {
		struct pollfd p = { .fd = l->fd, .events = POLLOUT };

		if (poll(&p, 1, 0) == 0)
			return 0;
		getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err != 0) {
			line_fail(l, LINE_CONNECT, err, strerror(err));
			return line_next(l);
		}
		l->tcp = true;
		if (l->url->tls)
			tls_start(l);
	}
	if (l->ssl != NULL) {
		ERR_clear_error();
		rc = SSL_do_handshake(l->ssl);
		if (rc != 1) {
			tls_result(l, rc);
			return l->fault != LINE_OK ? -1 : 0;
		}
	}
	l->connected = true;
	l->wants = POLLIN;
	return 1;
}

ssize_t
line_read(struct line *l, void *p, size_t len)
{
	ssize_t n;

	l->wants = POLLIN;
	if (l->ssl != NULL) {
		ERR_clear_error();
		n = SSL_read(l->ssl, p, (int)len);
		if (n > 0)
			return n;
		if (SSL_get_error(l->ssl, (int)n) == SSL_ERROR_ZERO_RETURN)
			return 0;
		return tls_result(l, (int)n);
	}
	n = read(l->fd, p, len);
	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR)
		return -1;
	return line_fail(l, LINE_IO, errno, strerror(errno));
}

ssize_t
line_write(struct line *l, const void *p, size_t len)
{
	ssize_t n;

	if (l->ssl != NULL) {
		ERR_clear_error();
		n = SSL_write(l->ssl, p, (int)len);
		return n > 0 ? n : tls_result(l, (int)n);
	}
	n = send(l->fd, p, len, MSG_NOSIGNAL);
	if (n > 0)
		return n;
	if (errno == EAGAIN || errno == EINTR) {
		l->wants = POLLIN | POLLOUT;
		return -1;
	}
	return line_fail(l, LINE_IO, errno, strerror(errno));
}

bool
line_wait(const struct line *l, int64_t until_mono_ms)
{
	struct pollfd p = { .fd = l->fd, .events = l->wants };

	for (;;) {
		int64_t left = until_mono_ms - clock_mono_ms();
		int rc = poll(&p, 1, left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left);

		if (rc > 0)
			return true;
		if (left <= 0 || (rc == -1 && errno != EINTR))
			return false;
	}
}
