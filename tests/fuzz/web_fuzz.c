/*
 * Any bytes as an HTTP response to belayctl: head, framing, chunked body.
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
	struct web_chunks whole = { 0 }, bytes = { 0 };
	struct buf a = BUF_INIT, b = BUF_INIT;
	size_t used = 0, n = 0, one;
	enum web_framing how;
	struct web_head h;
	uint64_t length;
	int rc, rc2 = 0;
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
	if (head < 0)
		head = 0;
	rc = web_chunks_feed(&whole, text + head, size - (size_t)head, &used, &a);
	while (rc2 == 0 && n < size - (size_t)head) {
		rc2 = web_chunks_feed(&bytes, text + head + n, 1, &one, &b);
		n++;
	}
	must(rc == rc2);
	must(rc == -1 || slice_eq(buf_slice(&a), buf_slice(&b)));
	buf_fini(&a);
	buf_fini(&b);
	free(text);
	return 0;
}
