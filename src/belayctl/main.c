/*
 * main.c: belayctl, the operator's and the developer's tool.  It is a client
 * of belayd like any other: it speaks HTTP and WebSocket to it and opens none
 * of its files but the settings, for the address and, where no token is given,
 * the secret to make one with; and, where told to, a store that no server has open.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/must.h"
#include "base/version.h"
#include "belayctl/ctl.h"

static const struct {
	const char *name, *synopsis, *help;
	int (*run)(struct ctl *ctl, int argc, char **argv);
} commands[] = {
#define COMMAND(name, synopsis, help) { #name, synopsis, help, ctl_##name##_main },
#include "belayctl/commands.def"
#undef COMMAND
};

static void
usage(FILE *out)
{
	fputs("usage: belayctl [-c FILE] [-u URL] [-t TOKEN | -k SERVICEKEY] [-U USER] [-T TENANT] COMMAND ...\n\n"
	    "  -c FILE      belayd's settings (" BELAY_CONF_FILE ")\n"
	    "  -u URL       the server: http://, https://, ws:// or wss://; also BELAY_URL (of the settings)\n"
	    "  -t, -k TEXT  user token or service key, or @FILE that holds it; also BELAY_TOKEN.  Without one a\n"
	    "               token for an administrator is made with auth.jwt_secret of the settings\n"
	    "  -U USER      the user id of a token made so (belayctl)\n"
	    "  -T TENANT    the tenant of a token made so, or to act in with a service key for all tenants\n"
	    "  -K           do not check the certificate (wss, https)\n\ncommands:\n", out);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(out, "  %s\n      %s\n", commands[i].synopsis, commands[i].help);
	fputs("\nexit status:\n"
	    "  0 done (send --wait: the device told that it executed the command)\n"
	    "  1 refused by the server, or the device told that the command failed\n"
	    "  2 wrong command line or settings\n"
	    "  3 the time ran out: the command may have run\n"
	    "  4 the device never got the command: safe to retry\n"
	    "  5 no server answered\n"
	    "  6 the server did not take the token\n", out);
}

static int
version(void)
{
	puts("belayctl " BELAY_VERSION);
	return CTL_OK;
}

/* -1: there is no such command. */
static int
run(struct ctl *ctl, int argc, char **argv)
{
	static char option[] = "--help";

	if (strcmp(argv[0], "version") == 0)
		return version();
	if (strcmp(argv[0], "help") == 0) {
		if (argc == 1) {
			usage(stdout);
			return CTL_OK;
		}
		argv[0] = argv[1];
		argv[1] = option;
		argc = 2;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].run(ctl, argc, argv);
	return -1;
}

int
main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 }
	};
	struct ctl ctl = { .user = "belayctl" };
	struct pollfd out = { .fd = STDOUT_FILENO };
	int c, status;

	signal(SIGPIPE, SIG_IGN);
	while ((c = getopt_long(argc, argv, "+c:u:t:k:U:T:KVh", long_options, NULL)) != -1) {
		switch (c) {
		case 'c':
			ctl.conf_file = optarg;
			break;
		case 'u':
			ctl.url_text = optarg;
			break;
		case 't':
		case 'k':
			free(ctl.token);
			ctl.token = ctl_secret(c == 't' ? "-t" : "-k", optarg);
			if (optarg[0] != '@')
				ctl_hide(optarg);
			break;
		case 'U':
			ctl.user = optarg;
			break;
		case 'T':
			ctl.tenant = optarg;
			break;
		case 'K':
			ctl.tls.insecure = true;
			break;
		case 'V':
			return version();
		case 'h':
			usage(stdout);
			return CTL_OK;
		default:
			usage(stderr);
			return CTL_USAGE;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return CTL_USAGE;
	}
	if (ctl.token == NULL && getenv("BELAY_TOKEN") != NULL && *getenv("BELAY_TOKEN") != '\0')
		ctl.token = ctl_secret("BELAY_TOKEN", getenv("BELAY_TOKEN"));
	status = run(&ctl, argc - optind, argv + optind);
	if (status == -1)
		ctl_die(CTL_USAGE, "there is no command %s (belayctl -h lists them)", argv[optind]);
	if (ctl.webbed)
		web_close(&ctl.web);
	line_tls_fini(&ctl.tls);
	conf_free(&ctl.conf);
	free(ctl.token);
	free(ctl.minted);
	/* A reader that has seen enough, such as head(1), is no fault. */
	if ((fflush(stdout) != 0 || ferror(stdout)) && (poll(&out, 1, 0) != 1 || !(out.revents & POLLERR)))
		ctl_die(CTL_FAILED, "standard output could not be written");
	return status;
}
