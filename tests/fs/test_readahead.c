/* SPDX-License-Identifier: MIT */
/* How far ahead a reader's bytes are fetched. */
#include <criterion/criterion.h>

#include "fs/readahead.h"

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define ANY INT64_MAX

/* Everything that a read makes us fetch; calls in *ret_n. */
static int64_t read_at(struct readahead *ahead, int64_t at, int64_t n, int64_t size, int64_t limit,
		       unsigned *ret_n)
{
	int64_t sum = 0, from, len;
	*ret_n = 0;
	readahead_note(ahead, at, n);
	while (readahead_next(ahead, size, limit, &from, &len)) {
		cr_assert(from == ahead->frontier && len > 0 && len <= READAHEAD_RANGE_MAX);
		cr_assert(from + len <= size);
		readahead_took(ahead, from + len);
		sum += len;
		++*ret_n;
	}
	return sum;
}

Test(readahead, first_read_from_the_beginning_fetches_one_small_range)
{
	struct readahead ahead = {0};
	unsigned n;
	cr_expect_eq(read_at(&ahead, 0, 16 * KIB, GIB, ANY, &n), READAHEAD_FIRST);
	cr_expect_eq(n, 1);
	cr_expect_eq(read_at(&ahead, 16 * KIB, 16 * KIB, GIB, ANY, &n), 0);
}

Test(readahead, whole_files_are_fetched_once)
{
	static const int64_t size[] = {
		1, 4096, 128 * KIB, READAHEAD_FIRST, READAHEAD_FIRST + 1, 100 * MIB + 7};
	for (size_t i = 0; i < sizeof(size) / sizeof(*size); i++) {
		struct readahead ahead = {0};
		unsigned n, n_all = 0;
		int64_t sum = 0;
		for (int64_t at = 0; at < size[i]; at += 128 * KIB, n_all += n)
			sum += read_at(&ahead, at, at + 128 * KIB < size[i] ? 128 * KIB : size[i] - at,
				       size[i], ANY, &n);
		cr_expect_eq(sum, size[i]);
		cr_expect(n_all <= 12 + (unsigned)(size[i] / READAHEAD_RANGE_MAX), "%u", n_all);
	}
}

Test(readahead, window_grows_to_its_most_and_not_beyond)
{
	struct readahead ahead = {0};
	unsigned n;
	for (int64_t at = 0; at < GIB / 2; at += MIB) {
		(void)read_at(&ahead, at, MIB, GIB, ANY, &n);
		int64_t reach = ahead.frontier - ahead.position;
		cr_expect(reach < READAHEAD_WINDOW_MAX + READAHEAD_RANGE_MAX);
		if (at >= 24 * MIB)
			cr_expect(reach >= READAHEAD_WINDOW_MAX);
	}
}

Test(readahead, random_reads_fetch_what_they_ask_for)
{
	struct readahead ahead = {0};
	unsigned n;
	for (int64_t i = 1; i < 500; i++) {
		int64_t at = i * 617 % 1021 * MIB;
		cr_expect_eq(read_at(&ahead, at, 128 * KIB, GIB, ANY, &n), 128 * KIB);
		cr_expect(n == 1 && !readahead_is_stream(&ahead));
	}
}

Test(readahead, small_random_reads_fetch_one_unit)
{
	struct readahead ahead = {0};
	unsigned n;
	cr_expect_eq(read_at(&ahead, 100 * MIB, 4 * KIB, GIB, ANY, &n), READAHEAD_UNIT);
	cr_expect_eq(read_at(&ahead, 100 * MIB + 4 * KIB, 4 * KIB, GIB, ANY, &n), 0);
	cr_expect_eq(read_at(&ahead, 600 * MIB, 4 * KIB, GIB, ANY, &n), READAHEAD_UNIT);
}

/* What the kernel makes of a read that is not aligned: a few requests in order. */
Test(readahead, a_short_run_after_a_jump_is_no_stream)
{
	struct readahead ahead = {0};
	unsigned n;
	int64_t sum = 0;
	for (int64_t at = 500 * MIB; at < 500 * MIB + 384 * KIB; at += 128 * KIB)
		sum += read_at(&ahead, at, 128 * KIB, GIB, ANY, &n);
	cr_expect_eq(sum, 384 * KIB);
}

Test(readahead, order_after_a_jump_is_trusted_step_by_step)
{
	struct readahead ahead = {0};
	unsigned n;
	for (int64_t at = 500 * MIB; at < 501 * MIB; at += 128 * KIB)
		(void)read_at(&ahead, at, 128 * KIB, GIB, ANY, &n);
	int64_t reach = ahead.frontier - ahead.position;
	cr_expect(readahead_is_stream(&ahead) && reach >= MIB && reach <= 3 * MIB, "%lld", (long long)reach);
	for (int64_t at = 501 * MIB; at < 530 * MIB; at += 128 * KIB)
		(void)read_at(&ahead, at, 128 * KIB, GIB, ANY, &n);
	cr_expect(ahead.frontier - ahead.position >= READAHEAD_WINDOW_MAX);
}

Test(readahead, a_jump_ends_the_stream)
{
	struct readahead ahead = {0};
	unsigned n;
	for (int64_t at = 0; at < 30 * MIB; at += MIB)
		(void)read_at(&ahead, at, MIB, GIB, ANY, &n);
	cr_expect_eq(read_at(&ahead, 900 * MIB, 128 * KIB, GIB, ANY, &n), 128 * KIB);
	cr_expect(!readahead_is_stream(&ahead));
}

Test(readahead, requests_that_overtake_each_other_are_in_order)
{
	static const int64_t order[] = {0, 2, 1, 4, 3, 6, 7, 5};
	struct readahead ahead = {0};
	unsigned n;
	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
		(void)read_at(&ahead, order[i] * 128 * KIB, 128 * KIB, GIB, ANY, &n);
	cr_expect_eq(ahead.position, MIB);
	cr_expect_eq(ahead.run, MIB);
}

Test(readahead, the_beginning_may_come_second)
{
	struct readahead ahead = {0};
	unsigned n;
	(void)read_at(&ahead, MIB, MIB, GIB, ANY, &n);
	cr_expect(!ahead.is_from_start);
	cr_expect(read_at(&ahead, 0, MIB, GIB, ANY, &n) >= 8 * MIB && ahead.is_from_start);
}

Test(readahead, the_kernel_may_ask_far_ahead_and_come_back)
{
	struct readahead ahead = {0};
	unsigned n, n_all = 0;
	int64_t sum = 0;
	(void)read_at(&ahead, 0, 128 * KIB, GIB, ANY, &n);
	sum = ahead.frontier;
	for (int64_t at = 0; at < GIB; at += 4 * MIB) /* of each 4 MiB the last first */
		for (int64_t back = 3; back >= 0; back--, n_all += n)
			sum += read_at(&ahead, at + back * MIB, MIB, GIB, ANY, &n);
	cr_expect_eq(ahead.run, GIB + 128 * KIB);
	cr_expect(sum == GIB && n_all < 150, "%lld %u", (long long)sum, n_all);
}

Test(readahead, a_small_share_of_memory_is_kept_to)
{
	struct readahead ahead = {0};
	unsigned n;
	for (int64_t at = 0; at < 64 * MIB; at += MIB) {
		(void)read_at(&ahead, at, MIB, GIB, 4 * MIB, &n);
		cr_expect(ahead.frontier - ahead.position < 4 * MIB + READAHEAD_FIRST);
	}
	ahead = (struct readahead){0};
	for (int64_t at = 0; at < 64 * MIB; at += 128 * KIB)
		cr_expect(read_at(&ahead, at, 128 * KIB, GIB, 0, &n) <= 128 * KIB);
	cr_expect_eq(ahead.position, 64 * MIB);
}

Test(readahead, what_was_lost_is_fetched_again)
{
	struct readahead ahead = {0};
	int64_t at, len;
	unsigned n;
	for (int64_t i = 0; i < 10; i++)
		(void)read_at(&ahead, i * MIB, MIB, GIB, ANY, &n);
	readahead_lost(&ahead, 20 * MIB);
	cr_expect(readahead_next(&ahead, GIB, ANY, &at, &len) && at == 20 * MIB);
}
