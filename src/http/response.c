/*
 * response.c: HTTP/1.1 responses into a buffer.  Owns nothing; runs in the gateways.
 */
#include <stdio.h>
#include <time.h>

#include "base/must.h"
#include "http/response.h"

void
http_date_format(int64_t at_ms, char out[HTTP_DATE_LEN + 1])
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = (time_t)(at_ms / 1000);
	char text[96];
	struct tm tm;

	must(gmtime_r(&t, &tm) != NULL);
	snprintf(text, sizeof(text), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
	    days + 3 * tm.tm_wday, tm.tm_mday,
	    months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	memcpy(out, text, HTTP_DATE_LEN);
	out[HTTP_DATE_LEN] = '\0';
}

struct slice
http_date(struct http_date *d, int64_t now_ms)
{
	if (d->second != now_ms / 1000 || d->text[0] == '\0') {
		d->second = now_ms / 1000;
		http_date_format(now_ms, d->text);
	}
	return (struct slice){ d->text, HTTP_DATE_LEN };
}

const char *
http_reason(int status)
{
	switch (status) {
	case 100: return "Continue";
	case 101: return "Switching Protocols";
	case 200: return "OK";
	case 201: return "Created";
	case 202: return "Accepted";
	case 204: return "No Content";
	case 304: return "Not Modified";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 408: return "Request Timeout";
	case 409: return "Conflict";
	case 411: return "Length Required";
	case 413: return "Content Too Large";
	case 414: return "URI Too Long";
	case 415: return "Unsupported Media Type";
	case 417: return "Expectation Failed";
	case 422: return "Unprocessable Content";
	case 426: return "Upgrade Required";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	case 500: return "Internal Server Error";
	case 501: return "Not Implemented";
	case 503: return "Service Unavailable";
	case 504: return "Gateway Timeout";
	case 505: return "HTTP Version Not Supported";
	default: return "Unknown";
	}
}

void
http_header_put(struct buf *out, const char *name, struct slice value)
{
	size_t i;

	for (i = 0; i < value.len; i++)
		must(((unsigned char)value.p[i] >= 0x20 && value.p[i] != 0x7f) ||
		    value.p[i] == '\t');
	buf_puts(out, name);
	buf_put(out, ": ", 2);
	buf_put_slice(out, value);
	buf_put(out, "\r\n", 2);
}

void
http_response_put(struct buf *out, const struct http_response *r)
{
	const bool bodiless = r->status < 200 || r->status == 204 || r->status == 304;

	buf_puts(out, "HTTP/1.1 ");
	buf_put_u64(out, (uint64_t)r->status);
	buf_putc(out, ' ');
	buf_puts(out, http_reason(r->status));
	buf_puts(out, "\r\n");
	if (r->date.p != NULL)
		http_header_put(out, "Date", r->date);
	if (!bodiless) {
		if (r->content_type.p != NULL)
			http_header_put(out, "Content-Type", r->content_type);
		else if (r->body.len > 0)
			buf_puts(out, "Content-Type: application/json\r\n");
		buf_puts(out, "Content-Length: ");
		buf_put_u64(out, r->body.len);
		buf_puts(out, "\r\n");
	}
	buf_puts(out, "Cache-Control: no-store\r\n");
	if (r->status == 401)
		buf_puts(out, "WWW-Authenticate: Bearer\r\n");
	if (r->allow.p != NULL)
		http_header_put(out, "Allow", r->allow);
	if (r->retry_after_ms > 0) {
		buf_puts(out, "Retry-After: ");
		buf_put_u64(out, ((uint64_t)r->retry_after_ms + 999) / 1000);
		buf_puts(out, "\r\n");
	}
	if (r->close)
		buf_puts(out, "Connection: close\r\n");
	else if (r->http10)
		buf_puts(out, "Connection: keep-alive\r\n");
	if (!r->close && r->keep_alive_s > 0)
		buf_printf(out, "Keep-Alive: timeout=%u\r\n", r->keep_alive_s);
	buf_put_slice(out, r->extra);
	buf_puts(out, "\r\n");
	if (!bodiless && !r->head_only)
		buf_put_slice(out, r->body);
}

void
http_error_body_put(struct buf *out, const char *code, struct slice message, struct slice field)
{
	buf_puts(out, "{\"error\":{\"code\":");
	buf_put_json_string(out, slice_of(code));
	buf_puts(out, ",\"message\":");
	buf_put_json_string(out, message);
	if (field.len > 0) {
		buf_puts(out, ",\"field\":");
		buf_put_json_string(out, field);
	}
	buf_puts(out, "}}");
}

void
http_error_put(struct buf *out, const struct http_response *r, int status, const char *code,
    struct slice message,
    struct slice field)
{
	struct http_response response = { .status = status };
	struct buf body = BUF_INIT;

	if (r != NULL)
		response = *r;
	http_error_body_put(&body, code, message, field);
	response.status = status;
	response.content_type = SLICE_NONE;
	response.body = buf_slice(&body);
	http_response_put(out, &response);
	buf_fini(&body);
}
