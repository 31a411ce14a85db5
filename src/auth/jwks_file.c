/*
 * The JWKS document in a file of the operator's.  Runs in the process that
 * verifies tokens: stat(2) for each token with an unknown key id, a read only
 * when the file changed and the cooldown is over.  Never keeps half of a
 * document: keys are replaced whole or not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/jwks_file.h"
#include "base/log.h"
#include "base/must.h"

static void
read_file_why(char *err, size_t errlen, const char *path, const char *why)
{
	snprintf(err, errlen, "%s: %s", path, why);
}

/* As auth_read_file(), and what fstat(2) said before the read. */
static int
read_file(const char *path, size_t max, struct buf *out, struct stat *st, char *err, size_t errlen)
{
	size_t before = out->len, got = 0;
	ssize_t n = -1;
	char *p;
	int fd;

	/* O_NONBLOCK: a FIFO must not hold a server up. */
	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) < 0) {
		read_file_why(err, errlen, path, strerror(errno));
		return -1;
	}
	if (fstat(fd, st) < 0) {
		read_file_why(err, errlen, path, strerror(errno));
	} else if (!S_ISREG(st->st_mode)) {
		read_file_why(err, errlen, path, "not a regular file");
	} else if (st->st_size > (off_t)max) {
		snprintf(err, errlen, "%s: longer than %zu bytes", path, max);
	} else {
		p = buf_reserve(out, max + 1);
		while (got <= max && (n = read(fd, p + got, max + 1 - got)) > 0)
			got += (size_t)n;
		if (n < 0) {
			read_file_why(err, errlen, path, strerror(errno));
		} else if (got > max) {
			snprintf(err, errlen, "%s: longer than %zu bytes", path, max);
			n = -1;
		} else {
			out->len = before + got;
		}
	}
	close(fd);
	return n < 0 ? -1 : 0;
}

int
auth_read_file(const char *path, size_t max, struct buf *out, char *err, size_t errlen)
{
	struct stat st;

	return read_file(path, max, out, &st, err, errlen);
}

/* Reads and parses; *keys is replaced only when all went well. */
static int
jwks_file_read(struct jwks_file *file, struct keys *keys, char *err, size_t errlen)
{
	struct keys fresh = KEYS_INIT;
	struct buf text = BUF_INIT;
	char why[160];
	struct stat st;
	size_t skipped;

	memset(&st, 0, sizeof(st));
	if (read_file(file->path, KEYS_TEXT_MAX, &text, &st, err, errlen) < 0) {
		buf_fini(&text);
		return -1;
	}
	/* Remembered whatever its content is: the same bad text is not read twice. */
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	file->size = st.st_size;
	file->mtime = st.st_mtim;
	if (keys_add_jwks(&fresh, buf_slice(&text), &skipped, why, sizeof(why)) < 0) {
		read_file_why(err, errlen, file->path, why);
		buf_fini(&text);
		return -1;
	}
	buf_fini(&text);
	if (skipped > 0)
		log_warn("%s: %zu of %zu keys passed over: not for signatures, or of a kind that "
		    "is not taken", file->path, skipped, skipped + fresh.n);
	keys_fini(keys);
	*keys = fresh;
	return 0;
}

int
jwks_file_open(struct jwks_file *file, const char *path, int64_t cooldown_ms, struct keys *keys,
    char *err, size_t errlen)
{
	memset(file, 0, sizeof(*file));
	file->path = must_strndup(path, strlen(path));
	file->cooldown_ms = cooldown_ms;
	if (jwks_file_read(file, keys, err, errlen) == 0)
		return 0;
	jwks_file_close(file);
	return -1;
}

void
jwks_file_close(struct jwks_file *file)
{
	free(file->path);
	file->path = NULL;
}

static bool
jwks_file_changed(const struct jwks_file *file)
{
	struct stat st;

	return stat(file->path, &st) == 0 && (st.st_dev != file->dev || st.st_ino != file->ino ||
	    st.st_size != file->size || st.st_mtim.tv_sec != file->mtime.tv_sec ||
	    st.st_mtim.tv_nsec != file->mtime.tv_nsec);
}

int
jwks_file_refresh(struct jwks_file *file, int64_t now_ms, struct keys *keys)
{
	char err[256];

	/* A clock that was set back must not lengthen the wait. */
	if (file->read_at_ms != 0 && now_ms >= file->read_at_ms &&
	    now_ms - file->read_at_ms < file->cooldown_ms)
		return 0;
	if (!jwks_file_changed(file))
		return 0;
	file->read_at_ms = now_ms;
	if (jwks_file_read(file, keys, err, sizeof(err)) < 0) {
		if (!file->failing)
			log_error("%s; the keys read before stay in use", err);
		file->failing = true;
		return 0;
	}
	file->failing = false;
	log_info("%s: %zu keys read", file->path, keys->n);
	return 1;
}
