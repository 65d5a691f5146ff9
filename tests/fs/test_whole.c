/* SPDX-License-Identifier: MIT */
/* Objects in ranges against what their service says of them. */
#include "fs/whole.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 100000 };

static unsigned char bytes[SIZE];
static struct whole whole;

static void set_up(void)
{
	srand(4);
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (unsigned char)rand();
	whole = (struct whole){.size_bytes = SIZE};
}

static void tear_down(void)
{
	whole_release(&whole);
}

TestSuite(whole, .timeout = 60, .init = set_up, .fini = tear_down);

static struct checksum right(enum checksum_kind kind)
{
	struct checksum sum = {.kind = kind};
	(void)checksum_text(kind, checksum_add(kind, 0, bytes, SIZE), sum.text);
	return sum;
}

static void tell(enum checksum_kind kind)
{
	const struct checksum sum = right(kind);
	whole_tell(&whole, &sum);
}

/* Of [at, at + len) so many bytes come. */
static void fetch_some(int64_t at, int64_t len, int64_t have)
{
	struct piece *piece = whole_begin(&whole, at, len);
	cr_assert(piece != NULL);
	piece_count(piece, whole.told.kind, bytes + at, (size_t)have);
	whole_end(&whole, piece, have);
}

static void fetch(int64_t at, int64_t end)
{
	fetch_some(at, end - at, end - at);
}

Test(whole, is_right_in_whatever_order_its_ranges_come)
{
	for (int kind = CHECKSUM_NONE + 1; kind < CHECKSUM_CRC_MAX; kind++)
		for (int when = 0; when <= 3; when++) {
			static const int64_t cut[] = {0, 30000, 30001, SIZE};
			static const int order[] = {2, 0, 1};
			set_up();
			for (int i = 0; i < 3; i++) {
				if (i == when)
					tell((enum checksum_kind)kind);
				cr_expect(eq(int, whole.state, WHOLE_OPEN));
				fetch(cut[order[i]], cut[order[i] + 1]);
			}
			if (when == 3)
				tell((enum checksum_kind)kind);
			cr_expect(eq(int, whole.state, WHOLE_RIGHT), "%d told after %d", kind, when);
			whole_release(&whole);
		}
}

/* Ranges under way at once, each in random portions, some of which break off and are fetched again from there. */
static void at_random(void)
{
	enum { N = 20 };
	int64_t cut[N + 1] = {0}, have[N] = {0};
	struct piece *piece[N] = {0};
	for (int i = 1; i < N; i++)
		cut[i] = cut[i - 1] + 1 + rand() % (SIZE / N - 1);
	cut[N] = SIZE;
	for (int n_done = 0; n_done < N;) {
		int i = rand() % N;
		int64_t len = cut[i + 1] - cut[i], left = len - have[i], n = left ? 1 + rand() % left : 0;
		if (left == 0)
			continue;
		if (!piece[i])
			piece[i] = whole_begin(&whole, cut[i] + have[i], left);
		cr_assert(piece[i] != NULL);
		piece_count(piece[i], whole.told.kind, bytes + cut[i] + have[i], (size_t)n);
		have[i] += n;
		n_done += have[i] == len;
		if (have[i] == len || rand() % 3 == 0) {
			whole_end(&whole, piece[i], cut[i] + have[i] - piece[i]->at);
			piece[i] = NULL;
		}
	}
}

Test(whole, is_right_however_its_ranges_are_cut)
{
	for (int round = 0; round < 200; round++) {
		whole = (struct whole){.size_bytes = SIZE};
		at_random();
		cr_expect(eq(u32, whole.n_pieces, 1));
		tell((enum checksum_kind)(1 + round % (CHECKSUM_CRC_MAX - 1)));
		cr_assert(eq(int, whole.state, WHOLE_RIGHT), "%d", round);
		whole_release(&whole);
	}
}

Test(whole, one_other_bit_is_wrong)
{
	tell(CHECKSUM_CRC64NVME);
	const struct checksum told = whole.told;
	fetch(0, 1000);
	bytes[54321] ^= 4;
	fetch(1000, SIZE);
	cr_expect(eq(int, whole.state, WHOLE_WRONG));
	cr_expect(eq(str, whole.told.text, (char *)told.text));
	cr_expect(eq(str, whole.came, right(CHECKSUM_CRC64NVME).text));
}

Test(whole, is_pending_when_all_of_it_has_come_or_comes)
{
	struct piece *last = whole_begin(&whole, 50000, SIZE - 50000);
	cr_expect(not(whole_is_pending(&whole, true)), "there is a hole");
	cr_expect(not(whole_is_in_order(&whole)));
	struct piece *first = whole_begin(&whole, 0, 50000);
	cr_expect(whole_is_in_order(&whole));
	cr_expect(whole_is_pending(&whole, true));
	cr_expect(not(whole_is_pending(&whole, false)), "nothing to compare it with");
	tell(CHECKSUM_CRC32);
	cr_expect(whole_is_pending(&whole, false));
	whole_end(&whole, first, 0);
	cr_expect(not(whole_is_pending(&whole, false)), "it broke off");
	fetch(0, 50000);
	cr_expect(whole_is_pending(&whole, false));
	piece_count(last, CHECKSUM_CRC32, bytes + 50000, SIZE - 50000);
	whole_end(&whole, last, SIZE - 50000);
	cr_expect(eq(int, whole.state, WHOLE_RIGHT));
	cr_expect(not(whole_is_pending(&whole, false)));
}

Test(whole, a_byte_that_comes_twice_is_not_judged)
{
	tell(CHECKSUM_CRC32C);
	fetch(0, 50000);
	cr_expect(eq(ptr, whole_begin(&whole, 49999, 10), NULL));
	cr_expect(eq(int, whole.state, WHOLE_GIVEN_UP));
	cr_expect(eq(ptr, whole_begin(&whole, 50000, 50000), NULL));
}

Test(whole, what_is_read_here_and_there_is_not_judged)
{
	for (int i = 0; i < WHOLE_PIECES_MAX; i++)
		fetch(1000 * i + 1, 1000 * i + 500);
	cr_expect(eq(ptr, whole_begin(&whole, 99000, 10), NULL));
	cr_expect(eq(int, whole.state, WHOLE_GIVEN_UP));
}

Test(whole, one_range_may_be_all)
{
	struct piece *piece = whole_begin(&whole, 0, SIZE);
	tell(CHECKSUM_CRC32C);
	cr_expect(whole_is_pending(&whole, false));
	bytes[7] ^= 1;
	piece_count(piece, CHECKSUM_CRC32C, bytes, SIZE);
	whole_end(&whole, piece, SIZE);
	cr_expect(eq(int, whole.state, WHOLE_WRONG));
}

Test(whole, sums_that_cannot_be_joined_or_differ_are_not_judged)
{
	const struct checksum sha256 = {.kind = CHECKSUM_SHA256, .text = "x"}, none = {0};
	whole_tell(&whole, &none);
	cr_expect(eq(int, whole.state, WHOLE_OPEN));
	whole_tell(&whole, &sha256);
	cr_expect(eq(int, whole.state, WHOLE_GIVEN_UP));
	whole.state = WHOLE_OPEN;
	tell(CHECKSUM_CRC32C);
	tell(CHECKSUM_CRC32C);
	cr_expect(eq(int, whole.state, WHOLE_OPEN));
	tell(CHECKSUM_CRC32);
	cr_expect(eq(int, whole.state, WHOLE_GIVEN_UP));
}
