/* SPDX-License-Identifier: MIT */
/*
 * Eight bytes a step, each through a table of its own. Where the processor multiplies polynomials, 64 bytes a step: a
 * block may be replaced by another that has the same rest, further on; the last one goes through the tables.
 */
#include "base/crc64nvme.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

#include "base/polynomial.h"

enum { STEP = 8 };

/* table[i][b]: what the byte b, followed by i bytes of zero, does to the sum. */
static uint64_t table[STEP][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void table_make(void)
{
	for (unsigned b = 0; b < 256; b++) {
		uint64_t crc = b;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? CRC64NVME_POLYNOMIAL : 0);
		table[0][b] = crc;
	}
	for (int i = 1; i < STEP; i++)
		for (unsigned b = 0; b < 256; b++)
			table[i][b] = (table[i - 1][b] >> 8) ^ table[0][table[i - 1][b] & 255];
}

/* Here as below `crc` is what is between two blocks: not inverted. */
static uint64_t add_by_table(uint64_t crc, const unsigned char *at, size_t n)
{
	for (; n >= STEP; n -= STEP, at += STEP) {
		uint64_t word;
		memcpy(&word, at, STEP);
		word = le64toh(word) ^ crc;
		crc = 0;
		for (int i = 0; i < STEP; i++)
			crc ^= table[STEP - 1 - i][word >> (8 * i) & 255];
	}
	for (; n > 0; n--)
		crc = (crc >> 8) ^ table[0][(crc ^ *at++) & 255];
	return crc;
}

#ifdef __x86_64__
#include <wmmintrin.h>

enum { LANE = 16, LANES = 4, STRIDE = LANE * LANES };

static __m128i by_lane,
	by_stride; /* what takes a block so much further: of its first half, and of its second */

static void multipliers_make(void)
{
	static const struct polynomial modulus = {.top = UINT64_C(1) << 63, .bits = CRC64NVME_POLYNOMIAL};
	__m128i *const made[] = {&by_lane, &by_stride};
	for (int i = 0; i < 2; i++) {
		int n_bits = 8 * (i ? STRIDE : LANE);
		/* 64 more for the first half; one less, since the product of two reflected numbers is one place off */
		*made[i] = _mm_set_epi64x((int64_t)polynomial_power(&modulus, n_bits - 1),
					  (int64_t)polynomial_power(&modulus, n_bits + 64 - 1));
	}
}

__attribute__((target("pclmul"))) static __m128i fold(__m128i block, __m128i by, __m128i there)
{
	return _mm_xor_si128(
		_mm_xor_si128(_mm_clmulepi64_si128(block, by, 0x00), _mm_clmulepi64_si128(block, by, 0x11)),
		there);
}

static __m128i load(const unsigned char *at)
{
	return _mm_loadu_si128((const __m128i *)at);
}

/* n >= STRIDE; what is not a whole stride is left. */
__attribute__((target("pclmul"))) static uint64_t add_by_product(uint64_t crc, const unsigned char *at,
								 size_t n)
{
	unsigned char rest[LANE];
	__m128i lane[LANES];
	for (int i = 0; i < LANES; i++)
		lane[i] = load(at + i * LANE);
	lane[0] = _mm_xor_si128(lane[0], _mm_set_epi64x(0, (int64_t)crc));
	for (n -= STRIDE, at += STRIDE; n >= STRIDE; n -= STRIDE, at += STRIDE)
		for (int i = 0; i < LANES; i++)
			lane[i] = fold(lane[i], by_stride, load(at + i * LANE));
	for (int i = 1; i < LANES; i++)
		lane[i] = fold(lane[i - 1], by_lane, lane[i]);
	_mm_storeu_si128((__m128i *)rest, lane[LANES - 1]);
	return add_by_table(0, rest, LANE);
}

static size_t add_strides(uint64_t *crc, const unsigned char *at, size_t n)
{
	size_t done = n - n % STRIDE;
	if (done == 0 || !__builtin_cpu_supports("pclmul"))
		return 0;
	*crc = add_by_product(*crc, at, done);
	return done;
}

#else

static void multipliers_make(void)
{
}

static size_t add_strides(uint64_t *crc, const unsigned char *at, size_t n)
{
	return 0;
}

#endif

static void make(void)
{
	table_make();
	multipliers_make();
}

uint64_t crc64nvme_add(uint64_t crc, const void *bytes, size_t n)
{
	const unsigned char *at = bytes;
	(void)pthread_once(&once, make); /* fails for no valid argument */
	crc = ~crc;
	size_t done = add_strides(&crc, at, n);
	return ~add_by_table(crc, at + done, n - done);
}
