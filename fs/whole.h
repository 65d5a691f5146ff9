/* SPDX-License-Identifier: MIT */
/*
 * Is an object that is read in ranges what its service says? The CRC of each range is counted as it arrives, and joined
 * with its neighbours', in whatever order they come. As long as it is not known which CRC the service keeps, all are
 * counted. Only a reading of every byte, each once, can be judged; what is not is given up.
 * The owner's lock is held, except for piece_count.
 */
#pragma once

#include "checksum.h"

#include <stdbool.h>

enum { WHOLE_PIECES_MAX = 64 }; /* what is in more is not read in order */

/* What comes, or has come, without a gap. */
struct piece {
	struct piece *next;
	int64_t at, len;
	bool is_done;
	uint64_t crc[CHECKSUM_CRC_MAX]; /* its fetcher's until it is done */
};

enum whole_state { WHOLE_OPEN, WHOLE_RIGHT, WHOLE_WRONG, WHOLE_GIVEN_UP };

/* Zeroed but for the size: nothing came yet. */
struct whole {
	int64_t size_bytes;
	enum whole_state state;
	struct checksum told;
	char came[CHECKSUM_TEXT_MAX]; /* when it is right or wrong */
	struct piece *first;          /* in order */
	unsigned n_pieces;
};

/*
 * [at, at + len) will be fetched. NULL: it need not be counted. Borrowed until whole_end, or for as long as the state is
 * WHOLE_OPEN.
 */
struct piece *whole_begin(struct whole *whole, int64_t at, int64_t len);
/* The next bytes of it. kind: the one to count if that is known, else CHECKSUM_NONE. */
void piece_count(struct piece *piece, enum checksum_kind kind, const void *bytes, size_t n);
/* No more comes than these. */
void whole_end(struct whole *whole, struct piece *piece, int64_t have);

/* What the service says of the whole; CHECKSUM_NONE: nothing new. */
void whole_tell(struct whole *whole, const struct checksum *told);
void whole_give_up(struct whole *whole);

/* Is it fetched from its beginning on, beyond the first range? */
bool whole_is_in_order(const struct whole *whole);
/* Has every byte come, or is on its way, and will it be judged then? is_awaited: the service has yet to tell. */
bool whole_is_pending(const struct whole *whole, bool is_awaited);

void whole_release(struct whole *whole);
