/*
 * ctl_token.c: belayctl token: prints a user token made with the shared secret
 * of the settings.  It asks no server.
 */
#include <stdio.h>
#include <stdlib.h>

#include "belayctl/ctl.h"

int
ctl_token_main(struct ctl *ctl, int argc, char **argv)
{
	const char *user = ctl->user, *tenant = ctl->tenant, *role = NULL;
	int64_t ttl_ms = 3600000;
	const struct ctl_opt opts[] = {
		{ "user", CTL_TEXT, &user, "user id (belayctl)" },
		{ "tenant", CTL_TEXT, &tenant, "tenant (auth.default_tenant)" },
		{ "role", CTL_TEXT, &role, "user, admin or service (none: a plain user)" },
		{ "ttl", CTL_MS, &ttl_ms, "how long it is good for (1h)" },
		{ NULL, CTL_FLAG, NULL, NULL }
	};
	char *token;

	ctl_opts(argc, argv, opts, NULL, 0);
	ctl->local = true;
	if (ttl_ms < 1000)
		ctl_die(CTL_USAGE, "--ttl is at least 1s");
	token = ctl_mint(ctl, user, tenant, role, ttl_ms / 1000);
	puts(token);
	free(token);
	return CTL_OK;
}
