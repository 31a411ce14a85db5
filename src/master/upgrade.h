/*
 * upgrade.h: puts another binary in the place of this one, in the same process, while the listening
 * sockets stay open.
 *
 * The master runs three steps: a trial, in which the binary that is now at this one's path reads the settings
 * (belayd -t); a drain as at a stop, but for the listeners; and execve(2).  What the next binary needs to know is
 * in a memory file whose number is in the environment.
 */
#ifndef BELAY_MASTER_UPGRADE_H
#define BELAY_MASTER_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A listening socket that was handed over; whoever takes it sets fd to -1. */
struct upgrade_socket {
	char *address;			/* as in the settings; owned */
	bool spread;			/* SO_REUSEPORT */
	int fd;
};

/* What one binary leaves to the next. */
struct upgrade {
	bool given;			/* there was one before this one */
	char *pidfile;			/* its path, owned; may be NULL */
	int pidfile_fd, notify_fd;	/* -1: none */
	int64_t watchdog_ms;
	struct upgrade_socket *sockets;	/* owned */
	size_t sockets_n;
};

/* At the very beginning of the program: keeps how it was started.  argv must stay. */
void upgrade_remember(char **argv);

/*
 * Takes what was handed over, if anything was, out of the environment, and makes it close-on-exec.
 */
void upgrade_receive(struct upgrade *u);
/* Of a socket with this address: the descriptor, which is the caller's now, or -1. */
int upgrade_take_socket(struct upgrade *u, const char *address, bool spread);
void upgrade_add_socket(struct upgrade *u, const char *address, bool spread, int fd);
/* Closes what nobody took; its files go too, the PID file's and those of unix sockets.  given stays. */
void upgrade_fini(struct upgrade *u);

/*
 * Starts the trial.  Its process id, with *report_fd, from which what it said can be read when it
 * ended with a status other than 0; -1 with errno.
 */
pid_t upgrade_try(int *report_fd);

/*
 * Becomes the other binary, with what is in u (all of it stays u's).  If that one is not to be had, this one anew.
 * Returns only when neither can be: -1 with errno.
 */
int upgrade_exec(const struct upgrade *u);

#endif
