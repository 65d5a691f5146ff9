/* SPDX-License-Identifier: MIT */
/*
 * How far ahead of one reader to fetch: arithmetic on offsets, without a clock, a lock or memory of its own.
 *
 * From the beginning of a file FIRST is fetched, and as far ahead as four times what was read, up to WINDOW_MAX. After
 * a jump only what is asked for; once TRUST was read in order from there, as much again; once SURE was, as from the
 * beginning. What is fetched is cut into ranges that grow with it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	READAHEAD_UNIT = 128 << 10, /* the least that is fetched */
	READAHEAD_FIRST = (1 << 20) + READAHEAD_UNIT,
	READAHEAD_TRUST = 512 << 10,
	READAHEAD_SURE = 4 << 20,
	READAHEAD_RANGE_MAX = 8 << 20,
	READAHEAD_WINDOW_MAX = 96 << 20,
	/* The kernel asks in any order, for as much as it reads ahead: */
	READAHEAD_GAP = 4 << 20,   /* what was left out is fetched all the same, */
	READAHEAD_SKIP = 16 << 20, /* a jump of less, in either direction, is none, */
	READAHEAD_BEHIND = 1 << 20 /* and what was not read yet stays for as long; what was, for this */
};

/* Zeroed: nothing was read yet. */
struct readahead {
	int64_t position; /* the end of the farthest read in order */
	int64_t frontier; /* the end of what was fetched in order */
	int64_t run;      /* bytes read in order since the last jump */
	bool is_from_start;
};

/* Once for each read, n > 0. */
void readahead_note(struct readahead *ahead, int64_t at, int64_t n);

/* Does it read in order? */
bool readahead_is_stream(const struct readahead *ahead);

/*
 * The next range to fetch of a file of `size` bytes, at most `limit` bytes ahead of the position; false: nothing for now.
 * What was read last comes first, whatever the limit.
 */
bool readahead_next(const struct readahead *ahead, int64_t size, int64_t limit, int64_t *ret_at,
		    int64_t *ret_n);

/* What lies before `end` is there, or on its way. */
void readahead_took(struct readahead *ahead, int64_t end);

/* What lies behind `at` will not come. */
void readahead_lost(struct readahead *ahead, int64_t at);
