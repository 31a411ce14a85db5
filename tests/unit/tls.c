/*
 * tls.c: TLS sessions over a pair of sockets that take little at a time, with OpenSSL's client at
 * the other end: partial writes, bytes that wait inside, new keys in the middle, ends, tickets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tls.h"

struct pem {
	char certificate[4096], key[4096];
};

static struct pem ours, theirs;
static const uint8_t secret[TLS_SECRET_LEN] = { 1, 2, 3 }, other_secret[TLS_SECRET_LEN] = { 9 };

static void
bio_text(BIO *bio, char *out, size_t size)
{
	int n = BIO_read(bio, out, (int)size - 1);

	assert_true(n > 0);
	out[n] = '\0';
	BIO_free(bio);
}

static void
make_pem(struct pem *out)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);
	BIO *bio;

	assert_non_null(key);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_NAME_add_entry_by_txt(
	    name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, cert);
	bio_text(bio, out->certificate, sizeof(out->certificate));
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	bio_text(bio, out->key, sizeof(out->key));
	X509_free(cert);
	EVP_PKEY_free(key);
}

static struct tls_context *
context(const uint8_t *with)
{
	char err[256];
	struct tls_context *c =
	    tls_context_new(slice_of(ours.certificate), slice_of(ours.key), with, err, sizeof(err));

	if (c == NULL)
		fail_msg("%s", err);
	return c;
}

/* --- both ends */

struct link {
	struct tls server;
	SSL_CTX *ctx;
	SSL *client;
	SSL_SESSION *session;		/* that the server gave last; owned */
	int fd[2];			/* the server's, the client's */
};

static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	struct link *l = SSL_get_app_data(ssl);

	SSL_SESSION_free(l->session);
	l->session = session;
	return 1;
}

static void
link_open(struct link *l, struct tls_context *c, int version, SSL_SESSION *resume)
{
	int size = 4608;

	memset(l, 0, sizeof(*l));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, l->fd), 0);
	for (int i = 0; i < 2; i++)
		setsockopt(l->fd[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	assert_int_equal(tls_init(&l->server, c, l->fd[0]), 0);
	l->ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_session_cache_mode(l->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(l->ctx, on_session);
	l->client = SSL_new(l->ctx);
	SSL_set_app_data(l->client, l);
	SSL_set_mode(l->client, SSL_MODE_ENABLE_PARTIAL_WRITE);
	SSL_set_min_proto_version(l->client, version);
	SSL_set_max_proto_version(l->client, version);
	if (resume != NULL) {
		/* A copy: with TLS 1.3 the client does not use one twice. */
		SSL_SESSION *copy = SSL_SESSION_dup(resume);

		assert_int_equal(SSL_set_session(l->client, copy), 1);
		SSL_SESSION_free(copy);
	}
	SSL_set_fd(l->client, l->fd[1]);
	SSL_set_connect_state(l->client);
}

static void
link_close(struct link *l)
{
	tls_fini(&l->server);
	/* Else the client would think the worst of its session, and not resume it again. */
	SSL_set_shutdown(l->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(l->client);
	SSL_SESSION_free(l->session);
	SSL_CTX_free(l->ctx);
	close(l->fd[0]);
	if (l->fd[1] != -1)
		close(l->fd[1]);
}

static void
shake_hands(struct link *l)
{
	char byte;

	for (int i = 0; i < 100 && !(l->server.open && SSL_is_init_finished(l->client)); i++) {
		(void)SSL_do_handshake(l->client);
		assert_int_equal(tls_read(&l->server, &byte, 1), -1);
		assert_int_equal(errno, EAGAIN);
	}
	assert_true(l->server.open);
	assert_int_equal(SSL_read(l->client, &byte, 1), -1);	/* takes up the ticket */
}

static void
both_versions(void (*test)(struct link *l, struct tls_context *c, int version))
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	struct tls_context *c = context(secret);

	for (int i = 0; i < 2; i++) {
		struct link l;

		link_open(&l, c, versions[i], NULL);
		shake_hands(&l);
		test(&l, c, versions[i]);
		link_close(&l);
	}
	tls_context_free(&c);
}

static uint8_t
pattern(size_t i)
{
	return (uint8_t)(i * 131 + (i >> 8) * 17);
}

/* --- */

/*
 * The server writes as output.c does: from another address each time, and with more behind what was
 * refused.
 */
static void
write_much(struct link *l, struct tls_context *c, int version)
{
	size_t total = 1000000, sent = 0, got = 0, offered = 0;
	unsigned refused = 0, seed = 7;
	uint8_t in[700];

	(void)c;
	(void)version;
	while (got < total) {
		if (sent < total) {
			size_t want, n;
			uint8_t *from;
			ssize_t took;

			seed = seed * 1664525 + 1013904223;
			want = (seed >> 8) % 40000 + 1;
			n = offered > want ? offered : want;
			if (n > total - sent)
				n = total - sent;
			from = malloc(n);
			for (size_t i = 0; i < n; i++)
				from[i] = pattern(sent + i);
			took = tls_write(&l->server, from, n);
			free(from);
			if (took > 0) {
				assert_true((size_t)took <= n && took <= TLS_RECORD_MAX);
				sent += (size_t)took;
				offered = 0;
			} else {
				assert_int_equal(errno, EAGAIN);
				assert_false(l->server.write_wants_read);
				offered = n;
				refused++;
			}
		}
		for (int tries = (int)(seed >> 29); tries >= 0; tries--) {
			int n = SSL_read(l->client, in, sizeof(in));

			if (n <= 0)
				break;
			for (int i = 0; i < n; i++, got++)
				if (in[i] != pattern(got))
					fail_msg("another byte at %zu", got);
		}
	}
	assert_int_equal(sent, total);
	assert_true(refused > 10);
}

static void
test_partial_writes(void **state)
{
	(void)state;
	both_versions(write_much);
}

/*
 * Several records in one read of the socket: what is not taken stays inside, and the socket says
 * nothing of it.
 */
static void
read_little(struct link *l, struct tls_context *c, int version)
{
	uint8_t out[900], in[500], byte;
	size_t got = 0;
	ssize_t n;

	(void)c;
	(void)version;
	assert_false(tls_holds(&l->server));
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = pattern(i);
	for (size_t i = 0; i < sizeof(out); i += 300)
		assert_int_equal(SSL_write(l->client, out + i, 300), 300);
	n = tls_read(&l->server, in, 100);
	assert_int_equal(n, 100);
	assert_int_equal(recv(l->fd[0], &byte, 1, MSG_PEEK), -1);
	assert_true(tls_holds(&l->server));
	for (got = 100; (n = tls_read(&l->server, in, sizeof(in))) > 0; got += (size_t)n)
		assert_memory_equal(in, out + got, (size_t)n);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(got, sizeof(out));
	assert_false(tls_holds(&l->server));
	assert_false(l->server.read_wants_write);
}

static void
test_bytes_inside(void **state)
{
	(void)state;
	both_versions(read_little);
}

/* The client has new keys and wants the server's new ones: both ways go on under them. */
static void
new_keys(struct link *l, struct tls_context *c, int version)
{
	uint8_t in[100];

	(void)c;
	if (version != TLS1_3_VERSION)
		return;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(SSL_key_update(l->client, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_write(l->client, "hello", 5), 5);
		assert_int_equal(tls_read(&l->server, in, sizeof(in)), 5);
		assert_int_equal(tls_write(&l->server, "world", 5), 5);
		assert_int_equal(SSL_read(l->client, in, sizeof(in)), 5);
		assert_memory_equal(in, "world", 5);
	}
}

static void
test_new_keys(void **state)
{
	(void)state;
	both_versions(new_keys);
}

static void
ends(struct link *l, struct tls_context *c, int version)
{
	char byte;

	(void)c;
	(void)version;
	/* Ours first: the client sees an orderly end, and may still speak. */
	assert_int_equal(tls_write(&l->server, "bye", 3), 3);
	assert_int_equal(tls_end(&l->server), 0);
	assert_int_equal(tls_end(&l->server), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(SSL_read(l->client, &byte, 1), 1);
	assert_int_equal(SSL_read(l->client, &byte, 1), 0);
	assert_int_equal(SSL_get_error(l->client, 0), SSL_ERROR_ZERO_RETURN);
	assert_int_equal(SSL_write(l->client, "x", 1), 1);
	assert_int_equal(tls_read(&l->server, &byte, 1), 1);
	SSL_shutdown(l->client);
	assert_int_equal(tls_read(&l->server, &byte, 1), 0);
	assert_false(l->server.broken);
}

static void
is_cut_off(struct link *l, struct tls_context *c, int version)
{
	char byte;

	(void)c;
	(void)version;
	close(l->fd[1]);
	l->fd[1] = -1;
	assert_int_equal(tls_read(&l->server, &byte, 1), 0);
	assert_true(l->server.broken);
	assert_int_equal(tls_read(&l->server, &byte, 1), -1);
	assert_int_equal(tls_write(&l->server, "x", 1), -1);
	assert_int_equal(tls_end(&l->server), 0);
	assert_false(tls_holds(&l->server));
}

static void
is_tampered_with(struct link *l, struct tls_context *c, int version)
{
	char byte;

	(void)c;
	(void)version;
	assert_int_equal(
	    send(l->fd[1], "\x17\x03\x03\0\x20xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 37, 0), 37);
	assert_int_equal(tls_read(&l->server, &byte, 1), -1);
	assert_int_equal(errno, EPROTO);
	assert_true(l->server.broken);
	assert_non_null(l->server.fault);
}

static void
test_ends(void **state)
{
	(void)state;
	both_versions(ends);
	both_versions(is_cut_off);
	both_versions(is_tampered_with);
}

static void
test_spoke_http(void **state)
{
	static const char *const begin[] = { "GET / HTTP/1.1\r\n", "POST /x HTTP/1.1\r\n",
		"SSH-2.0-x\r\n" };
	struct tls_context *c = context(NULL);
	char byte;

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct link l;

		link_open(&l, c, TLS1_3_VERSION, NULL);
		assert_true(send(l.fd[1], begin[i], strlen(begin[i]), 0) > 0);
		assert_int_equal(tls_read(&l.server, &byte, 1), -1);
		assert_int_equal(errno, EPROTO);
		assert_int_equal(l.server.spoke_http, i < 2);
		assert_false(l.server.open);
		link_close(&l);
	}
	tls_context_free(&c);
}

static bool
resumes(struct tls_context *c, int version, SSL_SESSION *session)
{
	struct link l;
	bool ret;

	link_open(&l, c, version, session);
	shake_hands(&l);
	ret = tls_resumed(&l.server);
	assert_int_equal(ret, SSL_session_reused(l.client));
	link_close(&l);
	return ret;
}

/* Whoever has the secret can; a certificate that was renewed meanwhile is no hindrance. */
static void
tickets(struct link *l, struct tls_context *c, int version)
{
	struct tls_context *same = context(secret), *foreign = context(other_secret),
			   *none = context(NULL);

	(void)c;
	assert_non_null(l->session);
	assert_false(tls_resumed(&l->server));
	assert_true(resumes(same, version, l->session));
	assert_true(resumes(same, version, l->session));
	assert_false(resumes(foreign, version, l->session));
	assert_false(resumes(none, version, l->session));
	assert_string_equal(
	    tls_version(&l->server), version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
	tls_context_free(&same);
	tls_context_free(&foreign);
	tls_context_free(&none);
}

static void
test_tickets(void **state)
{
	(void)state;
	both_versions(tickets);
}

/* A session goes on when its context was replaced. */
static void
test_context_replaced(void **state)
{
	struct tls_context *c = context(secret);
	struct link l;
	char byte;

	(void)state;
	link_open(&l, c, TLS1_3_VERSION, NULL);
	(void)SSL_do_handshake(l.client);
	tls_context_free(&c);
	assert_null(c);
	tls_context_free(&c);
	shake_hands(&l);
	assert_int_equal(SSL_write(l.client, "x", 1), 1);
	assert_int_equal(tls_read(&l.server, &byte, 1), 1);
	link_close(&l);
}

static void
expect_fault(const char *certificate, const char *key, const char *words)
{
	char err[256] = "";
	struct tls_context *c =
	    tls_context_new(slice_of(certificate), slice_of(key), NULL, err, sizeof(err));

	assert_null(c);
	if (strstr(err, words) == NULL)
		fail_msg("\"%s\", not \"%s\"", err, words);
}

static void
test_pairs(void **state)
{
	char chain[8300], broken[8300];
	struct tls_context *c;
	char err[256];

	(void)state;
	expect_fault(ours.certificate, theirs.key, "not a pair");
	expect_fault("", ours.key, "no certificate");
	expect_fault("nonsense", ours.key, "no certificate");
	expect_fault(ours.key, ours.key, "no certificate");
	expect_fault(ours.certificate, "", "no private key");
	expect_fault(ours.certificate, ours.certificate, "no private key");
	snprintf(broken, sizeof(broken),
	    "%s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ours.certificate);
	expect_fault(broken, ours.key, "chain");
	snprintf(
	    chain, sizeof(chain), "words before it\n%s\n%s", ours.certificate, theirs.certificate);
	c = tls_context_new(slice_of(chain), slice_of(ours.key), NULL, err, sizeof(err));
	assert_non_null(c);
	assert_true(tls_context_not_after(c) > 1600000000);
	tls_context_free(&c);
}

static int
prepare(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	make_pem(&ours);
	make_pem(&theirs);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_partial_writes), cmocka_unit_test(test_bytes_inside),
		cmocka_unit_test(test_new_keys), cmocka_unit_test(test_ends),
		cmocka_unit_test(test_spoke_http), cmocka_unit_test(test_tickets),
		cmocka_unit_test(test_context_replaced), cmocka_unit_test(test_pairs),
	};

	return cmocka_run_group_tests(tests, prepare, NULL);
}
