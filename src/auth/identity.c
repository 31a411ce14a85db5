/*
 * The names of roles, and the numbers of keys.
 */
#include <string.h>

#include "auth/identity.h"
#include "base/must.h"

uint32_t
identity_key(struct slice holder, const uint8_t print[SHA256_LEN])
{
	struct buf text = BUF_INIT;
	uint8_t hash[SHA256_LEN];
	uint32_t id;

	buf_put_slice(&text, holder);
	buf_putc(&text, '\0');
	buf_put(&text, print, SHA256_LEN);
	digest_sha256(buf_slice(&text), hash);
	buf_fini(&text);
	memcpy(&id, hash, sizeof(id));
	return id != 0 ? id : 1;
}

const char *
role_text(enum role role)
{
	switch (role) {
	case ROLE_USER:
		return "user";
	case ROLE_ADMIN:
		return "admin";
	case ROLE_SERVICE:
		return "service";
	case ROLE_DEVICE:
		return "device";
	}
	must_fail("a role", __FILE__, __LINE__);
}
