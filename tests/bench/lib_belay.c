/*
 * lib_belay.c: what a load program needs of belayd before it starts: tokens
 * that it mints itself with the server's secret, and registered devices.
 *
 * Blocking, one request at a time, over a connection that is kept open.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "auth/mint.h"
#include "tests/bench/lib.h"

struct http {
	int fd;
	char address[64];
};

static struct http http = { .fd = -1, .address = "" };

const char *
bench_json_after(const char *p, size_t len, const char *name_colon)
{
	const char *found = memmem(p, len, name_colon, strlen(name_colon));

	return found != NULL ? found + strlen(name_colon) : NULL;
}

static void
http_connect(const char *address)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	const char *colon = strrchr(address, ':');
	char host[64];

	if (colon == NULL || (size_t)(colon - address) >= sizeof(host))
		bench_die("an address looks like 127.0.0.1:3000, not \"%s\"", address);
	snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
	at.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, host, &at.sin_addr) != 1)
		bench_die("\"%s\" is not an IPv4 address", host);
	http.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (http.fd == -1 || connect(http.fd, (struct sockaddr *)&at, sizeof(at)) == -1)
		bench_die("%s: %s", address, strerror(errno));
	snprintf(http.address, sizeof(http.address), "%s", address);
}

/* Returns the status; the body is NUL-terminated in out.  0: the connection was closed before an answer. */
static int
http_try(const char *request, size_t len, char *out, size_t size)
{
	const char *length;
	char *body = NULL;
	size_t have = 0, want = 0;
	ssize_t n;

	if (write(http.fd, request, len) != (ssize_t)len)
		return 0;
	do {
		if (have + 1 >= size)
			bench_die("the server's answer is longer than %zu bytes", size);
		n = read(http.fd, out + have, size - 1 - have);
		if (n <= 0)
			return 0;
		have += (size_t)n;
		out[have] = '\0';
		if (body == NULL && (body = strstr(out, "\r\n\r\n")) != NULL) {
			*body = '\0';
			body += 4;
			length = strcasestr(out, "\r\nContent-Length:");
			want = length != NULL ? (size_t)atol(length + 17) : 0;
		}
	} while (body == NULL || have - (size_t)(body - out) < want);
	n = atoi(out + 9);
	memmove(out, body, strlen(body) + 1);
	return (int)n;
}

static int
http_post(const char *address, const char *path, const char *fields, const char *body, char *out,
    size_t size)
{
	char request[8192];
	int len = snprintf(request, sizeof(request),
	    "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
	    path, address, fields, strlen(body), body);
	int status = 0;

	if (len < 0 || (size_t)len >= sizeof(request))
		bench_die("a request longer than %zu bytes", sizeof(request));
	for (int attempt = 0; status == 0 && attempt < 2; attempt++) {
		if (http.fd == -1 || strcmp(http.address, address) != 0)
			http_connect(address);
		status = http_try(request, (size_t)len, out, size);
		if (status == 0) {
			close(http.fd);
			http.fd = -1;
		}
	}
	return status;
}

/* One line break at the end is not part of the secret, as in belayd. */
static size_t
read_secret(const char *path, char *out, size_t size)
{
	FILE *f = fopen(path, "r");
	size_t n;

	if (f == NULL)
		bench_die("%s: %s", path, strerror(errno));
	n = fread(out, 1, size, f);
	fclose(f);
	if (n > 0 && out[n - 1] == '\n')
		n--;
	if (n > 0 && out[n - 1] == '\r')
		n--;
	if (n == 0 || n == size)
		bench_die("%s: holds no secret", path);
	return n;
}

char *
bench_belay_user(const struct bench_belay *b, const char *user, const char *role)
{
	char secret[1024], err[128] = "", *token, *fields;
	size_t size, len = read_secret(b->secret_file, secret, sizeof(secret));
	struct mint_request m = {
		.secret = { secret, len }, .user = user, .tenant = b->tenant, .role = role,
		.now_ms = (int64_t)time(NULL) * 1000, .ttl_s = 12 * 3600
	};

	if ((token = mint_token(&m, err, sizeof(err))) == NULL)
		bench_die("cannot make a token: %s", err);
	size = strlen(token) + 32;
	fields = bench_alloc(size);
	snprintf(fields, size, "Authorization: Bearer %s\r\n", token);
	free(token);
	return fields;
}

char *
bench_belay_device(const struct bench_belay *b, const char *user_fields, const char *device)
{
	char body[256], answer[65536], generated[64], *fields;
	const char *token;
	int status;

	if (device == NULL) {
		static unsigned serial;

		snprintf(generated, sizeof(generated), "bench-%lld-%d-%u", (long long)time(NULL),
		    (int)getpid(), ++serial);
		device = generated;
	}
	snprintf(body, sizeof(body), "{\"deviceId\":\"%s\",\"name\":\"%s\"}", device, device);
	/* limits.requests_per_user: as fast as the server wants it. */
	while ((status = http_post(b->address, "/api/device/register", user_fields, body, answer,
	    sizeof(answer))) == 429)
		sleep(1);
	token = status == 201 ? bench_json_after(answer, strlen(answer), "\"deviceToken\":\"") : NULL;
	if (token == NULL)
		bench_die("%s: registering %s was answered with %d", b->address, device, status);
	fields = bench_alloc(256);
	snprintf(fields, 256, "Authorization: Bearer %.*s\r\nX-Device-Id: %s\r\n",
	    (int)strcspn(token, "\""), token, device);
	return fields;
}
