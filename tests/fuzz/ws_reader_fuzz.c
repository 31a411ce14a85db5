/*
 * ws_reader_fuzz.c: a stream of bytes to the WebSocket reader: whole, byte by byte and in pieces
 * it must give the same events as the plain implementation of tests/unit/ws_trace.c.
 *
 * Input: byte 0 client, deflate, small limits; byte 1 step; byte 2 cut; then the stream.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/ws_trace.h"
#include "ws/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
compare(const uint8_t *p, size_t n, const struct ws_limits *limits, bool deflate,
    struct cuts cuts, const char *want)
{
	char *got = trace_run(p, n, limits, deflate, cuts);

	if (strcmp(got, want) != 0) {
		fprintf(stderr, "cut at %zu, every %zu:\n got  %s\n want %s\n", cuts.cut1, cuts.step,
		    got, want);
		abort();
	}
	free(got);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ws_inflate *inflate;
	struct ws_limits limits;
	bool deflate;
	char *want;

	if (size < 3)
		return 0;
	if (inflate == NULL)
		inflate = ws_inflate_new();
	limits = (struct ws_limits){ .max_message = data[0] & 4 ? 64 : 70000,
		.max_fragments = data[0] & 8 ? 3 : 100, .client = data[0] & 1, .inflate = inflate };
	deflate = data[0] & 2;

	want = trace_reference(data + 3, size - 3, &limits, deflate);
	compare(data + 3, size - 3, &limits, deflate, (struct cuts){ 0, 0, 0 }, want);
	compare(data + 3, size - 3, &limits, deflate, (struct cuts){ 0, 0, 1 }, want);
	compare(data + 3, size - 3, &limits, deflate, (struct cuts){ data[2], 0, data[1] }, want);
	free(want);
	return 0;
}
