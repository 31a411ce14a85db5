/*
 * from_conf.c: hands the settings over to verify.h.  The master does this to
 * refuse bad keys before it starts anything, each gateway to verify with them.
 */
#include <stdlib.h>

#include "auth/from_conf.h"
#include "auth/verify.h"
#include "base/conf.h"
#include "base/must.h"

static struct auth_strings
strings(const struct conf_list *list)
{
	return (struct auth_strings){ (const char *const *)list->v, list->n };
}

/*
 * A file's text was read with the settings: a secret file and a plain secret are one and the same
 * from here on.
 */
static const char *
first_set(const char *a, const char *b)
{
	return a[0] != '\0' ? a : b;
}

struct auth *
auth_new_from_conf(const struct conf *conf, bool (*unknown_kid)(void *arg, const char *issuer),
    void *unknown_kid_arg, char *err, size_t errlen)
{
	struct auth_issuer_config *blocks = must_alloc((conf->auth_issuers_n +
	    1) * sizeof(*blocks));
	struct auth_config config = {
		.flat = {
			.issuer = conf->auth_issuer,
			.audience = conf->auth_audience,
			.azp = strings(&conf->auth_azp),
			.jwt_secret = first_set(conf->auth_jwt_secret,
			conf->auth_jwt_secret_file_text),
			.insecure_short_secret = conf->insecure_short_secret,
			.jwt_public_key = conf->auth_jwt_public_key_file_text,
			.jwks_file = conf->auth_jwks_file,
			.jwks_by_url = conf->auth_jwks_url[0] != '\0',
			.user_claim = strings(&conf->auth_user_claim),
			.tenant_claim = strings(&conf->auth_tenant_claim),
			.role_claim = strings(&conf->auth_role_claim),
			.tenants = strings(&conf->auth_tenants),
			.no_roles = !conf->auth_roles,
			.jwks_cooldown_ms = conf->auth_jwks_cooldown_ms
		},
		.issuers = blocks,
		.issuers_n = conf->auth_issuers_n,
		.default_tenant = conf->auth_default_tenant,
		.service_keys = strings(&conf->auth_service_keys),
		.unknown_kid = unknown_kid,
		.unknown_kid_arg = unknown_kid_arg
	};
	struct auth *auth;

	for (size_t i = 0; i < conf->auth_issuers_n; i++) {
		const struct conf_issuer *from = &conf->auth_issuers[i];

		blocks[i] = (struct auth_issuer_config){
			.issuer = from->issuer,
			.whole = true,		/* what it does not set itself was filled in with the settings */
			.audience = from->audience,
			.azp = strings(&from->azp),
			.jwt_secret = first_set(from->jwt_secret, from->jwt_secret_file_text),
			.insecure_short_secret = conf->insecure_short_secret,
			.jwt_public_key = from->jwt_public_key_file_text,
			.jwks_file = from->jwks_file,
			.jwks_by_url = from->jwks_url[0] != '\0',
			.user_claim = strings(&from->user_claim),
			.tenant_claim = strings(&from->tenant_claim),
			.role_claim = strings(&from->role_claim),
			.tenants = strings(&from->tenants),
			.no_roles = !from->roles,
			.jwks_cooldown_ms = conf->auth_jwks_cooldown_ms
		};
	}
	auth = auth_new(&config, err, errlen);
	free(blocks);
	return auth;
}
