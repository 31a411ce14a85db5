/*
 * The segment: made by the master before it forks, mapped by all at the same
 * address, freed by the kernel with the last process.  This file knows where the
 * parts are; what is in them is known by their own files alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/must.h"

#include "shm/segment.h"

static const struct segment_part_ops *const segment_parts[SEGMENT_PARTS] = {
	[PART_SLOTS] = &slots_part,
	[PART_MAILBOXES] = &mailbox_part,
	[PART_DIRECTORY] = &directory_part,
	[PART_PENDING] = &pending_part,
	[PART_TOPICS] = &topics_part,
	[PART_HOLDINGS] = &holdings_part,
	[PART_BUCKETS] = &buckets_part,
	[PART_STATS] = &stats_part,
	[PART_EFFECTS] = &effects_part,
};

static int
ring_size_ok(uint32_t bytes)
{
	return bytes >= SEGMENT_PAGE && bytes <= 1u << 30 && (bytes & (bytes - 1)) == 0;
}

static int
sizes_ok(const struct shm_sizes *sizes)
{
	unsigned i;

	if (sizes->slots == 0 || sizes->slots > SHM_MAX_SLOTS ||
	    !ring_size_ok(sizes->mailbox_bytes))
		return 0;
	for (i = 0; i < sizes->slots; i++) {
		if (sizes->mailbox_bytes_of[i] != 0 && !ring_size_ok(sizes->mailbox_bytes_of[i]))
			return 0;
	}
	/* Indexes of entries are 32 bits, and a chain link needs one value more. */
	return sizes->devices != 0 && sizes->devices <= 1u << 28 && sizes->commands != 0 &&
	       sizes->commands <= 1u << 28 && sizes->topics != 0 && sizes->topics <= 1u << 28 &&
	       sizes->limits != 0 && sizes->limits <= 1u << 28 && sizes->counters != 0 &&
	       sizes->counters <= 1u << 16;
}

static size_t
round_to_page(size_t n)
{
	return (n + SEGMENT_PAGE - 1) & ~(size_t)(SEGMENT_PAGE - 1);
}

static size_t
lay_out(const struct shm_sizes *sizes, struct segment_part part[SEGMENT_PARTS])
{
	size_t offset = SEGMENT_PAGE;
	int i;

	memset(part, 0, SEGMENT_PARTS * sizeof(part[0]));
	for (i = 0; i < SEGMENT_PARTS; i++) {
		strncpy(part[i].name, segment_parts[i]->name, sizeof(part[i].name) - 1);
		part[i].version = segment_parts[i]->version;
		part[i].offset = offset;
		part[i].len = round_to_page(segment_parts[i]->size(sizes));
		offset += part[i].len;
	}
	return offset;
}

static int
open_bells(struct shm *shm, unsigned slots)
{
	unsigned i;

	for (i = 0; i < slots; i++) {
		shm->bell[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (shm->bell[i] == -1)
			return -1;
	}
	return 0;
}

static int
map_segment(struct shm *shm, size_t len)
{
	shm->fd = memfd_create("belay", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (shm->fd == -1)
		return -1;
	/* Sealed: nobody who gets the descriptor can cut the file under our feet (SIGBUS). */
	if (ftruncate(shm->fd, (off_t)len) == -1 ||
	    fcntl(shm->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
		return -1;
	shm->base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, shm->fd, 0);
	if (shm->base == MAP_FAILED) {
		shm->base = NULL;
		return -1;
	}
	shm->len = len;
	return 0;
}

static void
write_head(struct segment *seg, const struct shm_sizes *sizes,
    const struct segment_part part[SEGMENT_PARTS], size_t len)
{
	memcpy(seg->magic, "belayshm", sizeof(seg->magic));
	seg->version = SEGMENT_VERSION;
	seg->parts = SEGMENT_PARTS;
	seg->len = len;
	digest_random(seg->hash_key, sizeof(seg->hash_key));
	seg->started_mono_ms = clock_mono_ms();
	shm_put(&seg->master_pid, getpid());
	seg->sizes = *sizes;
	memcpy(seg->part, part, SEGMENT_PARTS * sizeof(part[0]));
}

struct shm *
shm_create(const struct shm_sizes *sizes)
{
	struct segment_part part[SEGMENT_PARTS];
	struct shm *shm;
	int i, error;

	if (!sizes_ok(sizes)) {
		errno = EINVAL;
		return NULL;
	}
	shm = must_alloc(sizeof(*shm));
	shm->fd = -1;
	for (i = 0; i < SHM_MAX_SLOTS; i++)
		shm->bell[i] = -1;
	shm->self_slot = SHM_SLOT_MASTER;
	shm->self_generation = 1;
	shm->self = lock_owner_word(SHM_SLOT_MASTER, 1);
	if (map_segment(shm, lay_out(sizes, part)) == -1 || open_bells(shm, sizes->slots) == -1)
		goto fail;
	shm->segment = (struct segment *)shm->base;
	write_head(shm->segment, sizes, part, shm->len);
	for (i = 0; i < SEGMENT_PARTS; i++)
		segment_parts[i]->attach(shm, shm->base + part[i].offset);
	return shm;
fail:
	error = errno;
	shm_free(shm);
	errno = error;
	return NULL;
}

void
shm_free(struct shm *shm)
{
	int i;

	if (shm == NULL)
		return;
	for (i = 0; i < SHM_MAX_SLOTS; i++) {
		if (shm->bell[i] != -1)
			close(shm->bell[i]);
	}
	if (shm->base != NULL)
		munmap(shm->base, shm->len);
	if (shm->fd != -1)
		close(shm->fd);
	free(shm);
}

const struct shm_sizes *
shm_sizes(const struct shm *shm)
{
	return &shm->segment->sizes;
}

int64_t
shm_started_mono_ms(const struct shm *shm)
{
	return shm->segment->started_mono_ms;
}

const uint8_t *
shm_hash_key(const struct shm *shm)
{
	return shm->segment->hash_key;
}

void
shm_set_course(struct shm *shm, enum shm_course course)
{
	shm_put(&shm->segment->course, (uint32_t)course);
}

enum shm_course
shm_course(const struct shm *shm)
{
	return (enum shm_course)shm_get(&shm->segment->course);
}

int
shm_fd(const struct shm *shm)
{
	return shm->fd;
}
