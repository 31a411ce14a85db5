/*
 * page.c: rows of a list, copied: what an engine fills and its caller steps through.  Owns no handle; whoever has the
 * page has its rows and texts.
 *
 * Texts lie in blocks that never move, since rows point into them.  The first block is kept for the next page.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/must.h"
#include "db/page.h"

#define BLOCK_BYTES	((size_t)16 << 10)
#define CLOCK_ROWS	32	/* rows between two looks at the clock */

struct db_texts {
	struct db_texts *next;		/* the one filled before */
	size_t len, cap;
	char data[];
};

/* All blocks but the first. */
static void
texts_trim(struct db_page *page)
{
	while (page->texts != NULL && page->texts->next != NULL) {
		struct db_texts *t = page->texts;

		page->texts = t->next;
		free(t);
	}
}

void
db_page_want(struct db_page *page, unsigned rows)
{
	texts_trim(page);
	if (page->texts != NULL)
		page->texts->len = 0;
	buf_clear(&page->last_text);
	page->rows = rows;
	page->bytes = DB_PAGE_BYTES;
	page->looks = page->us = page->looked = page->count = 0;
	page->more = false;
	page->last = page->until_us = 0;
	page->texts_len = 0;
}

void
db_page_fini(struct db_page *page)
{
	texts_trim(page);
	free(page->texts);
	free(page->row);
	buf_fini(&page->last_text);
	*page = (struct db_page){ .rows = 0 };
}

bool
page_goes_on(struct db_page *page)
{
	must(page->rows > 0);
	/* A statement may have much to do before its first row, in each step: that shall not leave no time for rows. */
	if (page->us != 0 && page->until_us == 0)
		page->until_us = clock_mono_us() + page->us;
	page->more = page->count == page->rows || page->texts_len > page->bytes ||
	    (page->looks != 0 && page->looked == page->looks) ||
	    (page->us != 0 && page->looked % CLOCK_ROWS == CLOCK_ROWS - 1 && clock_mono_us() >= page->until_us);
	page->looked += !page->more;
	return !page->more;
}

void
page_passed_text(struct db_page *page, struct slice text)
{
	buf_clear(&page->last_text);
	buf_put_slice(&page->last_text, text);
}

struct slice
page_text(struct db_page *page, struct slice text)
{
	struct db_texts *t = page->texts;
	char *at;

	if (text.len == 0)
		return (struct slice){ "", 0 };
	if (t == NULL || t->cap - t->len < text.len) {
		size_t cap = text.len > BLOCK_BYTES ? text.len : BLOCK_BYTES;

		t = must_realloc(NULL, sizeof(*t) + cap);
		t->len = 0;
		t->cap = cap;
		t->next = page->texts;
		page->texts = t;
	}
	at = t->data + t->len;
	memcpy(at, text.p, text.len);
	t->len += text.len;
	page->texts_len += text.len;
	return (struct slice){ at, text.len };
}

void
page_add(struct db_page *page, const void *row, size_t size, struct slice *const *texts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*texts[i] = page_text(page, *texts[i]);
	if ((page->count + 1) * size > page->row_cap) {
		page->row_cap = page->row_cap > 0 ? 2 * page->row_cap : 4 * size;
		if (page->row_cap < (page->count + 1) * size)
			page->row_cap = (page->count + 1) * size;
		page->row = must_realloc(page->row, page->row_cap);
	}
	memcpy((char *)page->row + page->count * size, row, size);
	page->count++;
}
