/*
 * conf_numbers.c: whole numbers of a file of settings that libconfig would cut to 32 bits without a word.
 *
 * Part of conf_load(), in the master.  Looks for them in the text, before libconfig reads it, since the
 * number that was written is not to be had from libconfig afterwards.  Says nothing of any other fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf_load.h"

#define INCLUDES_MAX	10		/* one inside another, as libconfig has it */
#define TEXT_MAX	(16u << 20)	/* bytes that are looked at */

struct scan {
	struct conf_load *l;
	const char *file, *dir;
	const char *p, *end;
	unsigned line, depth;
	bool good;
};

static bool scan_numbers(struct conf_load *l, const char *file, const char *dir, unsigned depth);

static void
scan_skip(struct scan *s, const char *until)
{
	const char *at = memmem(s->p, (size_t)(s->end - s->p), until, strlen(until));

	for (at = at != NULL ? at + strlen(until) : s->end; s->p < at; s->p++)
		s->line += *s->p == '\n';
}

/* A string; its text, as far as it fits, is put into *text. */
static void
scan_string(struct scan *s, char *text, size_t size)
{
	size_t n = 0;

	for (s->p++; s->p < s->end && *s->p != '"'; s->p++) {
		if (*s->p == '\\' && s->p + 1 < s->end)
			s->p++;
		s->line += *s->p == '\n';
		if (n + 1 < size)
			text[n++] = *s->p;
	}
	text[n] = '\0';
	s->p += s->p < s->end;
}

static void
scan_include(struct scan *s)
{
	char name[512], path[1024];

	while (s->p < s->end && *s->p != '"' && *s->p != '\n')
		s->p++;
	if (s->p == s->end || *s->p == '\n')
		return;
	scan_string(s, name, sizeof(name));
	(void)snprintf(path, sizeof(path), "%s%s%s", *name == '/' ? "" : s->dir, *name == '/' ? "" : "/", name);
	s->good &= scan_numbers(s->l, path, s->dir, s->depth + 1);
}

static void
scan_number(struct scan *s)
{
	const char *start = s->p;
	bool hex = s->end - s->p > 2 && s->p[0] == '0' && (s->p[1] == 'x' || s->p[1] == 'X');
	unsigned long long v;
	char text[40], where[256];

	s->p += hex ? 2 : 0;
	while (s->p < s->end && strchr(hex ? "0123456789abcdefABCDEF" : "0123456789", *s->p) != NULL && *s->p != '\0')
		s->p++;
	if (s->p < s->end && strchr("Ll.eE", *s->p) != NULL)	/* 64 bits, or no whole number */
		return;
	(void)snprintf(text, sizeof(text), "%.*s", (int)(s->p - start), start);
	errno = 0;
	v = strtoull(text, NULL, hex ? 16 : 10);
	if (errno == 0 && s->p - start < (long)sizeof(text) && v <= (hex ? UINT32_MAX : INT32_MAX))
		return;
	s->good = false;
	(void)snprintf(where, sizeof(where), "%.200s:%u", s->file, s->line);
	conf_fault(s->l, where, "%s: a number beyond 2147483647 is written with an L at its end (5000000000L)", text);
}

static void
scan_text(struct scan *s)
{
	char text[4];

	while (s->p < s->end) {
		char c = *s->p;
		size_t left = (size_t)(s->end - s->p);

		if (c == '"')
			scan_string(s, text, sizeof(text));
		else if (c == '#' || (c == '/' && left > 1 && s->p[1] == '/'))
			scan_skip(s, "\n");
		else if (c == '/' && left > 1 && s->p[1] == '*')
			scan_skip(s, "*/");
		else if (left > 9 && memcmp(s->p, "@include", 8) == 0)
			scan_include(s);
		else if (c >= '0' && c <= '9')
			scan_number(s);
		else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.')
			while (s->p < s->end && (strchr("-_*.", *s->p) != NULL ? *s->p != '\0' :
			    (*s->p >= '0' && *s->p <= '9') || ((*s->p | 32) >= 'a' && (*s->p | 32) <= 'z')))
				s->p++;
		else
			s->line += *s->p++ == '\n';
	}
}

/* false: there is a number that libconfig would read as another one, and that was noted. */
static bool
scan_numbers(struct conf_load *l, const char *file, const char *dir, unsigned depth)
{
	struct buf text = BUF_INIT;
	struct scan s = { .l = l, .file = file, .dir = dir, .line = 1, .depth = depth, .good = true };
	int fd = depth <= INCLUDES_MAX ? open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -1;
	ssize_t n;

	if (fd == -1)			/* libconfig says what is wrong with that */
		return true;
	while ((n = read(fd, buf_reserve(&text, 4096), 4096)) > 0 && text.len < TEXT_MAX)
		text.len += (size_t)n;
	(void)close(fd);
	s.p = text.data;
	s.end = text.data + text.len;
	if (text.len > 0)
		scan_text(&s);
	buf_fini(&text);
	return s.good;
}

bool
conf_numbers_fit(struct conf_load *l, const char *file, const char *dir)
{
	return scan_numbers(l, file, dir, 0);
}
