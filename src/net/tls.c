/*
 * tls.c: TLS on clients' connections, by OpenSSL on our own non-blocking sockets.  Runs in
 * gateways; the master only makes a context, to see whether certificate and key can be used.  Owns
 * no socket and waits for nothing.
 */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/must.h"
#include "net/tls.h"

/* A ticket is taken in the period that it was made in and in the next. */
#define TICKET_PERIOD_S 43200

#define CIPHERS_TLS12 \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define SUITES_TLS13 \
	"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384"

/* Freed with its SSL_CTX, that is, when the last session that began with it has ended. */
struct tickets {
	uint8_t secret[TLS_SECRET_LEN];
};

struct tls_context {
	SSL_CTX *ctx;
	int64_t not_after;
};

/* What one period's tickets are sealed with: the bytes of one HMAC-SHA-512. */
struct ticket_key {
	uint8_t name[16];
	uint8_t aes[16];
	uint8_t mac[32];
};

_Static_assert(sizeof(struct ticket_key) == 64, "as long as a SHA-512");

static void
tickets_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	if (ptr != NULL)
		OPENSSL_clear_free(ptr, sizeof(struct tickets));
}

/* OpenSSL numbers what is attached to its objects for the whole process. */
static int
tickets_index(void)
{
	static int index = -1;

	if (index == -1)
		index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, tickets_free);
	must(index != -1);
	return index;
}

static void
make_ticket_key(const struct tickets *tickets, uint64_t period, struct ticket_key *out)
{
	uint8_t text[24] = "belay ticket key";
	unsigned len = sizeof(*out);

	for (int i = 0; i < 8; i++)
		text[16 + i] = (uint8_t)(period >> (56 - 8 * i));
	must(HMAC(EVP_sha512(), tickets->secret, sizeof(tickets->secret), text, sizeof(text),
		 (uint8_t *)out, &len) != NULL &&
	    len == sizeof(*out));
}

static int
set_up_ticket(
    struct ticket_key *key, uint8_t *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
	char sha256[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0),
		OSSL_PARAM_construct_end()
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1 &&
	    EVP_CipherInit_ex(cipher, EVP_aes_128_cbc(), NULL, key->aes, iv, seal) == 1 ? 0 : -1;
}

/*
 * Of SSL_CTX_set_tlsext_ticket_key_evp_cb(): 0, this ticket is not ours: a full handshake; 1, it is
 * good; 2, and to be renewed.
 */
static int
on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int seal)
{
	const struct tickets *tickets = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tickets_index());
	uint64_t period = (uint64_t)time(NULL) / TICKET_PERIOD_S;
	struct ticket_key key;
	int ret = 0;

	if (seal) {
		make_ticket_key(tickets, period, &key);
		memcpy(name, key.name, sizeof(key.name));
		if (RAND_bytes(iv, EVP_MAX_IV_LENGTH) == 1 &&
		    set_up_ticket(&key, iv, cipher, mac, 1) == 0)
			ret = 1;
		else
			ret = -1;
	} else {
		for (uint64_t age = 0; age < 2 && ret == 0; age++) {
			make_ticket_key(tickets, period - age, &key);
			if (CRYPTO_memcmp(name, key.name, sizeof(key.name)) == 0)
				ret = set_up_ticket(&key, iv, cipher, mac, 0) == -1 ? -1
				    : age == 0					    ? 1
										    : 2;
		}
	}
	OPENSSL_cleanse(&key, sizeof(key));
	return ret;
}

/* http/1.1, or an alert for a client that wants something else (RFC 7301 section 3.2). */
static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
    unsigned inlen, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, outlen, ours, sizeof(ours) - 1, in, inlen) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* --- the context */

static void
say(char *err, size_t errlen, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *why = code != 0 ? ERR_reason_error_string(code) : NULL;

	(void)snprintf(
	    err, errlen, "%s%s%s", what, why != NULL ? ": " : "", why != NULL ? why : "");
	ERR_clear_error();
}

/* Nobody is there to be asked. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static BIO *
text_bio(struct slice text)
{
	return text.len > INT32_MAX ? NULL
				    : BIO_new_mem_buf(text.p != NULL ? text.p : "", (int)text.len);
}

static int
read_chain(struct tls_context *c, BIO *bio, char *err, size_t errlen)
{
	X509 *cert = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL);
	struct tm tm;

	if (cert == NULL) {
		say(err, errlen, "no certificate can be read");
		return -1;
	}
	if (SSL_CTX_use_certificate(c->ctx, cert) != 1) {
		say(err, errlen, "the certificate can't be used");
		X509_free(cert);
		return -1;
	}
	if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1)
		c->not_after = timegm(&tm);
	X509_free(cert);
	while ((cert = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL)
		if (SSL_CTX_add0_chain_cert(c->ctx, cert) != 1) {
			say(err, errlen, "a certificate of the chain can't be used");
			X509_free(cert);
			return -1;
		}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
		say(err, errlen, "a certificate of the chain can't be read");
		return -1;
	}
	ERR_clear_error();
	return 0;
}

static int
read_pair(
    struct tls_context *c, struct slice certificate, struct slice key, char *err, size_t errlen)
{
	BIO *bio = text_bio(certificate);
	EVP_PKEY *pkey = NULL;
	int ret = -1;

	if (bio == NULL || read_chain(c, bio, err, errlen) == -1)
		goto out;
	BIO_free(bio);
	bio = text_bio(key);
	if (bio == NULL || (pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL)) == NULL) {
		say(err, errlen, "no private key can be read (it must not be encrypted)");
		goto out;
	}
	if (SSL_CTX_use_PrivateKey(c->ctx, pkey) != 1 || SSL_CTX_check_private_key(c->ctx) != 1) {
		say(err, errlen, "certificate and key are not a pair");
		goto out;
	}
	ret = 0;
out:
	EVP_PKEY_free(pkey);
	BIO_free(bio);
	return ret;
}

static int
set_up_tickets(SSL_CTX *ctx, const uint8_t *secret)
{
	struct tickets *tickets = OPENSSL_zalloc(sizeof(*tickets));

	if (tickets == NULL)
		return -1;
	memcpy(tickets->secret, secret, sizeof(tickets->secret));
	if (SSL_CTX_set_ex_data(ctx, tickets_index(), tickets) != 1) {
		tickets_free(NULL, tickets, NULL, 0, 0, NULL);
		return -1;
	}
	return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1 ? 0 : -1;
}

static int
set_up(SSL_CTX *ctx, const uint8_t *secret)
{
	static const unsigned char session_id[] = "belay";
	uint64_t options = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	    SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
	    (secret == NULL ? SSL_OP_NO_TICKET : 0);

	(void)SSL_CTX_set_options(ctx, options);
	/*
	 * RELEASE_BUFFERS: an idle session has no buffer of 16 KiB for either way.  The others are
	 * how output.c writes. Reading ahead halves the system calls: header and body of a record
	 * come together.
	 */
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_timeout(ctx, TICKET_PERIOD_S);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
		SSL_CTX_set_cipher_list(ctx, CIPHERS_TLS12) == 1 &&
		SSL_CTX_set_ciphersuites(ctx, SUITES_TLS13) == 1 &&
		SSL_CTX_set1_groups_list(ctx, GROUPS) == 1 &&
		SSL_CTX_set_num_tickets(ctx, secret != NULL ? 1 : 0) == 1 &&
		SSL_CTX_set_session_id_context(ctx, session_id, sizeof(session_id) - 1) == 1 &&
		(secret == NULL || set_up_tickets(ctx, secret) == 0)
	    ? 0
	    : -1;
}

struct tls_context *
tls_context_new(struct slice certificate_pem, struct slice key_pem, const uint8_t *secret,
    char *err, size_t errlen)
{
	struct tls_context *c = must_alloc(sizeof(*c));

	ERR_clear_error();
	c->ctx = SSL_CTX_new(TLS_server_method());
	if (c->ctx == NULL || set_up(c->ctx, secret) == -1) {
		say(err, errlen, "TLS can't be set up");
		tls_context_free(&c);
	} else if (read_pair(c, certificate_pem, key_pem, err, errlen) == -1)
		tls_context_free(&c);
	return c;
}

void
tls_context_free(struct tls_context **context)
{
	struct tls_context *c = *context;

	if (c == NULL)
		return;
	SSL_CTX_free(c->ctx);
	free(c);
	*context = NULL;
}

int64_t
tls_context_not_after(const struct tls_context *context)
{
	return context->not_after;
}

/* --- sessions */

int
tls_init(struct tls *t, struct tls_context *context, int fd)
{
	SSL *ssl = SSL_new(context->ctx);

	memset(t, 0, sizeof(*t));
	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
		SSL_free(ssl);
		ERR_clear_error();
		return -1;
	}
	SSL_set_accept_state(ssl);
	t->ssl = ssl;
	return 0;
}

void
tls_fini(struct tls *t)
{
	SSL_free(t->ssl);
	t->ssl = NULL;
}

/*
 * Turns what a call of OpenSSL left behind into 0 or -1 with errno; *crossed: it waits for the
 * socket's other direction.
 */
static ssize_t
judge(struct tls *t, int ret, int forward, bool *crossed)
{
	int saved = errno, error = SSL_get_error(t->ssl, ret);
	unsigned long code;

	*crossed = false;
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
		*crossed = error != forward;
		errno = EAGAIN;
		return -1;
	}
	if (error == SSL_ERROR_ZERO_RETURN)
		return 0;
	t->broken = true;
	code = ERR_peek_error();
	if (error == SSL_ERROR_SSL) {
		t->fault = ERR_reason_error_string(code);
		t->spoke_http = !t->open && ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST;
		if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
			ERR_clear_error();
			return 0;
		}
	}
	errno = error != SSL_ERROR_SYSCALL ? EPROTO : saved != 0 ? saved : ECONNRESET;
	ERR_clear_error();
	return -1;
}

ssize_t
tls_read(struct tls *t, void *into, size_t cap)
{
	size_t n;
	int ret;

	if (t->broken) {
		errno = EPROTO;
		return -1;
	}
	ERR_clear_error();
	errno = 0;
	ret = SSL_read_ex(t->ssl, into, cap, &n);
	if (!t->open && SSL_is_init_finished(t->ssl))
		t->open = true;
	if (ret == 1) {
		t->read_wants_write = false;
		return (ssize_t)n;
	}
	return judge(t, ret, SSL_ERROR_WANT_READ, &t->read_wants_write);
}

ssize_t
tls_write(struct tls *t, const void *from, size_t len)
{
	size_t n;
	int ret;

	if (t->broken) {
		errno = EPROTO;
		return -1;
	}
	ERR_clear_error();
	errno = 0;
	ret = SSL_write_ex(t->ssl, from, len < TLS_RECORD_MAX ? len : TLS_RECORD_MAX, &n);
	if (ret == 1) {
		t->write_wants_read = false;
		return (ssize_t)n;
	}
	if (judge(t, ret, SSL_ERROR_WANT_WRITE, &t->write_wants_read) == 0)
		errno = EPIPE;
	return -1;
}

bool
tls_holds(const struct tls *t)
{
	return !t->broken && SSL_has_pending(t->ssl) == 1;
}

int
tls_end(struct tls *t)
{
	int ret;

	if (t->broken || !t->open ||
	    (SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN && !SSL_want_write(t->ssl)))
		return 0;
	ERR_clear_error();
	ret = SSL_shutdown(t->ssl);
	if (ret >= 0)			/* 0: sent; the peer's is not waited for here */
		return 0;
	if (SSL_get_error(t->ssl, ret) == SSL_ERROR_WANT_WRITE) {
		errno = EAGAIN;
		return -1;
	}
	ERR_clear_error();
	return 0;
}

bool
tls_resumed(const struct tls *t)
{
	return SSL_session_reused(t->ssl) == 1;
}

const char *
tls_version(const struct tls *t)
{
	return SSL_get_version(t->ssl);
}
