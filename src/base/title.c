/*
 * title.c: overwrites the memory that ps(1) reads.
 *
 * The kernel puts the strings of argv and of the environment one behind the other.  Owned here: the
 * place of that memory, of which there is one for each process, and the copies.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/must.h"
#include "base/title.h"

static struct {
	char *begin, *end;
	char **argv, **environment;	/* copies, kept for good */
} area;

/*
 * Copies the strings of a vector, in one piece with it: unsetenv(3) forgets entries of environ, and
 * nobody else would know of a string by itself.  The originals are overwritten, wherever they are;
 * *end moves on while they lie one behind the other.
 */
static char **
copy_vector(char **from, char **end)
{
	size_t n = 0, bytes = 0;
	char **copy, *to;

	for (; from[n] != NULL; n++)
		bytes += strlen(from[n]) + 1;
	copy = must_alloc((n + 1) * sizeof(*copy) + bytes);
	to = (char *)(copy + n + 1);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(from[i]) + 1;

		copy[i] = memcpy(to, from[i], len);
		memset(from[i], 0, len);
		to += len;
		if (from[i] == *end)
			*end += len;
	}
	return copy;
}

char **
title_init(int argc, char **argv)
{
	if (argc < 1)
		return argv;
	area.begin = area.end = argv[0];
	area.argv = copy_vector(argv, &area.end);
	area.environment = copy_vector(environ, &area.end);
	environ = area.environment;
	title_set("starting");
	return area.argv;
}

void
title_set(const char *text)
{
	size_t room = (size_t)(area.end - area.begin);

	if (room < 2)
		return;
	memset(area.begin, 0, room);
	(void)snprintf(area.begin, room, "belayd: %s", text);
}
