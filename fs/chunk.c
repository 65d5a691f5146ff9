/* SPDX-License-Identifier: MIT */
/* See chunk.h. Fresh memory is dear (the kernel clears it), so chunks are kept while anybody reads. */
#include "chunk.h"

#include "cleanup.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

struct chunk {
	/* immutable */
	struct chunks *chunks;
	char *bytes;

	atomic_uint n_refs;
	struct chunk *next; /* protected by the chunks' lock: of those that are not in use */
};

struct chunks {
	/* immutable */
	int64_t budget_bytes;

	/* atomic */
	atomic_uint n_streams;

	pthread_mutex_t lock;
	/* protected by lock */
	size_t n_reserved;
	struct chunk *unused;
	size_t n_unused;
};

int chunks_new(int64_t budget_bytes, struct chunks **ret)
{
	struct chunks *chunks = calloc(1, sizeof(*chunks));
	if (!chunks)
		return -ENOMEM;
	chunks->budget_bytes = budget_bytes;
	pthread_mutex_init(&chunks->lock, NULL);
	*ret = chunks;
	return 0;
}

static void chunk_free(struct chunk *chunk)
{
	(void)munmap(chunk->bytes, CHUNK_SIZE); /* it is a mapping of ours */
	free(chunk);
}

static void trim_locked(struct chunks *chunks, size_t n_kept)
{
	while (chunks->n_unused > n_kept) {
		struct chunk *chunk = chunks->unused;
		chunks->unused = chunk->next;
		chunks->n_unused--;
		chunk_free(chunk);
	}
}

void chunks_free(struct chunks *chunks)
{
	if (!chunks)
		return;
	trim_locked(chunks, 0);
	pthread_mutex_destroy(&chunks->lock);
	free(chunks);
}

size_t chunks_count(int64_t n_bytes)
{
	return (size_t)((n_bytes + CHUNK_SIZE - 1) / CHUNK_SIZE);
}

bool chunks_reserve(struct chunks *chunks, size_t n, bool is_needed)
{
	LOCK_SCOPE(&chunks->lock);
	if (!is_needed && (int64_t)(chunks->n_reserved + n) * CHUNK_SIZE > chunks->budget_bytes)
		return false;
	chunks->n_reserved += n;
	return true;
}

static void return_locked(struct chunks *chunks, size_t n)
{
	chunks->n_reserved -= n;
	if (chunks->n_reserved == 0)
		trim_locked(chunks, CHUNKS_KEPT_BYTES / CHUNK_SIZE);
}

void chunks_return(struct chunks *chunks, size_t n)
{
	LOCK_SCOPE(&chunks->lock);
	return_locked(chunks, n);
}

static struct chunk *take_unused(struct chunks *chunks)
{
	LOCK_SCOPE(&chunks->lock);
	struct chunk *chunk = chunks->unused;
	if (chunk) {
		chunks->unused = chunk->next;
		chunks->n_unused--;
	}
	return chunk;
}

struct chunk *chunk_new(struct chunks *chunks)
{
	struct chunk *chunk = take_unused(chunks);
	if (!chunk) {
		chunk = calloc(1, sizeof(*chunk));
		if (!chunk)
			return NULL;
		chunk->chunks = chunks;
		chunk->bytes = mmap(NULL, CHUNK_SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (chunk->bytes == MAP_FAILED) {
			free(chunk);
			return NULL;
		}
	}
	chunk->n_refs = 1;
	return chunk;
}

struct chunk *chunk_ref(struct chunk *chunk)
{
	chunk->n_refs++;
	return chunk;
}

void chunk_unref(struct chunk *chunk)
{
	if (!chunk || --chunk->n_refs > 0)
		return;
	struct chunks *chunks = chunk->chunks;
	LOCK_SCOPE(&chunks->lock);
	chunk->next = chunks->unused;
	chunks->unused = chunk;
	chunks->n_unused++;
	return_locked(chunks, 1);
}

char *chunk_bytes(struct chunk *chunk)
{
	return chunk->bytes;
}

void chunks_add_stream(struct chunks *chunks, int n)
{
	chunks->n_streams += (unsigned)n;
}

int64_t chunks_share(const struct chunks *chunks)
{
	unsigned n_streams = chunks->n_streams;
	return chunks->budget_bytes / (n_streams ? n_streams : 1);
}

struct loan *loan_new(size_t n_parts_max)
{
	struct loan *loan =
		malloc(sizeof(*loan) + n_parts_max * (sizeof(loan->part[0]) + sizeof(loan->chunk[0])));
	if (!loan)
		return NULL;
	loan->n_parts = 0;
	loan->chunk = (struct chunk **)(loan->part + n_parts_max);
	return loan;
}

void loan_add(struct loan *loan, struct chunk *chunk, size_t at, size_t n)
{
	loan->part[loan->n_parts] = (struct iovec){chunk->bytes + at, n};
	loan->chunk[loan->n_parts++] = chunk_ref(chunk);
}

void loan_free(struct loan *loan)
{
	for (size_t i = 0; loan && i < loan->n_parts; i++)
		chunk_unref(loan->chunk[i]);
	free(loan);
}
