/*
 * conf_share.c: packed settings in a memory file.
 *
 *	+---------+----------------------+----------------------+
 *	| length  | SHA-256 of the text  | text of conf_pack()  |
 *	| 8 bytes | 32 bytes             | length bytes         |
 *	+---------+----------------------+----------------------+
 *
 * One writer, the master.  A reader that comes while it writes sees a hash that does not fit, and
 * looks again.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/conf_share.h"
#include "base/digest.h"
#include "base/must.h"

#define TRIES 100
#define PAUSE_NS 1000000

struct head {
	uint64_t len;
	uint8_t sha256[SHA256_LEN];
};

int
conf_share_open(void)
{
	return memfd_create("belay settings", MFD_CLOEXEC);
}

int
conf_share_write(int fd, const struct conf *conf)
{
	struct head head = { 0, { 0 } };
	struct buf text = BUF_INIT;
	size_t done = 0;
	ssize_t n = 0;

	buf_put(&text, &head, sizeof(head));
	conf_pack(conf, &text);
	head.len = text.len - sizeof(head);
	digest_sha256(slice_bytes(text.data + sizeof(head), head.len), head.sha256);
	memcpy(text.data, &head, sizeof(head));
	for (; done < text.len && n != -1; done += (size_t)n) {
		n = pwrite(fd, text.data + done, text.len - done, (off_t)done);
		if (n == -1 && errno == EINTR)
			n = 0;
	}
	/* Of longer settings that stood there nothing is left: they held secrets, too. */
	if (n != -1)
		n = ftruncate(fd, (off_t)text.len);
	explicit_bzero(text.data, text.len);
	buf_fini(&text);
	return n == -1 ? -1 : 0;
}

/* One look: the settings or NULL. */
static struct conf *
read_once(int fd)
{
	uint8_t sha256[SHA256_LEN];
	struct conf *conf = NULL;
	struct head head;
	struct stat st;
	char *text;

	if (fstat(fd, &st) == -1 || pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    head.len > (uint64_t)st.st_size - sizeof(head))
		return NULL;
	text = must_alloc(head.len);
	if (pread(fd, text, head.len, sizeof(head)) == (ssize_t)head.len) {
		digest_sha256(slice_bytes(text, head.len), sha256);
		if (digest_equal(sha256, head.sha256, sizeof(sha256)))
			conf = conf_unpack(slice_bytes(text, head.len));
	}
	explicit_bzero(text, head.len);
	free(text);
	return conf;
}

struct conf *
conf_share_read(int fd)
{
	static const struct timespec pause = { .tv_nsec = PAUSE_NS };
	struct conf *conf;

	for (int i = 0; i < TRIES; i++) {
		if ((conf = read_once(fd)) != NULL)
			return conf;
		(void)nanosleep(&pause, NULL);
	}
	return NULL;
}
