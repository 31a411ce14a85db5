/*
 * Says what is wrong with a token, with everything a person can check: its
 * text, its header, its signature where the secret is known, its times and
 * claims.  Runs in belayctl only; a server tells a client far less.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>
#include <openssl/crypto.h>

#include "auth/claims.h"
#include "auth/device_token.h"
#include "auth/explain.h"
#include "auth/jws.h"
#include "auth/keys.h"
#include "auth/rules.h"
#include "base/clock.h"
#include "base/must.h"
#include "base/text.h"

struct explain {
	struct buf *out;
	uint64_t faults;
	int64_t now_ms;
};

static void
found(struct explain *x, enum explain_fault fault)
{
	static const char *const words[EXPLAIN_COUNT] = {
#define EXPLAIN(name, text) text,
#include "auth/explain.def"
#undef EXPLAIN
	};

	x->faults |= UINT64_C(1) << fault;
	buf_puts(x->out, words[fault]);
	buf_putc(x->out, '\n');
}

static void
put_span(struct buf *out, int64_t ms)
{
	int64_t s = ms / 1000;

	if (s < 120)
		buf_printf(out, "%" PRId64 " s", s);
	else if (s < 7200)
		buf_printf(out, "%" PRId64 " min", s / 60);
	else if (s < 172800)
		buf_printf(out, "%" PRId64 " h", s / 3600);
	else
		buf_printf(out, "%" PRId64 " days", s / 86400);
}

/* Text that came with the token: control bytes do not reach a terminal. */
static void
put_safe(struct buf *out, const char *text)
{
	buf_put_json_string(out, slice_of(text));
}

/* Undoes one level of percent-encoding; true when there was any. */
static bool
percent_decode(struct buf *text)
{
	size_t to = 0;

	for (size_t i = 0; i < text->len; i++) {
		if (text->data[i] == '%' && i + 2 < text->len &&
		    text_hex_value(text->data[i + 1]) >= 0 &&
		    text_hex_value(text->data[i + 2]) >= 0) {
			text->data[to++] = (char)(text_hex_value(text->data[i + 1]) << 4 |
			    text_hex_value(text->data[i + 2]));
			i += 2;
		} else {
			text->data[to++] = text->data[i];
		}
	}
	if (to == text->len)
		return false;
	text->len = to;
	return true;
}

/* Takes out every byte of the set; true when there was one. */
static bool
take_out(struct buf *text, const char *set)
{
	size_t to = 0;

	for (size_t i = 0; i < text->len; i++)
		if (text->data[i] == '\0' || strchr(set, text->data[i]) == NULL)
			text->data[to++] = text->data[i];
	if (to == text->len)
		return false;
	text->len = to;
	return true;
}

/*
 * What wrapping, copying and encoding do to a token.  Each is told and undone, so that what is in
 * it can be looked at all the same.
 */
static void
explain_wrapping(struct explain *x, struct buf *text)
{
	if (percent_decode(text)) {
		found(x, EXPLAIN_URL_ENCODED);
		for (int i = 0; i < 3 && percent_decode(text); i++)
			;
	}
	if (take_out(text, "\"'`"))
		found(x, EXPLAIN_QUOTES);
	while (text->len > 0 && isspace((unsigned char)text->data[0]) != 0) {
		buf_consume(text, 1);
		if ((x->faults & EXPLAIN_BIT(SPACE)) == 0)
			found(x, EXPLAIN_SPACE);
	}
	if (text->len >= 6 && strncasecmp(text->data, "bearer", 6) == 0) {
		found(x, EXPLAIN_BEARER);
		buf_consume(text, 6);
		while (text->len > 0 && strchr(" :+", text->data[0]) != NULL &&
		    text->data[0] != '\0')
			buf_consume(text, 1);
	}
	if (take_out(text, " \t\r\n\v\f") && (x->faults & EXPLAIN_BIT(SPACE)) == 0)
		found(x, EXPLAIN_SPACE);
}

static bool
is_placeholder(struct slice t)
{
	return slice_is(t, "undefined") || slice_is(t, "null") || slice_is(t, "None") ||
	    slice_is(t, "nil") ||
	    slice_is(t, "[objectObject]");
}

static void
explain_opaque(struct explain *x, struct slice t)
{
	uint8_t hash[SHA256_LEN];

	if (auth_device_token_is(t)) {
		if (auth_device_token_hash(t, hash) < 0) {
			found(x, EXPLAIN_DEVICE_FORM);
			return;
		}
		buf_puts(x->out, "This is a device token of the right form; SHA-256 ");
	} else {
		if (auth_service_key_hash(t, hash) < 0) {
			found(x, EXPLAIN_SERVICE_FORM);
			return;
		}
		buf_puts(x->out, "This is a service key of the right form; SHA-256 ");
	}
	buf_put_hex(x->out, hash, sizeof(hash));
	buf_putc(x->out, '\n');
}

static size_t
count_segments(struct slice t)
{
	size_t n = 1;

	for (size_t i = 0; i < t.len; i++)
		n += t.p[i] == '.';
	return n;
}

/* false: nothing behind the front can be looked at */
static bool
explain_front(struct explain *x, struct slice t, struct jws *jws)
{
	char alg[16];

	switch (jws_parse(t, jws, alg)) {
	case JWS_OK:
		buf_printf(x->out, "Signed with %s", jws->alg->name);
		if (jws->has_kid) {
			buf_puts(x->out, ", key id ");
			put_safe(x->out, jws->kid);
		}
		buf_puts(x->out, ".\n");
		return true;
	case JWS_TOO_LONG:
		found(x, EXPLAIN_TOO_LONG);
		return false;
	case JWS_SEGMENTS:
		found(x, count_segments(t) == 5 ? EXPLAIN_ENCRYPTED : EXPLAIN_SEGMENTS);
		return false;
	case JWS_BASE64:
		found(x, EXPLAIN_BASE64);
		return false;
	case JWS_HEADER:
		found(x, EXPLAIN_HEADER);
		return false;
	case JWS_ALG:
		found(x, strcasecmp(alg, "none") == 0 ? EXPLAIN_ALG_NONE : EXPLAIN_ALG_UNKNOWN);
		return true;
	}
	return false;
}

/* Whether the signature is made with this secret, however short. */
static bool
fits_secret(const struct jws *jws, struct slice secret)
{
	struct keys keys = KEYS_INIT;
	char ignored[128];
	bool fits;

	fits = keys_add_secret(&keys, secret, true, ignored, sizeof(ignored)) == 0 &&
	    key_verify(&keys.v[0], jws);
	keys_fini(&keys);
	return fits;
}

static bool
fits_trimmed(const struct jws *jws, struct slice secret)
{
	struct slice t = secret;

	while (t.len > 0 && isspace((unsigned char)t.p[0]) != 0) {
		t.p++;
		t.len--;
	}
	while (t.len > 0 && isspace((unsigned char)t.p[t.len - 1]) != 0)
		t.len--;
	return t.len != secret.len && fits_secret(jws, t);
}

/* Both alphabets, with padding or without. */
static bool
fits_decoded(const struct jws *jws, struct slice secret)
{
	char *plain = must_strndup(secret.p, secret.len);
	uint8_t *bytes = must_alloc(secret.len + 1);
	size_t len = secret.len;
	bool fits;
	long n;

	while (len > 0 && plain[len - 1] == '=')
		len--;
	for (size_t i = 0; i < len; i++)
		plain[i] = plain[i] == '+' ? '-' : plain[i] == '/' ? '_' : plain[i];
	n = digest_base64url_decode(slice_bytes(plain, len), bytes, secret.len);
	fits = n > 0 && fits_secret(jws, slice_bytes(bytes, (size_t)n));
	OPENSSL_cleanse(plain, secret.len);
	OPENSSL_cleanse(bytes, secret.len);
	free(plain);
	free(bytes);
	return fits;
}

static void
explain_signature(struct explain *x, const struct jws *jws, struct slice secret)
{
	if (jws->alg == NULL)
		return;
	if (secret.len == 0) {
		buf_puts(x->out, "Its signature was not checked here: no secret was given.\n");
		return;
	}
	if (jws->alg->kind != KEY_HMAC)
		found(x, EXPLAIN_ALG_MISMATCH);
	else if (fits_secret(jws, secret))
		buf_puts(x->out, "Its signature is good.\n");
	else if (fits_trimmed(jws, secret))
		found(x, EXPLAIN_SECRET_SPACE);
	else if (fits_decoded(jws, secret))
		found(x, EXPLAIN_SECRET_BASE64);
	else
		found(x, EXPLAIN_WRONG_SECRET);
}

/* Seconds since 1970 in a number, as milliseconds; false when it is none. */
static bool
time_of(json_t *claims, const char *name, int64_t *at_ms)
{
	const json_t *value = json_object_get(claims, name);
	double seconds = json_number_value(value);

	if (!json_is_number(value) || !(seconds > -1e15 && seconds < 1e15))
		return false;
	*at_ms = (int64_t)(seconds * 1000);
	return true;
}

static void
explain_expiry(struct explain *x, json_t *claims)
{
	char text[CLOCK_TEXT_LEN + 1];
	int64_t exp_ms;

	if (!time_of(claims, "exp", &exp_ms)) {
		found(x, EXPLAIN_NO_EXP);
		return;
	}
	if (exp_ms > INT64_C(253402300799000)) {
		found(x, EXPLAIN_EXP_MILLISECONDS);
		return;
	}
	if (x->now_ms < exp_ms + AUTH_LEEWAY_MS) {
		if (exp_ms >= x->now_ms) {
			buf_puts(x->out, "It expires in ");
			put_span(x->out, exp_ms - x->now_ms);
			buf_puts(x->out, ".\n");
		}
		return;
	}
	found(x, EXPLAIN_EXPIRED);
	buf_puts(x->out, "It expired ");
	put_span(x->out, x->now_ms - exp_ms);
	if (exp_ms > 0) {
		clock_format(exp_ms, text);
		buf_printf(x->out, " ago, at %s", text);
	}
	buf_puts(x->out, ".\n");
}

static void
explain_begin(struct explain *x, json_t *claims, const char *name, enum explain_fault fault)
{
	int64_t at_ms;

	if (!time_of(claims, name, &at_ms) || at_ms <= x->now_ms + AUTH_LEEWAY_MS)
		return;
	found(x, fault);
	buf_printf(x->out, "%s lies ", name);
	put_span(x->out, at_ms - x->now_ms);
	buf_puts(x->out, " ahead of this machine's clock.\n");
}

/* What the server's own check says about everything but the times. */
static void
explain_identity(struct explain *x, json_t *claims, const struct claims_rules *rules)
{
	json_t *timeless = json_copy(claims);
	struct identity identity;
	int64_t expires_ms;

	json_object_del(timeless, "nbf");
	json_object_del(timeless, "iat");
	json_object_set_new(timeless, "exp", json_integer(x->now_ms / 1000 + 3600));
	switch (claims_check(timeless, rules, x->now_ms, &identity, &expires_ms)) {
	case CLAIMS_OK:
		buf_printf(x->out, "It stands for the %s %s of the tenant %s.\n",
		    role_text(identity.role), identity.user, identity.tenant);
		break;
	case CLAIMS_ISSUER:
		found(x, EXPLAIN_ISSUER);
		break;
	case CLAIMS_AUDIENCE:
		found(x, EXPLAIN_AUDIENCE);
		break;
	case CLAIMS_AZP:
		found(x, EXPLAIN_AZP);
		break;
	case CLAIMS_NO_USER:
		found(x, EXPLAIN_NO_USER);
		break;
	case CLAIMS_BAD_USER:
		found(x, EXPLAIN_BAD_USER);
		break;
	case CLAIMS_NO_TENANT:
		found(x, EXPLAIN_NO_TENANT);
		break;
	case CLAIMS_FOREIGN_TENANT:
		found(x, EXPLAIN_FOREIGN_TENANT);
		break;
	default:
		found(x, EXPLAIN_BAD_ID);
		break;
	}
	json_decref(timeless);
}

static void
explain_claims(struct explain *x, const struct jws *jws, const struct auth_config *config)
{
	static const struct auth_config common = { .default_tenant = "default" };
	json_t *claims = claims_parse(slice_bytes(jws->payload, jws->payload_len));
	const struct auth_issuer_config *own;
	struct claims_rules rules;

	if (claims == NULL) {
		found(x, EXPLAIN_PAYLOAD);
		return;
	}
	explain_expiry(x, claims);
	explain_begin(x, claims, "nbf", EXPLAIN_NOT_YET);
	explain_begin(x, claims, "iat", EXPLAIN_SKEW);
	if (config == NULL)
		config = &common;
	if ((own = rules_choose(config, claims_issuer(claims))) != NULL) {
		rules_init(&rules, own, config);
		explain_identity(x, claims, &rules);
		rules_fini(&rules);
	} else {
		found(x, EXPLAIN_ISSUER);
	}
	json_decref(claims);
}

uint64_t
explain_token(struct slice token, struct slice secret, const struct auth_config *config,
    int64_t now_ms, struct buf *out)
{
	struct explain x = { .out = out, .now_ms = now_ms };
	struct buf text = BUF_INIT;
	struct jws *jws;
	struct slice t;

	buf_put_slice(&text, token);
	explain_wrapping(&x, &text);
	t = buf_slice(&text);
	if (t.len == 0) {
		found(&x, EXPLAIN_MISSING);
	} else if (is_placeholder(t)) {
		found(&x, EXPLAIN_PLACEHOLDER);
	} else if (auth_device_token_is(t) || auth_service_key_is(t)) {
		explain_opaque(&x, t);
	} else {
		jws = must_alloc(sizeof(*jws));
		if (explain_front(&x, t, jws)) {
			explain_signature(&x, jws, secret);
			explain_claims(&x, jws, config);
		}
		free(jws);
	}
	buf_fini(&text);
	return x.faults;
}
