/*
 * ws_utf8_fuzz.c: the UTF-8 validator, whole and cut, against decoding code points.
 *
 * Input: byte 0 where to cut; then the text.
 */
#include <stdlib.h>

#include "tests/unit/ws_trace.h"
#include "ws/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t s = WS_UTF8_START;
	size_t cut;
	int want;

	if (size < 1)
		return 0;
	cut = data[0] < size ? data[0] : size - 1;
	data++, size--;
	want = plain_utf8(data, size);
	if (ws_utf8_valid(data, size) != (want == 1))
		abort();
	if (ws_utf8_feed(&s, data, cut) != (plain_utf8(data, cut) >= 0))
		abort();
	if (ws_utf8_feed(&s, data + cut, size - cut) != (want >= 0))
		abort();
	if (want >= 0 && ws_utf8_complete(s) != (want == 1))
		abort();
	return 0;
}
