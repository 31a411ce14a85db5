/*
 * notify.h: tells the service manager (systemd) what the daemon is doing: sd_notify(3) without its
 * library.
 */
#ifndef BELAY_MASTER_NOTIFY_H
#define BELAY_MASTER_NOTIFY_H

#include <stdint.h>

struct notify {
	int fd;				/* a datagram socket; -1: nobody asked to be told */
	int64_t watchdog_ms;		/* how often notify_watchdog() is due; 0: never */
};

/*
 * Reads NOTIFY_SOCKET and WATCHDOG_USEC of the environment, and takes them out of it.  0, or -1
 * with errno: the socket is named but can't be had.
 */
int notify_open(struct notify *n);
/* Goes on with a socket that is open. */
void notify_take(struct notify *n, int fd, int64_t watchdog_ms);
void notify_close(struct notify *n);

/* What is not delivered is not tried again. */
void notify_ready(const struct notify *n);
void notify_reloading(const struct notify *n);	/* to be followed by notify_ready() */
void notify_stopping(const struct notify *n);
void notify_watchdog(const struct notify *n);

#endif
