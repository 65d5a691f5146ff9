/* SPDX-License-Identifier: MIT */
/* See readahead.h. */
#include "readahead.h"

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static bool is_in_order(const struct readahead *ahead, int64_t at)
{
	if (ahead->run == 0)
		return at == 0;
	return at >= ahead->position - READAHEAD_SKIP &&
	       at <= most(ahead->position, ahead->frontier) + READAHEAD_SKIP;
}

void readahead_note(struct readahead *ahead, int64_t at, int64_t n)
{
	if (ahead->run == 0 || !is_in_order(ahead, at))
		*ahead = (struct readahead){.position = at, .frontier = at};
	else if (at > ahead->frontier + READAHEAD_GAP)
		ahead->frontier = at;
	ahead->is_from_start |= at == 0;
	ahead->run += n;
	ahead->position = most(ahead->position, at + n);
}

static int64_t window(const struct readahead *ahead)
{
	if (!ahead->is_from_start && ahead->run < READAHEAD_TRUST)
		return 0;
	if (!ahead->is_from_start && ahead->run < READAHEAD_SURE)
		return ahead->run;
	return least(4 * ahead->run, READAHEAD_WINDOW_MAX);
}

bool readahead_is_stream(const struct readahead *ahead)
{
	return window(ahead) > 0;
}

bool readahead_next(const struct readahead *ahead, int64_t size, int64_t limit, int64_t *ret_at,
		    int64_t *ret_n)
{
	const bool is_first = ahead->is_from_start && limit >= READAHEAD_FIRST;
	int64_t ahead_bytes = least(window(ahead), limit), goal = ahead->position + ahead_bytes;
	int64_t at = ahead->frontier, n = is_first ? READAHEAD_FIRST : least(ahead_bytes, READAHEAD_FIRST);
	if (is_first)
		goal = most(goal, READAHEAD_FIRST);
	if (at >= least(goal, size))
		return false;
	n = most(most(n, ahead_bytes / 2), most(READAHEAD_UNIT, ahead->position - at));
	*ret_at = at;
	*ret_n = least(least(n, READAHEAD_RANGE_MAX), size - at);
	return true;
}

void readahead_took(struct readahead *ahead, int64_t end)
{
	ahead->frontier = most(ahead->frontier, end);
}

void readahead_lost(struct readahead *ahead, int64_t at)
{
	ahead->frontier = least(ahead->frontier, at);
}
