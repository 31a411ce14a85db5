/*
 * Parsing and finding the keys of back ends.  Keeps nothing.
 */
#include <stdio.h>
#include <string.h>

#include "auth/service_key.h"
#include "base/text.h"

int
service_key_parse(struct slice text, struct service_key *out, char *err, size_t errlen)
{
	const char *first = text.len > 0 ? memchr(text.p, ':', text.len) : NULL;
	const char *last = text.len > 0 ? memrchr(text.p, ':', text.len) : NULL;
	struct slice name, tenant, hex;

	memset(out, 0, sizeof(*out));
	if (first == NULL || first == last) {
		snprintf(err, errlen, "not of the form name:tenant:sha256hex");
		return -1;
	}
	name = slice_bytes(text.p, (size_t)(first - text.p));
	tenant = slice_bytes(first + 1, (size_t)(last - first - 1));
	hex = slice_bytes(last + 1, (size_t)(text.p + text.len - last - 1));
	if (!text_is_id(name, SERVICE_KEY_NAME_MAX)) {
		snprintf(err, errlen, "the name is not 1 to %d characters of A-Z a-z 0-9 . _ @ | "
		    "+ = -", SERVICE_KEY_NAME_MAX);
		return -1;
	}
	if (slice_is(tenant, "*")) {
		out->identity.any_tenant = true;
	} else if (text_is_id(tenant, ID_TENANT_MAX)) {
		memcpy(out->identity.tenant, tenant.p, tenant.len);
	} else {
		snprintf(err, errlen, "the tenant is neither * nor a valid id");
		return -1;
	}
	if (digest_hex_decode(hex, out->hash, sizeof(out->hash)) < 0) {
		snprintf(err, errlen, "the hash is not the 64 hex digits of a SHA-256");
		return -1;
	}
	out->identity.role = ROLE_SERVICE;
	strcpy(out->identity.role_name, "service");
	strcpy(out->identity.user, ID_KEY_PREFIX);
	memcpy(out->identity.user + sizeof(ID_KEY_PREFIX) - 1, name.p, name.len);
	/* The same key for another tenant is another key. */
	out->identity.key = identity_key(slice_bytes(text.p, (size_t)(last - text.p)), out->hash);
	return 0;
}

const struct service_key *
service_key_find(const struct service_key *keys, size_t n, const uint8_t hash[SHA256_LEN])
{
	const struct service_key *found = NULL;

	for (size_t i = 0; i < n; i++)
		if (digest_equal(keys[i].hash, hash, SHA256_LEN))
			found = &keys[i];
	return found;
}
