/*
 * log.h: one line per fact, to standard error, a file, syslog or as JSON.
 *
 * No secret is ever passed to these functions: no token, key, password, or
 * part of one.  Text that came from a peer is escaped (control bytes as \xNN).
 * Lines are written with one write(2) and are bounded (1,024 bytes).  Nobody waits for whoever reads
 * them, or for room on a disk: 64 KB of lines wait in the process meanwhile, and what finds no room
 * there is lost, counted, and told by its number as soon as there is.
 */
#ifndef BELAY_BASE_LOG_H
#define BELAY_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/*
 * target: "stderr", "syslog", "json" (JSON lines on standard error), or an absolute path.  -1 with
 * errno.
 */
int log_open(const char *target, enum log_level level);
void log_set_level(enum log_level level);
int log_reopen(void);			/* after USR1; a file is opened again */
/*
 * Master, as root: the log's file belongs to that user, so that workers may open it again.  0, or
 * -1 with errno.
 */
int log_give(unsigned uid, unsigned gid);
void log_set_name(const char *name);	/* "gateway 1": precedes each line */
extern enum log_level log_threshold;

/* One line; the text ends without a line break.  Use the macros below, which say the level. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* From time to time: writes what waits and can be written now. */
void log_flush(void);
/* Before the process ends: lines that wait may take so many milliseconds to be written. */
void log_finish(int patience_ms);
/* How many lines of this process were lost since the last call. */
unsigned long log_take_lost(void);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  do { if (log_threshold >= LOG_LEVEL_INFO) log_write(LOG_LEVEL_INFO, __VA_ARGS__); } while (0)
#define log_debug(...) do { if (log_threshold >= LOG_LEVEL_DEBUG) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__); } while (0)

#endif
