/*
 * Any bytes as an HTTP response to belayctl: head, framing.
 * Whether a head is whole must not depend on where it is split.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "belayctl/web.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of just this size, so that reading beyond it is seen. */
	char *text = must_alloc(size + (size == 0));
	enum web_framing how;
	struct web_head h;
	uint64_t length;
	long head;

	if (size != 0)
		memcpy(text, data, size);
	head = size != 0 ? web_head_parse(text, size, &h) : 0;
	must(head <= (long)size);
	if (head > 0) {
		must(web_head_parse(text, (size_t)head - 1, &h) == 0);
		must(web_head_parse(text, size, &h) == head);
		(void)web_framing(&h, &how, &length);
		(void)web_date(web_head_field(&h, "Date"));
	}
	free(text);
	return 0;
}
