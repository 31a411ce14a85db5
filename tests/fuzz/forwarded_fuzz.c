/*
 * forwarded_fuzz.c: X-Forwarded-For and Forwarded.  The first byte says which, the rest are its
 * lines.
 *
 * A line behind all others that names an untrusted address decides alone; one that names nobody
 * makes the sender the client.
 */
#include <stdint.h>
#include <string.h>

#include "base/must.h"
#include "http/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
add(struct http_head *head, const char *name, struct slice value)
{
	if (head->headers_n < HTTP_HEADERS_MAX)
		head->headers[head->headers_n++] = (struct http_header){ slice_of(name), value };
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t peer[16] = { [10] = 0xff, [11] = 0xff, 10, 9, 9, 9 };
	static const uint8_t known[16] = { [10] = 0xff, [11] = 0xff, 192, 0, 2, 1 };
	struct network v[2];
	struct networks trusted = { v, 2 };
	struct http_head head = { .headers_n = 0 };
	const char *name, *p, *end, *line;
	bool x;
	uint8_t ip[16], again[16];

	if (size == 0 || memchr(data, 0, size) != NULL)
		return 0;
	must(network_parse(SLICE("10.0.0.0/8"), &v[0]) == 0 &&
	    network_parse(SLICE("2001:db8::/32"), &v[1]) == 0);
	x = data[0] == 'x';
	name = x ? "X-Forwarded-For" : "Forwarded";
	p = (const char *)data + 1;
	end = (const char *)data + size;
	while (p < end && head.headers_n < HTTP_HEADERS_MAX - 2) {
		line = memchr(p, '\n', (size_t)(end - p));
		add(&head, name, (struct slice){ p, (size_t)((line != NULL ? line : end) - p) });
		p = line != NULL ? line + 1 : end;
	}

	memcpy(ip, peer, 16);
	forwarded_client(&head, name, &trusted, ip);
	memcpy(again, peer, 16);
	forwarded_client(&head, x ? "Forwarded" : "X-Forwarded-For", &trusted, again);
	must(memcmp(again, peer, 16) == 0);

	/* A trusted proxy behind it changes nothing but when nobody was named. */
	memcpy(again, peer, 16);
	add(&head, name, x ? SLICE("10.0.0.77") : SLICE("for=10.0.0.77"));
	forwarded_client(&head, name, &trusted, again);
	must(memcmp(again, ip, 16) == 0 || (memcmp(ip, peer, 16) == 0 && again[15] == 77));
	head.headers[head.headers_n - 1].value = x ? SLICE("192.0.2.1") : SLICE("for=192.0.2.1");
	forwarded_client(&head, name, &trusted, again);
	must(memcmp(again, known, 16) == 0);
	add(&head, name, x ? SLICE("unknown") : SLICE("for=unknown"));
	memcpy(again, peer, 16);
	forwarded_client(&head, name, &trusted, again);
	must(memcmp(again, peer, 16) == 0);
	return 0;
}
