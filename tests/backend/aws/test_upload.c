/* SPDX-License-Identifier: MIT */
/* The plan of an upload in parts, which holds however much comes. */
#include "aws/aws.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#define MIB INT64_C(1048576)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

static unsigned n_parts(int64_t n, int64_t least)
{
	unsigned i = 0;

	while (aws_part_at(i, least) < n)
		i++;
	return i;
}

/* S3: 10,000 parts of 5 MiB to 5 GiB, 5 TiB in all. */
static void check(int64_t least)
{
	cr_expect(zero(i64, aws_part_at(0, least)));
	for (unsigned i = 0; i < AWS_PARTS_MAX; i++) {
		int64_t size = aws_part_at(i + 1, least) - aws_part_at(i, least);
		cr_assert(ge(i64, size, 5 * MIB), "part %u", i);
		if (aws_part_at(i, least) < 5 * TIB)
			cr_assert(le(i64, size, 5 * GIB), "part %u", i);
	}
	cr_expect(ge(i64, aws_part_at(AWS_PARTS_MAX, least), 5 * TIB));
}

Test(aws_upload, parts_hold_all_that_s3_takes)
{
	check(AWS_PART_MIN);
	check(512 * MIB); /* of copies */
}

Test(aws_upload, parts_begin_small_and_grow)
{
	cr_expect(eq(i64, aws_part_at(1, 8 * MIB), 8 * MIB));
	cr_expect(eq(i64, aws_part_at(1000, 8 * MIB), 8000 * MIB));
	cr_expect(eq(i64, aws_part_at(1001, 8 * MIB), 8016 * MIB));
	cr_expect(eq(uint, n_parts(20 * MIB, 8 * MIB), 3));
	cr_expect(eq(uint, n_parts(6 * GIB, 8 * MIB), 768));
	cr_expect(eq(uint, n_parts(100 * GIB, 8 * MIB), 3725));
	cr_expect(lt(uint, n_parts(5 * TIB, 8 * MIB), AWS_PARTS_MAX));
}
