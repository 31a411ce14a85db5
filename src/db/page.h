/*
 * page.h: how an engine fills a page of a list.
 */
#ifndef BELAY_DB_PAGE_H
#define BELAY_DB_PAGE_H

#include "db/db.h"

/*
 * Before each row that the list comes to: may it be looked at?  false: the page ends before it, and `more` is set.  An
 * engine asks in the order of the list, and ends its statement at the first false.
 */
bool page_goes_on(struct db_page *page);
/* It was looked at: its key.  A text is copied. */
static inline void
page_passed(struct db_page *page, int64_t number)
{
	page->last = number;
}
void page_passed_text(struct db_page *page, struct slice text);
/* Adds a row of that size, the same for all of a page.  Copies the texts that its slices show and points them there. */
void page_add(struct db_page *page, const void *row, size_t size, struct slice *const *texts, size_t n);
/* Copies the text; what comes back lasts as long as the page's rows. */
struct slice page_text(struct db_page *page, struct slice text);

#endif
