/*
 * from_conf.h: the settings' section `auth` as a struct auth.
 */
#ifndef BELAY_AUTH_FROM_CONF_H
#define BELAY_AUTH_FROM_CONF_H

#include <stdbool.h>
#include <stddef.h>

struct auth;
struct conf;

/*
 * Parses all keys of the settings once; key files were read with the settings, JWKS files are
 * looked at again later. NULL with a sentence in err, never with a part of a secret.  The settings
 * are not referred to afterwards. unknown_kid and its argument: as in struct auth_config; NULL
 * without issuers that have their keys by URL.
 */
struct auth *auth_new_from_conf(const struct conf *conf,
    bool (*unknown_kid)(void *arg, const char *issuer), void *unknown_kid_arg, char *err,
    size_t errlen);

#endif
