/*
 * ws_handshake_fuzz.c: header fields to both sides of the opening handshake.
 *
 * Input: byte 0 deflate allowed, HTTP minor version; then lines "name: value".
 */
#include <stdlib.h>
#include <string.h>

#include "ws/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond) \
	do { \
		if (!(cond)) \
			abort(); \
	} while (0)

static void
fields(struct ws_upgrade *u, struct ws_connect *c, const char *p, const char *end)
{
	while (p < end) {
		const char *eol = memchr(p, '\n', (size_t)(end - p)), *colon;

		if (eol == NULL)
			eol = end;
		colon = memchr(p, ':', (size_t)(eol - p));
		if (colon != NULL) {
			struct ws_str name = { p, (size_t)(colon - p) };
			struct ws_str value = { colon + 1, (size_t)(eol - colon - 1) };

			ws_upgrade_field(u, name, value);
			ws_connect_field(c, name, value);
		}
		p = eol < end ? eol + 1 : end;
	}
}

static void
check_deflate(const struct ws_deflate_params *d)
{
	if (!d->on)
		return;
	CHECK(d->send_bits >= 9 && d->send_bits <= 15);
	CHECK(d->receive_bits >= 8 && d->receive_bits <= 15);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ws_upgrade u;
	struct ws_connect c;
	int status;

	if (size < 1)
		return 0;
	ws_upgrade_init(&u, (struct ws_str){ "GET", 3 }, data[0] & 2 ? 0 : 1, data[0] & 1);
	ws_connect_init(&c, (const uint8_t *)"the sample nonce", data[0] & 1);
	ws_connect_status(&c, 101);
	fields(&u, &c, (const char *)data + 1, (const char *)data + size);

	status = ws_upgrade_status(&u);
	CHECK(status == 101 || status == 400 || status == 426);
	CHECK((status == 101) == (u.why == NULL));
	CHECK(data[0] & 1 || !u.deflate.on);
	check_deflate(&u.deflate);
	if (status == 101) {
		char out[512];
		struct ws_str list, token;
		size_t n;

		CHECK(strlen(u.accept) == WS_ACCEPT_LEN);
		n = ws_upgrade_response(&u, (struct ws_str){ NULL, 0 }, (struct ws_str){ NULL, 0 }, out,
		    sizeof(out));
		CHECK(n > 4 && memcmp(out + n - 4, "\r\n\r\n", 4) == 0);
		for (unsigned i = 0; i < u.nprotocols; i++) {
			list = u.protocols[i];
			while (ws_token_next(&list, &token))
				CHECK(token.len > 0);
			CHECK(list.p != NULL);
		}
	}
	if (ws_connect_ok(&c))
		check_deflate(&c.deflate);
	return 0;
}
