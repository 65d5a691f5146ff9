/* SPDX-License-Identifier: MIT */
/* Eight bytes a step, each through a table of its own. */
#include "base/crc64nvme.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

#define CRC64NVME_POLYNOMIAL UINT64_C(0x9A6C9329AC4BC9B5) /* bits reflected: x^63 is bit 0 */

enum { STEP = 8 };

/* table[i][b]: what the byte b, followed by i bytes of zero, does to the sum. */
static uint64_t table[STEP][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

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

uint64_t crc64nvme_add(uint64_t crc, const void *bytes, size_t n)
{
	const unsigned char *at = bytes;
	(void)pthread_once(&table_once, table_make); /* fails for no valid argument */
	crc = ~crc;
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
	return ~crc;
}
