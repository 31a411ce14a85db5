/*
 * ws_trace.h: for tests of the codec: writes WebSocket input from short scripts, reads it in
 * pieces, and turns what comes out into a line of text that can be compared.
 *
 * A trace is the events in order: T(text) B(binary) P(ping) O(pong) C(code,reason) E(code).
 * A payload longer than 48 bytes is given as its length and a checksum.
 */
#ifndef TESTS_UNIT_WS_TRACE_H
#define TESTS_UNIT_WS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ws/reader.h"

struct bytes {
	uint8_t *p;	/* owned */
	size_t n, cap;
};

void bytes_put(struct bytes *b, const void *p, size_t n);
void bytes_free(struct bytes *b);

/* A frame; masked (with a mask that changes) when it is from a client. */
void put_frame(struct bytes *b, uint8_t first, const void *payload, size_t len, bool masked);

/*
 * Frames and raw bytes, with spaces between:
 *	81:text		first byte in hexadecimal, payload (_ stands for a space)
 *	81*300		the same, payload 300 times '*'
 *	81=c3a4		the same, payload in hexadecimal
 *	!8180		raw bytes
 */
void put_script(struct bytes *b, const char *script, bool masked);

/* How a run cuts its input: at cut1 and cut2 (0: not), and then every step bytes (0: not). */
struct cuts {
	size_t cut1, cut2, step;
};

/* Reads n bytes; the trace, to be freed.  Aborts when the reader breaks its contract. */
char *trace_run(const uint8_t *p, size_t n, const struct ws_limits *limits, bool deflate,
    struct cuts cuts);

/* The same from a second, plain implementation that sees all input at once. */
char *trace_reference(const uint8_t *p, size_t n, const struct ws_limits *limits, bool deflate);

/* 1: valid UTF-8; 0: the beginning of something valid; -1: bad.  By decoding code points. */
int plain_utf8(const uint8_t *p, size_t n);

/* Small reproducible random numbers. */
uint32_t ws_random(uint32_t *state);

#endif
