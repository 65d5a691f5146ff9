/* SPDX-License-Identifier: MIT */
/* What of an object is here, and the memory that it takes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "fs/ranges.h"

enum { BUDGET = 8 * CHUNK_SIZE };

static struct ranges ranges;

static void set_up(void)
{
	ranges = (struct ranges){0};
	cr_assert_eq(chunks_new(BUDGET, &ranges.chunks), 0);
}

/* Nothing is left reserved: all of the budget is to be had. */
static void tear_down(void)
{
	ranges_clear(&ranges);
	cr_expect(chunks_reserve(ranges.chunks, BUDGET / CHUNK_SIZE, false));
	chunks_return(ranges.chunks, BUDGET / CHUNK_SIZE);
	chunks_free(ranges.chunks);
}

TestSuite(ranges, .timeout = 60, .init = set_up, .fini = tear_down);

static char pattern(int64_t at)
{
	return (char)(at * 7 + at / 4099);
}

static struct range *add(int64_t at, int64_t len)
{
	struct range *range;
	cr_assert_eq(ranges_add(&ranges, at, len, false, &range), 0);
	return range;
}

static void fill(struct range *range, int64_t n)
{
	char *bytes = malloc((size_t)n);
	for (int64_t i = 0; i < n; i++)
		bytes[i] = pattern(range->at + range->have + i);
	cr_assert_eq(range_fill(&ranges, range, bytes, (size_t)n), 0);
	range->have += n;
	free(bytes);
}

static void expect_bytes(const struct loan *loan, int64_t at, int64_t n)
{
	for (size_t i = 0; i < loan->n_parts; i++)
		for (size_t j = 0; j < loan->part[i].iov_len; j++, at++, n--)
			cr_assert_eq(((const char *)loan->part[i].iov_base)[j], pattern(at));
	cr_expect_eq(n, 0);
}

Test(ranges, what_has_come_is_there_and_no_more)
{
	struct range *range = add(1000, 3 * CHUNK_SIZE);
	cr_expect_eq(ranges_covered(&ranges, 1000, 10), 0);
	fill(range, CHUNK_SIZE + 10);
	fill(range, 90);
	cr_expect_eq(ranges_covered(&ranges, 1000, INT64_MAX), CHUNK_SIZE + 100);
	cr_expect_eq(ranges_covered(&ranges, 999, 10), 0);
	cr_expect(ranges_at(&ranges, 1000 + 3 * CHUNK_SIZE - 1) == range);
	cr_expect_null(ranges_at(&ranges, 1000 + 3 * CHUNK_SIZE));
}

Test(ranges, a_loan_spans_ranges_and_outlives_them)
{
	struct loan *loan;
	fill(add(0, CHUNK_SIZE + 5), CHUNK_SIZE + 5);
	fill(add(CHUNK_SIZE + 5, CHUNK_SIZE), CHUNK_SIZE);
	cr_assert_eq(ranges_lend(&ranges, 100, 2 * CHUNK_SIZE - 100, &loan), 0);
	ranges_clear(&ranges);
	expect_bytes(loan, 100, 2 * CHUNK_SIZE - 100);
	cr_expect_not(chunks_reserve(ranges.chunks, BUDGET / CHUNK_SIZE, false));
	loan_free(loan);
}

Test(ranges, what_was_read_is_let_go_chunk_by_chunk)
{
	struct range *range = add(0, 4 * CHUNK_SIZE);
	struct loan *loan;
	fill(range, 3 * CHUNK_SIZE + 1);
	cr_assert_eq(ranges_lend(&ranges, 0, 2 * CHUNK_SIZE, &loan), 0);
	loan_free(loan);
	range_forget(range, 2 * CHUNK_SIZE + 5, 0);
	cr_expect_eq(range->n_gone, 2);
	cr_expect_eq(ranges_covered(&ranges, 0, 1), 0);
	cr_expect_eq(ranges_covered(&ranges, 2 * CHUNK_SIZE, INT64_MAX), CHUNK_SIZE + 1);
	range_forget(range, INT64_MAX, INT64_MAX); /* not what is still to be filled */
	cr_expect_eq(range->n_gone, 3);
	cr_expect(chunks_reserve(ranges.chunks, 7, false));
	chunks_return(ranges.chunks, 7);
}

Test(ranges, what_was_not_read_stays_longer)
{
	struct range *range = add(0, 3 * CHUNK_SIZE);
	struct loan *loan;
	fill(range, 3 * CHUNK_SIZE);
	cr_assert_eq(ranges_lend(&ranges, 0, CHUNK_SIZE + 1, &loan), 0);
	loan_free(loan);
	range_forget(range, 2 * CHUNK_SIZE, 0);
	cr_expect_eq(range->n_gone, 1);
	range_forget(range, 2 * CHUNK_SIZE, 2 * CHUNK_SIZE);
	cr_expect_eq(range->n_gone, 2);
}

Test(ranges, one_that_breaks_off_keeps_what_it_brought)
{
	struct range *range = add(0, 8 * CHUNK_SIZE);
	fill(range, CHUNK_SIZE + 1);
	ranges_cut(&ranges, range);
	cr_expect_eq(ranges_covered(&ranges, 0, INT64_MAX), CHUNK_SIZE + 1);
	cr_expect_null(ranges_at(&ranges, CHUNK_SIZE + 1));
	cr_expect(chunks_reserve(ranges.chunks, 6, false));
	chunks_return(ranges.chunks, 6);
}

Test(ranges, what_nobody_waits_for_stays_within_the_budget)
{
	struct range *range;
	(void)add(0, 7 * CHUNK_SIZE);
	cr_expect_eq(ranges_add(&ranges, 7 * CHUNK_SIZE, CHUNK_SIZE + 1, false, &range), -EAGAIN);
	cr_expect_eq(ranges_add(&ranges, 7 * CHUNK_SIZE, CHUNK_SIZE + 1, true, &range), 0);
}

Test(ranges, gaps_end_where_the_next_one_begins)
{
	(void)add(5000, 100);
	(void)add(9000, 100);
	cr_expect_eq(ranges_gap_end(&ranges, 0, 20000), 5000);
	cr_expect_eq(ranges_gap_end(&ranges, 5100, 20000), 9000);
	cr_expect_eq(ranges_gap_end(&ranges, 5100, 8000), 8000);
	cr_expect_eq(ranges_gap_end(&ranges, 9100, 20000), 20000);
}

Test(ranges, streams_share_the_budget)
{
	cr_expect_eq(chunks_share(ranges.chunks), BUDGET);
	chunks_add_stream(ranges.chunks, 1);
	cr_expect_eq(chunks_share(ranges.chunks), BUDGET);
	chunks_add_stream(ranges.chunks, 1);
	cr_expect_eq(chunks_share(ranges.chunks), BUDGET / 2);
	chunks_add_stream(ranges.chunks, -1);
	cr_expect_eq(chunks_share(ranges.chunks), BUDGET);
}
