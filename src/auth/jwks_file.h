/*
 * jwks_file.h: a JWKS document on disk, re-read when it changed.
 */
#ifndef BELAY_AUTH_JWKS_FILE_H
#define BELAY_AUTH_JWKS_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "auth/keys.h"
#include "base/buf.h"

struct jwks_file {
	char *path;			/* owned */
	int64_t cooldown_ms;		/* between two reads that were asked for */
	int64_t read_at_ms;		/* the last such read; 0: none yet */
	/* the fault was logged; said again only after a good read */
	bool failing;
	dev_t dev;			/* the file as last read */
	ino_t ino;
	off_t size;
	struct timespec mtime;
};

/* Reads at most max bytes of a regular file; -1 with a sentence in err. */
int auth_read_file(const char *path, size_t max, struct buf *out, char *err, size_t errlen);

/* Reads it for the first time.  -1 with a sentence in err. */
int jwks_file_open(struct jwks_file *file, const char *path, int64_t cooldown_ms,
    struct keys *keys, char *err, size_t errlen);
void jwks_file_close(struct jwks_file *file);

/*
 * Reads it again if it changed since, at most once per cooldown.  1: *keys was replaced; 0: nothing
 * changed. A file that cannot be used leaves *keys as it was and is logged once.
 */
int jwks_file_refresh(struct jwks_file *file, int64_t now_ms, struct keys *keys);

#endif
