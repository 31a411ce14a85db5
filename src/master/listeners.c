/*
 * listeners.c: opens and closes the master's sets of listening sockets.  Accepts nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/conf.h"
#include "base/must.h"
#include "master/listeners.h"
#include "master/upgrade.h"
#include "net/listen.h"

#define PATIENCE_MS	1000
#define PAUSE_NS	10000000

static const char *
address_at(const struct conf *conf, unsigned i)
{
	if (i < conf->server_listen.n)
		return conf->server_listen.v[i];
	i -= (unsigned)conf->server_listen.n;
	return i < conf->server_tls_listen.n ? conf->server_tls_listen.v[i] :
	    conf->server_admin_listen;
}

/* May each process have a socket of its own for this address? */
static bool
spreads(const struct conf *conf, unsigned i)
{
	return conf->server_accept == CONF_ACCEPT_REUSEPORT &&
	    i < conf->server_listen.n + conf->server_tls_listen.n &&
	    strncmp(address_at(conf, i), "unix:", 5) != 0;
}

/*
 * Processes whose master was killed give its addresses back as soon as they are scheduled: an init
 * system that starts us in its place at that moment must not be told that they are taken.
 */
static int
open_patiently(const char *address, bool reuseport, int64_t until_ms, char *err, size_t errlen)
{
	static const struct timespec pause = { .tv_nsec = PAUSE_NS };
	int fd;

	while ((fd = listen_open(address, reuseport, err, errlen)) == -1 && errno == EADDRINUSE &&
	    clock_mono_ms() < until_ms)
		(void)nanosleep(&pause, NULL);
	return fd;
}

int
listeners_open(struct listeners *l, const struct conf *conf, unsigned processes,
    struct upgrade *given, char *err, size_t errlen)
{
	unsigned own = conf->server_accept == CONF_ACCEPT_REUSEPORT ? processes : 1;
	int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

	memset(l, 0, sizeof(*l));
	l->sets = own > 0 ? own : 1;
	l->per_set = (unsigned)(conf->server_listen.n + conf->server_tls_listen.n) +
	    (*conf->server_admin_listen != '\0');
	l->fd = must_alloc(l->sets * l->per_set * sizeof(*l->fd));
	for (unsigned i = 0; i < l->sets * l->per_set; i++)
		l->fd[i] = -1;
	for (unsigned i = 0; i < l->per_set; i++)
		for (unsigned set = 0; set < l->sets; set++) {
			int *fd = &l->fd[set * l->per_set + i];

			if (set > 0 && !spreads(conf, i)) {
				*fd = l->fd[i];
				continue;
			}
			*fd = upgrade_take_socket(given, address_at(conf, i), spreads(conf, i));
			if (*fd == -1 && (*fd = open_patiently(address_at(conf, i), spreads(conf, i), until_ms,
			    err, errlen)) == -1) {
				listeners_close(l);
				return -1;
			}
		}
	return 0;
}

void
listeners_hand_over(const struct listeners *l, const struct conf *conf, struct upgrade *u)
{
	for (unsigned i = 0; i < l->sets * l->per_set; i++) {
		unsigned place = i % l->per_set;

		if (i < l->per_set || spreads(conf, place))
			upgrade_add_socket(u, address_at(conf, place), spreads(conf, place), l->fd[i]);
	}
}

const int *
listeners_of(const struct listeners *l, unsigned nth)
{
	/* Closed already: a process that is started during a drain has nothing to listen on. */
	return l->sets > 0 ? l->fd + (size_t)(nth % l->sets) * l->per_set : NULL;
}

void
listeners_close(struct listeners *l)
{
	for (unsigned i = 0; i < l->sets * l->per_set; i++)
		/* One that is shared by the sets stands in the first. */
		if (l->fd[i] != -1 && (i < l->per_set || l->fd[i] != l->fd[i % l->per_set]))
			(void)close(l->fd[i]);
	free(l->fd);
	memset(l, 0, sizeof(*l));
}

void
listeners_unlink(const struct conf *conf)
{
	for (size_t i = 0; i < conf->server_listen.n; i++)
		listen_unlink(conf->server_listen.v[i]);
	for (size_t i = 0; i < conf->server_tls_listen.n; i++)
		listen_unlink(conf->server_tls_listen.v[i]);
	listen_unlink(conf->server_admin_listen);
}
