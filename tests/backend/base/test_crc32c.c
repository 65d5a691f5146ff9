/* SPDX-License-Identifier: MIT */
/* The checksum of RFC 3720 (B.4). */
#include "base/crc32c.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

#include "scratch.h"

Test(crc32c, published_values)
{
	unsigned char bytes[32] = {0};

	cr_expect(eq(u32, crc32c_add(0, "123456789", 9), 0xe3069283));
	cr_expect(eq(u32, crc32c_add(0, bytes, sizeof(bytes)), 0x8a9136aa));
	memset(bytes, 0xff, sizeof(bytes));
	cr_expect(eq(u32, crc32c_add(0, bytes, sizeof(bytes)), 0x62a8ab43));
	for (int i = 0; i < 32; i++)
		bytes[i] = (unsigned char)i;
	cr_expect(eq(u32, crc32c_add(0, bytes, sizeof(bytes)), 0x46dd794e));
	cr_expect(eq(u32, crc32c_add(0, "", 0), 0));
}

Test(crc32c, of_a_file_that_must_have_the_bytes)
{
	int dir = scratch_open();
	uint32_t crc = 0;

	cr_assert(zero(int, file_write_atomic(dir, "f", "..123456789", 11, 0600)));
	cleanup_close int fd = openat(dir, "f", O_RDONLY | O_CLOEXEC);
	cr_expect(zero(int, crc32c_file(fd, 2, 9, &crc)));
	cr_expect(eq(u32, crc, 0xe3069283));
	cr_expect(eq(int, crc32c_file(fd, 2, 10, &crc), -EIO));
	cr_expect(eq(int, crc32c_file(-1, 0, 1, &crc), -EBADF));
	scratch_close();
}
