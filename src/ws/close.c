/*
 * close.c: the table of close codes, and close frames.  Pure functions.
 */
#include <string.h>

#include "ws/close.h"
#include "ws/frame.h"
#include "ws/utf8.h"

struct row {
	uint16_t code;
	const char *name, *reason, *advice;
};

static const struct row rows[WS_CLOSE_COUNT] = {
	[WS_CLOSE_NONE] = { WS_CODE_NO_STATUS, "NONE", "", "" },
#define X(code, name, reason, advice) [WS_CLOSE_##name] = { code, #name, reason, advice },
#include "ws/close.def"
#undef X
};

#define X(code, name, reason, advice) \
	_Static_assert(sizeof(reason) - 1 <= WS_REASON_MAX, "reason too long: " #name);
#include "ws/close.def"
#undef X

static const struct row *
row_of(enum ws_close why)
{
	return &rows[(unsigned)why < WS_CLOSE_COUNT ? why : WS_CLOSE_NONE];
}

uint16_t
ws_close_code(enum ws_close why)
{
	return row_of(why)->code;
}

const char *
ws_close_reason(enum ws_close why)
{
	return row_of(why)->reason;
}

const char *
ws_close_advice(enum ws_close why)
{
	return row_of(why)->advice;
}

const char *
ws_close_name(enum ws_close why)
{
	return row_of(why)->name;
}

enum ws_close
ws_close_of(uint16_t code)
{
	for (unsigned i = WS_CLOSE_NONE + 1; i < WS_CLOSE_COUNT; i++)
		if (rows[i].code == code)
			return (enum ws_close)i;
	return WS_CLOSE_NONE;
}

uint16_t
ws_close_classic(uint16_t code)
{
	return code == WS_CODE_RESTART || code == WS_CODE_OVERLOADED ? WS_CODE_GOING_AWAY : code;
}

bool
ws_close_valid_on_wire(uint16_t code)
{
	/* 1004 is reserved; 1005, 1006 and 1015 stand for frames that never came. */
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
	    (code >= 3000 && code <= 4999);
}

int
ws_close_parse(const uint8_t *p, size_t len, uint16_t *code, const uint8_t **reason,
    size_t *reason_len)
{
	*code = WS_CODE_NO_STATUS;
	*reason = NULL;
	*reason_len = 0;
	if (len == 0)
		return 0;
	if (len == 1)
		return WS_CODE_PROTOCOL;
	*code = (uint16_t)(p[0] << 8 | p[1]);
	*reason = p + 2;
	*reason_len = len - 2;
	if (!ws_close_valid_on_wire(*code))
		return WS_CODE_PROTOCOL;
	if (!ws_utf8_valid(*reason, *reason_len))
		return WS_CODE_BAD_UTF8;
	return 0;
}

/* len, or less so that no character is cut in two. */
static size_t
cut_reason(const char *reason, size_t len)
{
	if (len <= WS_REASON_MAX)
		return len;
	len = WS_REASON_MAX;
	while (len > 0 && ((uint8_t)reason[len] & 0xc0) == 0x80)
		len--;
	return len;
}

size_t
ws_close_put(uint8_t out[WS_CLOSE_FRAME_MAX], uint16_t code, const char *reason,
    size_t reason_len, const uint8_t mask[4])
{
	uint8_t payload[WS_CONTROL_MAX];
	size_t len = 0, head;

	if (code != WS_CODE_NO_STATUS && code != WS_CODE_ABNORMAL) {
		payload[0] = (uint8_t)(code >> 8);
		payload[1] = (uint8_t)code;
		reason_len = cut_reason(reason, reason_len);
		if (reason_len > 0)
			memcpy(payload + 2, reason, reason_len);
		len = 2 + reason_len;
	}
	head = ws_header_put(out, WS_FIN | WS_OP_CLOSE, len, mask);
	if (len > 0)
		memcpy(out + head, payload, len);
	if (mask != NULL)
		ws_mask(out + head, len, mask, 0);
	return head + len;
}

size_t
ws_close_reply(uint8_t out[WS_CLOSE_FRAME_MAX], uint16_t code, const uint8_t mask[4])
{
	return ws_close_put(out, code, "", 0, mask);
}
