/*
 * deflate.h: permessage-deflate (RFC 7692) without context takeover.
 *
 * Since no message refers to an earlier one, a connection owns no stream: one
 * struct ws_inflate and one struct ws_deflate serve a whole process.  Built
 * without zlib (HAVE_ZLIB undefined) ws_deflate_available() is false, nothing
 * is negotiated and both constructors return NULL.
 */
#ifndef BELAY_WS_DEFLATE_H
#define BELAY_WS_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ws_deflate;
struct ws_inflate;

#define WS_DEFLATE_INPUT_MAX (1u << 30)	/* bytes of a message, in or out */

/* What a handshake settled.  Four bytes, to be kept by the connection. */
struct ws_deflate_params {
	bool on;
	uint8_t send_bits;	/* our compressor's window, 9-15 */
	uint8_t receive_bits;	/* the peer's, 8-15; informative, any is inflated */
};

/* Whether zlib was built in. */
bool ws_deflate_available(void);

/* NULL when out of memory or built without zlib. */
struct ws_inflate *ws_inflate_new(void);
void ws_inflate_free(struct ws_inflate **);

/*
 * Inflates one message's payload.  Returns 0 and the text in a buffer of z,
 * valid until the next call; or the code to close with: WS_CODE_TOO_BIG as soon as
 * the result would pass limit bytes, WS_CODE_PROTOCOL for data that is no deflate
 * stream or ends in the middle of a block, WS_CODE_INTERNAL when out of memory.
 * No more than limit bytes are ever held.
 */
int ws_inflate_message(struct ws_inflate *z, const uint8_t *in, size_t len, size_t limit,
    uint8_t **out, size_t *out_len);

/* level: zlib's 1-9. */
struct ws_deflate *ws_deflate_new(int level);
void ws_deflate_free(struct ws_deflate **);

/*
 * Compresses one message with a window of bits (9-15).  Returns 0 and the payload,
 * to be sent with WS_RSV1, in a buffer of z, valid until the next call; 1 when it
 * is better sent as it is (it would not be smaller, or memory is short).
 */
int ws_deflate_message(struct ws_deflate *z, int bits, const uint8_t *in, size_t len,
    const uint8_t **out, size_t *out_len);

#endif
