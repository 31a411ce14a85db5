/*
 * sha1.h: SHA-1 of a short text, for the accept key of the handshake and for nothing else.
 */
#ifndef BELAY_WS_SHA1_H
#define BELAY_WS_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define WS_SHA1_LEN 20

/* Any length, 0 too. */
void ws_sha1(const void *data, size_t len, uint8_t digest[WS_SHA1_LEN]);

#endif
