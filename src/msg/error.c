/*
 * error.c: the tables that error.def expands to.  Used by every process that answers a client.
 */
#include "msg/error.h"

static const struct {
	const char *name, *text;
	int status;
} errors[ERROR_COUNT] = {
	[ERROR_NONE] = { "", "", 200 },
#define ERROR(code, status, text) [ERROR_##code] = { #code, text, status },
#include "msg/error.def"
#undef ERROR
};

const char *
error_name(enum error_code code)
{
	return errors[code].name;
}

int
error_status(enum error_code code)
{
	return errors[code].status;
}

const char *
error_text(enum error_code code)
{
	return errors[code].text;
}

enum error_code
error_of_status(int status)
{
	switch (status) {
	case 401: return ERROR_invalid_token;
	case 403: return ERROR_no_access;
	case 404: return ERROR_not_found;
	case 405: return ERROR_method_not_allowed;
	case 408: return ERROR_request_timeout;
	case 409: return ERROR_conflict;
	case 411: return ERROR_length_required;
	case 413: return ERROR_too_large;
	case 414: return ERROR_uri_too_long;
	case 415: return ERROR_unsupported_media_type;
	case 417: return ERROR_expectation_failed;
	case 422: return ERROR_invalid_payload;
	case 426: return ERROR_upgrade_required;
	case 429: return ERROR_rate_limited;
	case 431: return ERROR_headers_too_large;
	case 500: return ERROR_internal;
	case 501: return ERROR_not_implemented;
	case 503: return ERROR_unavailable;
	case 504: return ERROR_timeout;
	case 505: return ERROR_http_version;
	default: return ERROR_bad_request;
	}
}
