/*
 * live.c: the payloads of what dashboards are told of stored events, made the
 * same when it happens and when a dashboard that was away is told later
 * (resume.c).
 */
#include "store/desk.h"

void
live_connection(struct buf *b, struct slice device, int64_t epoch, const char *transport, int64_t at,
    struct slice reason)
{
	buf_clear(b);
	buf_puts(b, "{\"deviceId\":");
	buf_put_json_string(b, device);
	buf_puts(b, ",\"epoch\":");
	buf_put_i64(b, epoch);
	buf_printf(b, ",\"transport\":\"%s\",\"at\":", transport);
	buf_put_json_time(b, at);
	if (reason.len > 0) {
		buf_puts(b, ",\"reason\":");
		buf_put_json_string(b, reason);
	}
	buf_putc(b, '}');
}

void
live_report(struct buf *b, struct slice device, int64_t epoch, struct slice event, int64_t at,
    struct slice data_json)
{
	buf_clear(b);
	buf_puts(b, "{\"deviceId\":");
	buf_put_json_string(b, device);
	buf_puts(b, ",\"epoch\":");
	buf_put_i64(b, epoch);
	if (event.len > 0) {
		buf_puts(b, ",\"event\":");
		buf_put_json_string(b, event);
	}
	buf_puts(b, ",\"at\":");
	buf_put_json_time(b, at);
	buf_puts(b, ",\"data\":");
	buf_put_slice(b, data_json);
	buf_putc(b, '}');
}

void
live_share(struct buf *b, struct slice device, struct slice permission, struct slice by)
{
	buf_clear(b);
	buf_puts(b, "{\"deviceId\":");
	buf_put_json_string(b, device);
	buf_puts(b, ",\"permission\":");
	buf_put_json_string(b, permission);
	buf_puts(b, ",\"by\":");
	if (by.len > 0)
		buf_put_json_string(b, by);
	else
		buf_puts(b, "null");
	buf_putc(b, '}');
}
