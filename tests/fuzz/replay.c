/*
 * replay.c: runs a fuzz target over its corpus, once per file, without a fuzzing engine.
 *
 * The main() of tests/fuzz/NAME_fuzz in "make check".  The files are those given as arguments, or all of
 * tests/fuzz/corpus/NAME.  Each input is given as it is, and cut short at some places, in a heap buffer of its exact
 * size so that a read past its end shows under a sanitizer.  Exit status 77 (skipped) when there is no input.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (1u << 20)

static void
run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy) {
		perror("malloc");
		exit(99);
	}
	memcpy(copy, data, size);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

/* Returns the number of runs; exits 99 when the file can't be read. */
static unsigned
run_file(const char *path)
{
	static uint8_t data[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	unsigned runs = 0;
	size_t size;

	if (!f || (size = fread(data, 1, sizeof(data), f), ferror(f))) {
		perror(path);
		exit(99);
	}
	fclose(f);
	run(data, size);
	for (size_t cut = 0; cut < size; cut += 1 + size / 64, runs++)
		run(data, cut);
	return runs + 1;
}

int
main(int argc, char **argv)
{
	const char *srcdir = getenv("top_srcdir"), *name = strrchr(argv[0], '/');
	char dir[4096], path[4096 + 512];
	unsigned files = 0, runs = 0;
	struct dirent *e;
	size_t len;
	DIR *d;

	if (argc > 1) {
		for (int i = 1; i < argc; i++, files++)
			runs += run_file(argv[i]);
		printf("%u inputs from %u files\n", runs, files);
		return 0;
	}
	name = name ? name + 1 : argv[0];
	len = strlen(name) > 5 ? strlen(name) - strlen("_fuzz") : 0;
	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%.*s", srcdir ? srcdir : ".", (int)len, name);
	d = opendir(dir);
	if (!d) {
		fprintf(stderr, "%s: %s\n", dir, strerror(errno));
		return errno == ENOENT ? 77 : 99;
	}
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		runs += run_file(path);
		files++;
	}
	closedir(d);
	printf("%s: %u inputs from %u files\n", name, runs, files);
	return files ? 0 : 77;
}
