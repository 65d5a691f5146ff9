/* SPDX-License-Identifier: MIT */
/*
 * What of an object is here: ranges, each of which fills from its beginning on, in chunks that are let go one by one.
 * The owner's lock is held, except for range_fill.
 */
#pragma once

#include "chunk.h"

struct range {
	/* immutable but for ranges_cut */
	int64_t at, len;
	/* the owner's lock */
	struct range *next;
	int64_t have;
	size_t n_gone; /* chunks at its beginning that were let go */
	bool is_done;  /* nothing more comes */
	bool is_unwanted;
	int64_t progress_ms; /* when it began, or had brought enough more */
	int64_t progress_at; /* how much it had then */
	size_t n_chunks;
	struct {
		struct chunk *chunk; /* NULL: not made yet, or gone */
		int64_t n_lent;
	} slot[];
};

struct ranges {
	struct chunks *chunks;
	struct range *first;
};

/* Reserves its memory. -EAGAIN: there is no room for what nobody waits for. -ENOMEM. */
int ranges_add(struct ranges *ranges, int64_t at, int64_t len, bool is_needed, struct range **ret);
void ranges_remove(struct ranges *ranges, struct range *range);
void ranges_clear(struct ranges *ranges);

/* Bytes that follow what there is, at most what is missing of it; `have` is raised by the caller. Not under the lock. */
int range_fill(const struct ranges *ranges, struct range *range, const void *bytes, size_t n);
/* No more will come: it ends where its bytes end. */
void ranges_cut(struct ranges *ranges, struct range *range);
/* Its chunks before `at` go, of those that were not lent yet only what lies before `unread_at`. */
void range_forget(struct range *range, int64_t at, int64_t unread_at);

/* The one that has, or will have, the byte at `at`; NULL. */
struct range *ranges_at(const struct ranges *ranges, int64_t at);
/* Where the first one behind `at` begins; `end` if there is none before. */
int64_t ranges_gap_end(const struct ranges *ranges, int64_t at, int64_t end);
/* How many bytes there are from `at` on without a gap, at most n. */
int64_t ranges_covered(const struct ranges *ranges, int64_t at, int64_t n);
/* All n bytes at `at` are covered. -ENOMEM. */
int ranges_lend(struct ranges *ranges, int64_t at, int64_t n, struct loan **ret);
