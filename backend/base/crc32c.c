/* SPDX-License-Identifier: MIT */
/* ISA-L counts, with the processor's own instruction. */
#include "base/crc32c.h"

#include <isa-l/crc.h>

#include "file.h"

enum { CRC32C_STEP = 1 << 30 };

uint32_t crc32c_add(uint32_t crc, const void *bytes, size_t n)
{
	unsigned char *at = (unsigned char *)bytes; /* ISA-L only reads */
	crc = ~crc;
	while (n > 0) {
		size_t step = n < CRC32C_STEP ? n : CRC32C_STEP;
		crc = crc32_iscsi(at, (int)step, crc);
		at += step;
		n -= step;
	}
	return ~crc;
}

static int crc32c_add_block(void *arg, const void *bytes, size_t n)
{
	uint32_t *crc = arg;
	*crc = crc32c_add(*crc, bytes, n);
	return 0;
}

int crc32c_file(int fd, int64_t at, int64_t n, uint32_t *ret)
{
	uint32_t crc = 0;
	int r = file_each_block(fd, at, n, crc32c_add_block, &crc);
	if (r == 0)
		*ret = crc;
	return r;
}
