/*
 * Payloads of tokens whose signature is good: claims by several rules, the
 * first line of the input being one more path for them.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "auth/rules.h"
#include "base/must.h"
#include "base/text.h"

#define NOW_MS INT64_C(1769860800000)
#define PATH_MAX_LEN 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_by(json_t *claims, const struct auth_config *config)
{
	const struct auth_issuer_config *own = rules_choose(config, claims_issuer(claims));
	int64_t expires_ms = 0;
	enum claims_fault fault;
	struct claims_rules rules;
	struct identity id;

	if (own == NULL)
		return;
	rules_init(&rules, own, config);
	fault = claims_check(claims, &rules, NOW_MS, &id, &expires_ms);
	must(claims_fault_text(fault) != NULL);
	if (fault == CLAIMS_OK) {
		must(text_is_id(slice_of(id.user), id.role == ROLE_DEVICE ? ID_DEVICE_MAX : ID_USER_MAX));
		must(text_is_id(slice_of(id.tenant), ID_TENANT_MAX));
		must(text_is_id(slice_of(id.role_name), sizeof(id.role_name) - 1));
		must(id.expires_ms == expires_ms && expires_ms + AUTH_LEEWAY_MS > NOW_MS && !id.any_tenant);
	}
	rules_fini(&rules);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
	char path[PATH_MAX_LEN + 1] = "";
	const char *const paths[] = { path };
	struct slice payload;
	json_t *claims;

	if (end == NULL || end - data > PATH_MAX_LEN)
		return 0;
	memcpy(path, data, (size_t)(end - data));
	payload = slice_bytes(end + 1, size - (size_t)(end + 1 - data));
	if ((claims = claims_parse(payload)) == NULL)
		return 0;
	check_by(claims, &(struct auth_config){ .default_tenant = "d" });
	check_by(claims, &(struct auth_config){ .flat = { .issuer = "i", .audience = "a", .azp = { paths, 1 } } });
	check_by(claims, &(struct auth_config){ .default_tenant = "d", .flat = { .user_claim = { paths, 1 },
	    .tenant_claim = { paths, 1 }, .role_claim = { paths, 1 } } });
	check_by(claims, &(struct auth_config){ .issuers = &(struct auth_issuer_config){ .issuer = "i",
	    .tenant_claim = { paths, 1 } }, .issuers_n = 1 });
	json_decref(claims);
	return 0;
}
