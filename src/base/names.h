/*
 * names.h: texts, each once, in the order in which they came.  Adding one, and looking for one, takes
 * the same time however many there are: what a client lists costs no more than its length.
 */
#ifndef BELAY_BASE_NAMES_H
#define BELAY_BASE_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

struct names {
	struct slice *v;		/* owned; what the slices point to is not */
	uint32_t n, cap;
	uint32_t *spots;		/* owned; 1 + index into v by the hash of the text, 0: empty */
	uint32_t spot_count;		/* a power of two, more than twice n */
	const uint8_t *key;		/* borrowed */
};

/* key: 16 bytes that no client knows, so that nobody can choose texts of one hash; must outlive names. */
void names_init(struct names *names, const uint8_t key[16]);
void names_fini(struct names *names);

/* false: it is there already. */
bool names_add(struct names *names, struct slice text);
bool names_has(const struct names *names, struct slice text);
/*
 * Adds each string of an array, the raw text of a JSON value that was checked.  What needs decoding is
 * appended to scratch; that, and the array's text, must outlive names and not be changed meanwhile.
 */
void names_add_json(struct names *names, struct slice array_json, struct buf *scratch);

#endif
