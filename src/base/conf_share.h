/*
 * conf_share.h: the settings in force, where the processes of one belayd find them.
 *
 * The master writes them into a memory file that its children inherit, and writes them anew at a
 * reload; a worker reads them when it is told to.  They hold secrets: no other process has the
 * file.
 */
#ifndef BELAY_BASE_CONF_SHARE_H
#define BELAY_BASE_CONF_SHARE_H

struct conf;

int conf_share_open(void);		/* the memory file, close-on-exec; -1 with errno */
/* Master: replaces what is there.  0, or -1 with errno. */
int conf_share_write(int fd, const struct conf *conf);
/*
 * The settings, owned by the caller (conf_free()).  NULL when there are none, or when the master
 * died while it wrote them.  Waits up to 100 ms for a write that is under way.
 */
struct conf *conf_share_read(int fd);

#endif
