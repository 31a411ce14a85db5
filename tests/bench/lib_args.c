/*
 * lib_args.c: the clock, the end with a sentence, and command lines.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/lib.h"

uint64_t
bench_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * BENCH_SECOND + (uint64_t)ts.tv_nsec;
}

void
bench_die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "bench: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	_exit(1);
}

void
bench_end(void)
{
	_exit(fflush(stdout) == 0 ? 0 : 1);
}

void *
bench_alloc(size_t n)
{
	void *p = calloc(1, n != 0 ? n : 1);

	if (p == NULL)
		bench_die("out of memory (%zu bytes)", n);
	return p;
}

static _Noreturn void
args_usage(const char *what, const struct bench_arg *args, FILE *out, int status)
{
	static const char *const kind[] = { "", "N", "SECONDS", "TEXT", "PID" };

	fprintf(out, "%s\n\n", what);
	for (; args->name != NULL; args++)
		fprintf(out, "  --%s %-*s %s\n", args->name,
		    (int)(20 - strlen(args->name)), kind[args->kind], args->help);
	exit(status);
}

static const struct bench_arg *
args_find(const struct bench_arg *args, const char *name, size_t len)
{
	for (; args->name != NULL; args++)
		if (strlen(args->name) == len && memcmp(args->name, name, len) == 0)
			return args;
	return NULL;
}

static int
args_set(const struct bench_arg *arg, const char *text)
{
	struct bench_procs *procs;
	char *end;
	double d;

	if (arg->kind == BENCH_TEXT) {
		*(const char **)arg->value = text;
		return 0;
	}
	d = strtod(text, &end);
	if (end == text || *end != '\0' || d < 0 || d > 4e9)
		return -1;
	switch (arg->kind) {
	case BENCH_UINT:
		*(unsigned *)arg->value = (unsigned)d;
		break;
	case BENCH_SECONDS:
		*(double *)arg->value = d;
		break;
	case BENCH_PID:
		procs = arg->value;
		if (d < 1 || procs->nroots == BENCH_PROCS_MAX)
			return -1;
		procs->root[procs->nroots++] = (int)d;
		break;
	default:
		return -1;
	}
	return 0;
}

void
bench_args(int argc, char **argv, const char *what, const struct bench_arg *args)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i], *equals, *text;
		const struct bench_arg *arg;

		if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
			args_usage(what, args, stdout, 0);
		if (strncmp(name, "--", 2) != 0)
			args_usage(what, args, stderr, 2);
		name += 2;
		equals = strchr(name, '=');
		arg = args_find(args, name, equals != NULL ? (size_t)(equals - name) : strlen(name));
		if (arg == NULL) {
			fprintf(stderr, "bench: unknown option --%s\n", name);
			args_usage(what, args, stderr, 2);
		}
		if (arg->kind == BENCH_FLAG) {
			*(bool *)arg->value = true;
			continue;
		}
		text = equals != NULL ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
		if (text == NULL || args_set(arg, text) == -1) {
			fprintf(stderr, "bench: bad value for --%s\n", arg->name);
			exit(2);
		}
	}
}
