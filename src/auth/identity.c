/*
 * The form of ids and the names of roles.
 */
#include "auth/identity.h"
#include "base/must.h"

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

static bool
id_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	    (c != '\0' && strchr("._:@|+=-", c) != NULL);
}

bool
id_valid(struct slice id, size_t max)
{
	if (id.len == 0 || id.len > max)
		return false;
	for (size_t i = 0; i < id.len; i++)
		if (!id_char(id.p[i]))
			return false;
	return true;
}
