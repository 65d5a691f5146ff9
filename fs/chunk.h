/* SPDX-License-Identifier: MIT */
/*
 * Memory for what is read from a service: chunks of one size, used again and again, counted, so that answers are sent from
 * where the bytes arrived. All readers of a mount share one budget. Whoever fetches reserves first; the reservation of a
 * chunk ends with its last reference. From any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct chunks;
struct chunk;

enum { CHUNK_SIZE = 128 << 10, CHUNKS_KEPT_BYTES = 16 << 20 /* when nothing is reserved */ };

int chunks_new(int64_t budget_bytes, struct chunks **ret);
void chunks_free(struct chunks *chunks); /* takes NULL; no chunk is in use */

/* How many chunks n bytes fill. */
size_t chunks_count(int64_t n_bytes);
/* false: no room. is_needed: somebody waits for it, there is room. */
bool chunks_reserve(struct chunks *chunks, size_t n, bool is_needed);
/* Of what was reserved, those that were never made. */
void chunks_return(struct chunks *chunks, size_t n);

/* One of those that were reserved; NULL: no memory. */
struct chunk *chunk_new(struct chunks *chunks);
struct chunk *chunk_ref(struct chunk *chunk);
void chunk_unref(struct chunk *chunk); /* takes NULL */
char *chunk_bytes(struct chunk *chunk);

/* Somebody begins (1) or ends (-1) to read ahead: the budget is shared among them. */
void chunks_add_stream(struct chunks *chunks, int n);
int64_t chunks_share(const struct chunks *chunks);

/* Bytes of chunks, in order, each chunk referenced. */
struct loan {
	size_t n_parts;
	struct chunk **chunk;
	struct iovec part[];
};
struct loan *loan_new(size_t n_parts_max); /* empty; NULL: no memory */
void loan_add(struct loan *loan, struct chunk *chunk, size_t at, size_t n);
void loan_free(struct loan *loan); /* takes NULL */
