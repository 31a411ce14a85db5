/*
 * The names of roles.
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
