/*
 * rules.h: from the options to the rules that claims are checked by.
 */
#ifndef BELAY_AUTH_RULES_H
#define BELAY_AUTH_RULES_H

#include "auth/claims.h"
#include "auth/verify.h"

/*
 * The options that a token of this issuer is checked by: its block, or the flat ones without
 * blocks; NULL: refused.
 */
const struct auth_issuer_config *rules_choose(const struct auth_config *config, const char *iss);

/* own's options, where not set the flat ones, then the defaults; own may be &config->flat. */
void rules_init(struct claims_rules *rules, const struct auth_issuer_config *own,
    const struct auth_config *config);
void rules_fini(struct claims_rules *rules);

#endif
