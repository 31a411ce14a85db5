/*
 * Texts offered as tokens: to the front, to the whole way of verifying with
 * and without issuer blocks, and to the explanations.
 */
#include <stdint.h>
#include <stdlib.h>

#include "auth/explain.h"
#include "auth/jws.h"
#include "auth/verify.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/must.h"
#include "base/text.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define NOW_MS INT64_C(1769860800000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct auth *
auth_of(const struct auth_config *config)
{
	char err[128];
	struct auth *auth = auth_new(config, err, sizeof(err));

	must(auth != NULL);
	return auth;
}

/* What was taken is the one text of its bytes. */
static void
check_canonical(struct slice token, const struct jws *jws)
{
	struct buf b = BUF_INIT;
	size_t dot = 0;

	while (token.p[dot] != '.')
		dot++;
	digest_base64url_put(&b, jws->payload, jws->payload_len);
	must(slice_eq(buf_slice(&b), slice_bytes(token.p + dot + 1, jws->signed_text.len - dot - 1)));
	buf_clear(&b);
	digest_base64url_put(&b, jws->signature, jws->signature_len);
	must(slice_eq(buf_slice(&b), slice_bytes(token.p + jws->signed_text.len + 1,
	    token.len - jws->signed_text.len - 1)));
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct auth *flat, *blocks;
	struct slice token = slice_bytes(data, size);
	struct buf words = BUF_INIT;
	enum auth_verdict first, again;
	char why[AUTH_WHY_LEN];
	struct identity id;
	struct jws jws;

	if (flat == NULL) {
		const struct auth_issuer_config block = { .issuer = "https://i" };

		flat = auth_of(&(struct auth_config){ .flat.jwt_secret = SECRET, .default_tenant = "d" });
		blocks = auth_of(&(struct auth_config){ .flat.jwt_secret = SECRET, .issuers = &block, .issuers_n = 1 });
	}
	if (jws_parse(token, &jws, NULL) == JWS_OK)
		check_canonical(token, &jws);
	first = auth_verify(flat, token, NOW_MS, &id, why);
	must((first == AUTH_OK) == (why[0] == '\0'));
	again = auth_verify(flat, token, NOW_MS, &id, why);
	must(first == again);
	if (first == AUTH_OK)
		must(text_is_id(slice_of(id.user), ID_USER_MAX) && text_is_id(slice_of(id.tenant), ID_TENANT_MAX));
	(void)auth_verify(blocks, token, NOW_MS, &id, why);
	(void)explain_token(token, SLICE(SECRET), NULL, NOW_MS, &words);
	must(words.len > 0);
	buf_fini(&words);
	return 0;
}
