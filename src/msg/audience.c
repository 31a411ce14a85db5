/*
 * audience.c: packs and reads who may view a device, and names the topics
 * that follow from it.  Any process; owns nothing.
 */
#include <string.h>

#include "base/must.h"
#include "msg/audience.h"

#define HEAD 10

void
audience_put(struct buf *b, int64_t expires_ms, enum audience_rights rights, struct slice user)
{
	char *p = buf_reserve(b, HEAD + user.len);

	must(user.len <= 128);
	memcpy(p, &expires_ms, 8);
	p[8] = (char)rights;
	p[9] = (char)(unsigned char)user.len;
	memcpy(p + HEAD, user.p, user.len);
	b->len += HEAD + user.len;
}

int
audience_next(struct slice *rest, struct audience_entry *out)
{
	size_t len;

	if (rest->len == 0)
		return 0;
	if (rest->len < HEAD)
		return -1;
	len = (unsigned char)rest->p[9];
	if (rest->len - HEAD < len)
		return -1;
	memcpy(&out->expires_ms, rest->p, 8);
	out->rights = (enum audience_rights)(unsigned char)rest->p[8];
	out->user = (struct slice){ rest->p + HEAD, len };
	rest->p += HEAD + len;
	rest->len -= HEAD + len;
	return 1;
}

/*
 * One hash names spaces apart by a first byte that no id contains, so that a
 * user and a tenant of the same name never meet.
 */
static struct hash128
topic(const uint8_t key[16], char space, struct slice tenant, struct slice rest)
{
	char first[1 + 64];

	must(tenant.len <= 64);
	first[0] = space;
	memcpy(first + 1, tenant.p, tenant.len);
	return digest_sip128(key, (struct slice){ first, 1 + tenant.len }, rest);
}

struct hash128
audience_topic_user(const uint8_t key[16], struct slice tenant, struct slice user)
{
	return topic(key, '\1', tenant, user);
}

struct hash128
audience_topic_tenant(const uint8_t key[16], struct slice tenant)
{
	return topic(key, '\2', tenant, SLICE_NONE);
}

struct hash128
audience_device_key(const uint8_t key[16], struct slice tenant, struct slice device)
{
	return topic(key, '\3', tenant, device);
}
