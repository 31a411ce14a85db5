/* uuid.h: UUID version 7 (RFC 9562 section 5.7), as 16 bytes and as text. */
#ifndef BELAY_BASE_UUID_H
#define BELAY_BASE_UUID_H

#include <stdint.h>

#include "base/slice.h"

#define UUID_LEN 16
#define UUID_TEXT_LEN 36

/*
 * A new id: 48 bits of milliseconds, a counter that keeps ids of one process in order, random bits.
 */
void uuid_new(uint8_t out[UUID_LEN]);
void uuid_format(const uint8_t id[UUID_LEN], char out[UUID_TEXT_LEN + 1]);
int uuid_parse(struct slice text, uint8_t out[UUID_LEN]);	/* -1: not a UUID */

#endif
