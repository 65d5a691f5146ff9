/* SPDX-License-Identifier: MIT */
/* ISA-L counts (with the processor's own instruction); joining two sums is arithmetic modulo the polynomial. */
#include "base/crc32c.h"

#include <isa-l/crc.h>

#include "file.h"

enum { CRC32C_STEP = 1 << 30 };

#define CRC32C_POLYNOMIAL UINT32_C(0x82F63B78) /* bits reflected: x^31 is bit 0 */
#define CRC32C_X8         UINT32_C(0x00800000) /* x^8: one byte further on */

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

/* a * b modulo the polynomial. */
static uint32_t crc32c_multiply(uint32_t a, uint32_t b)
{
	uint32_t product = 0;
	for (uint32_t bit = UINT32_C(1) << 31; bit; bit >>= 1) {
		if (a & bit)
			product ^= b;
		b = (b >> 1) ^ (b & 1 ? CRC32C_POLYNOMIAL : 0);
	}
	return product;
}

uint32_t crc32c_join(uint32_t first, uint32_t second, int64_t n_second)
{
	uint32_t power = CRC32C_X8;
	for (int64_t n = n_second; n > 0; n >>= 1) {
		if (n & 1)
			first = crc32c_multiply(first, power);
		power = crc32c_multiply(power, power);
	}
	return first ^ second;
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

char *crc32c_text(uint32_t crc, char ret[static CRC32C_TEXT_MAX])
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint64_t bits = (uint64_t)crc << 4; /* 32 bits and 4 of padding: six digits */
	for (int i = 5; i >= 0; i--, bits >>= 6)
		ret[i] = digit[bits & 63];
	ret[6] = ret[7] = '=';
	ret[8] = '\0';
	return ret;
}
