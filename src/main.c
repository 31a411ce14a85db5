/*
 * main.c: belayd's command line.
 */
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/must.h"
#include "base/title.h"
#include "base/version.h"
#include "master/master.h"
#include "master/upgrade.h"

#ifndef BELAY_CONF_FILE
#define BELAY_CONF_FILE "/etc/belay/belayd.conf"
#endif

static const char usage_text[] =
    "usage: belayd [-c FILE] [-o section.option=value]... [-f] [-t] [-T] [-V] [-h]\n"
    "\n"
    "  -c FILE   read the settings from FILE (" BELAY_CONF_FILE ")\n"
    "  -o S.O=V  set option O of section S to V; may be given several times\n"
    "  -f        stay in the foreground, log to standard error\n"
    "  -t        check the settings, print each fault, and exit\n"
    "  -T        print all settings in force, and exit\n"
    "  -V        print the version, and exit\n"
    "  -h        print this, and exit\n"
    "  --insecure-short-secret\n"
    "            take a JWT secret of less than 32 bytes; for experiments only\n";

enum { SHORT_SECRET = 256 };

static const struct option long_options[] = {
	{ "insecure-short-secret", no_argument, NULL, SHORT_SECRET },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

struct command {
	struct conf_sources sources;
	bool foreground, test, print;
};

static int
usage(FILE *out, int status)
{
	(void)fputs(usage_text, out);
	return status;
}

static void
add_override(struct conf_sources *s, const char *text)
{
	const char **all = must_realloc((void *)(uintptr_t)s->overrides,
	    (s->override_count + 1) * sizeof(*all));

	all[s->override_count++] = text;
	s->overrides = all;
}

/* -1: go on; else the exit status. */
static int
parse(struct command *c, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "c:o:ftTVh", long_options, NULL)) != -1)
		switch (option) {
		case 'c':
			c->sources.file = optarg;
			c->sources.file_required = true;
			break;
		case 'o':
			add_override(&c->sources, optarg);
			break;
		case 'f':
			c->foreground = true;
			break;
		case 't':
			c->test = true;
			break;
		case 'T':
			c->print = true;
			break;
		case 'V':
			(void)puts("belayd " BELAY_VERSION);
			return 0;
		case 'h':
			return usage(stdout, 0);
		case SHORT_SECRET:
			c->sources.insecure_short_secret = true;
			break;
		default:
			return usage(stderr, MASTER_BAD_SETTINGS);
		}
	if (optind < argc) {
		(void)fprintf(stderr, "belayd: %s: not an option\n", argv[optind]);
		return usage(stderr, MASTER_BAD_SETTINGS);
	}
	return -1;
}

static int
run(struct command *c)
{
	struct conf *conf;
	char *absolute;
	int status;

	/* Who only looks at the settings is not told what to do about them. */
	c->sources.exposed_secret = c->print;
	conf = master_load(&c->sources, !c->print);
	if (conf == NULL)
		return MASTER_BAD_SETTINGS;
	if (c->print)
		conf_print(conf, stdout);
	if (c->test && !c->print)
		(void)puts("the settings have no fault");
	if (c->print || c->test) {
		conf_free(&conf);
		return fflush(stdout) == 0 ? MASTER_OK : MASTER_NOT_STARTED;
	}
	/* The daemon's directory is /, and a reload reads the same file. */
	absolute = c->sources.file_required ? realpath(c->sources.file, NULL) : NULL;
	if (absolute != NULL)
		c->sources.file = absolute;
	status = master_run(&c->sources, conf, c->foreground);
	free(absolute);
	return status;
}

int
main(int argc, char **argv)
{
	struct command c = { .sources = { .file = BELAY_CONF_FILE } };
	int status;

	argv = title_init(argc, argv);
	upgrade_remember(argv);
	c.sources.environment = environ;
	status = parse(&c, argc, argv);
	if (status == -1)
		status = run(&c);
	free((void *)(uintptr_t)c.sources.overrides);
	return status;
}
