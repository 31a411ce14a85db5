/*
 * keys.h: the role that fetches key sets (auth.jwks_url).
 */
#ifndef BELAY_KEYS_KEYS_H
#define BELAY_KEYS_KEYS_H

#include "workers/role.h"

extern const struct worker_role keys_role;

#endif
