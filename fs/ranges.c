/* SPDX-License-Identifier: MIT */
/* See ranges.h. There are few of them: a list will do. */
#include "ranges.h"

#include "cleanup.h"

#include <errno.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int ranges_add(struct ranges *ranges, int64_t at, int64_t len, bool is_needed, struct range **ret)
{
	size_t n = chunks_count(len);
	if (!chunks_reserve(ranges->chunks, n, is_needed))
		return -EAGAIN;
	struct range *range = calloc(1, sizeof(*range) + n * sizeof(range->slot[0]));
	if (!range) {
		chunks_return(ranges->chunks, n);
		return -ENOMEM;
	}
	range->at = at;
	range->len = len;
	range->n_chunks = n;
	range->next = ranges->first;
	*ret = ranges->first = range;
	return 0;
}

void ranges_cut(struct ranges *ranges, struct range *range)
{
	size_t n = chunks_count(range->have), n_unmade = 0;
	for (size_t i = n; i < range->n_chunks; i++) {
		n_unmade += !range->slot[i].chunk;
		chunk_unref(STEAL(range->slot[i].chunk));
	}
	chunks_return(ranges->chunks, n_unmade);
	range->n_chunks = n;
	range->len = range->have;
	range->is_done = true;
}

void range_forget(struct range *range, int64_t at, int64_t unread_at)
{
	while (range->n_gone < range->n_chunks) {
		int64_t begin = (int64_t)range->n_gone * CHUNK_SIZE,
			end = least(begin + CHUNK_SIZE, range->len);
		bool is_read = range->slot[range->n_gone].n_lent >= end - begin;
		if (end > range->have || range->at + end > (is_read ? at : unread_at))
			return;
		chunk_unref(STEAL(range->slot[range->n_gone].chunk));
		range->n_gone++;
	}
}

void ranges_remove(struct ranges *ranges, struct range *range)
{
	struct range **at = &ranges->first;
	while (*at != range)
		at = &(*at)->next;
	*at = range->next;
	ranges_cut(ranges, range);
	for (size_t i = range->n_gone; i < range->n_chunks; i++)
		chunk_unref(range->slot[i].chunk);
	free(range);
}

void ranges_clear(struct ranges *ranges)
{
	while (ranges->first)
		ranges_remove(ranges, ranges->first);
}

int range_fill(const struct ranges *ranges, struct range *range, const void *bytes, size_t n)
{
	const char *from = bytes;
	for (int64_t at = range->have; n > 0;) {
		struct chunk **chunk = &range->slot[at / CHUNK_SIZE].chunk;
		size_t in_chunk = (size_t)(at % CHUNK_SIZE), part = CHUNK_SIZE - in_chunk;
		if (part > n)
			part = n;
		if (!*chunk && !(*chunk = chunk_new(ranges->chunks)))
			return -ENOMEM;
		memcpy(chunk_bytes(*chunk) + in_chunk, from, part);
		from += part;
		at += (int64_t)part;
		n -= part;
	}
	return 0;
}

struct range *ranges_at(const struct ranges *ranges, int64_t at)
{
	for (struct range *range = ranges->first; range; range = range->next)
		if (!range->is_unwanted && range->at + (int64_t)range->n_gone * CHUNK_SIZE <= at &&
		    at < range->at + range->len)
			return range;
	return NULL;
}

int64_t ranges_gap_end(const struct ranges *ranges, int64_t at, int64_t end)
{
	for (const struct range *range = ranges->first; range; range = range->next)
		if (!range->is_unwanted && range->at > at && range->at < end)
			end = range->at;
	return end;
}

/* What there is of the chunk that has the byte at `at`, at most n bytes, goes to `loan` (NULL: nowhere); 0: nothing. */
static int64_t take_piece(const struct ranges *ranges, int64_t at, int64_t n, struct loan *loan)
{
	struct range *range = ranges_at(ranges, at);
	int64_t skip = range ? at - range->at : 0, in_chunk = skip % CHUNK_SIZE;
	if (!range || skip >= range->have)
		return 0;
	n = least(least(n, range->have - skip), CHUNK_SIZE - in_chunk);
	if (loan) {
		loan_add(loan, range->slot[skip / CHUNK_SIZE].chunk, (size_t)in_chunk, (size_t)n);
		range->slot[skip / CHUNK_SIZE].n_lent += n;
	}
	return n;
}

/* Those from `at` on without a gap. */
static int64_t walk(const struct ranges *ranges, int64_t at, int64_t n, struct loan *loan,
		    size_t *ret_n_pieces)
{
	int64_t done = 0, part;
	for (*ret_n_pieces = 0; done < n; ++*ret_n_pieces, done += part) {
		part = take_piece(ranges, at + done, n - done, loan);
		if (part == 0)
			break;
	}
	return done;
}

int64_t ranges_covered(const struct ranges *ranges, int64_t at, int64_t n)
{
	size_t n_pieces;
	return walk(ranges, at, n, NULL, &n_pieces);
}

int ranges_lend(struct ranges *ranges, int64_t at, int64_t n, struct loan **ret)
{
	size_t n_pieces;
	(void)walk(ranges, at, n, NULL, &n_pieces); /* counts */
	struct loan *loan = loan_new(n_pieces);
	if (!loan)
		return -ENOMEM;
	(void)walk(ranges, at, n, loan, &n_pieces); /* all n of them, as the caller knows */
	*ret = loan;
	return 0;
}
