/*
 * The options of one issuer, with what it inherits, as rules for claims.c.
 */
#include <stdlib.h>
#include <string.h>

#include "auth/rules.h"
#include "base/must.h"

static bool
is_set(const char *option)
{
	return option != NULL && option[0] != '\0';
}

static char *
copy_set(const char *option)
{
	return is_set(option) ? must_strndup(option, strlen(option)) : NULL;
}

/* The first that is set. */
static const char *
either(const char *own, const char *common)
{
	return is_set(own) ? own : common;
}

static struct auth_strings
either_list(struct auth_strings own, struct auth_strings common)
{
	return own.n > 0 ? own : common;
}

static void
paths_init(struct claims_paths *paths, struct auth_strings from)
{
	paths->v = must_alloc((from.n + 1) * sizeof(*paths->v));
	paths->n = from.n;
	for (size_t i = 0; i < from.n; i++)
		paths->v[i] = must_strndup(from.v[i], strlen(from.v[i]));
}

static void
paths_fini(struct claims_paths *paths)
{
	for (size_t i = 0; i < paths->n; i++)
		free(paths->v[i]);
	free(paths->v);
}

const struct auth_issuer_config *
rules_choose(const struct auth_config *config, const char *iss)
{
	if (config->issuers_n == 0)
		return &config->flat;
	for (size_t i = 0; iss != NULL && i < config->issuers_n; i++)
		if (is_set(config->issuers[i].issuer) &&
		    strcmp(config->issuers[i].issuer, iss) == 0)
			return &config->issuers[i];
	return NULL;
}

#define LIST(...) ((struct auth_strings){ (const char *const[]){ __VA_ARGS__ }, \
	sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *) })

void
rules_init(struct claims_rules *rules, const struct auth_issuer_config *own,
    const struct auth_config *config)
{
	static const struct auth_issuer_config none;
	const struct auth_issuer_config *flat = own->whole ? &none : &config->flat;

	rules->issuer = copy_set(own->issuer);
	rules->audience = copy_set(either(own->audience, flat->audience));
	rules->default_tenant = copy_set(config->default_tenant);
	rules->leeway_ms = AUTH_LEEWAY_MS;
	paths_init(&rules->azp, either_list(own->azp, flat->azp));
	paths_init(&rules->user, either_list(either_list(own->user_claim, flat->user_claim),
	    LIST("sub", "userId", "user_id", "id")));
	paths_init(&rules->tenant, either_list(either_list(own->tenant_claim, flat->tenant_claim),
	    LIST("tenant_id", "tenantId", "org_id", "o.id")));
	paths_init(&rules->role, either_list(either_list(own->role_claim, flat->role_claim),
	    LIST("role", "org_role", "o.rol")));
	paths_init(&rules->tenants, either_list(own->tenants, flat->tenants));
	rules->no_roles = own->no_roles;
}

void
rules_fini(struct claims_rules *rules)
{
	free(rules->issuer);
	free(rules->audience);
	free(rules->default_tenant);
	paths_fini(&rules->azp);
	paths_fini(&rules->user);
	paths_fini(&rules->tenant);
	paths_fini(&rules->role);
	paths_fini(&rules->tenants);
}
