/* SPDX-License-Identifier: MIT */
/* See checksum.h. CRC32C and CRC32 are ISA-L's. */
#include "checksum.h"

#include <assert.h>
#include <endian.h>
#include <isa-l/crc.h>
#include <openssl/evp.h>

#include "base/crc32c.h"
#include "base/crc64nvme.h"
#include "base/polynomial.h"

static const struct {
	const char *name;
	int n_bits;
	struct polynomial polynomial;
} kind_of[CHECKSUM_MAX] = {
	[CHECKSUM_NONE] = {"no sum", 0, {0}},
	[CHECKSUM_CRC32C] = {"CRC32C", 32, {.top = UINT64_C(1) << 31, .bits = 0x82F63B78}},
	[CHECKSUM_CRC32] = {"CRC32", 32, {.top = UINT64_C(1) << 31, .bits = 0xEDB88320}},
	[CHECKSUM_CRC64NVME] = {"CRC64NVME", 64, {.top = UINT64_C(1) << 63, .bits = CRC64NVME_POLYNOMIAL}},
	[CHECKSUM_SHA256] = {"SHA-256", 0, {0}},
};

const char *checksum_name(enum checksum_kind kind)
{
	return kind_of[kind].name;
}

uint64_t checksum_add(enum checksum_kind kind, uint64_t crc, const void *bytes, size_t n)
{
	assert(kind > CHECKSUM_NONE && kind < CHECKSUM_CRC_MAX);
	if (kind == CHECKSUM_CRC32C)
		return crc32c_add((uint32_t)crc, bytes, n);
	return kind == CHECKSUM_CRC32 ? crc32_gzip_refl((uint32_t)crc, bytes, n)
				      : crc64nvme_add(crc, bytes, n);
}

uint64_t checksum_join(enum checksum_kind kind, uint64_t first, uint64_t second, int64_t n_second)
{
	const struct polynomial *modulus = &kind_of[kind].polynomial;
	assert(kind > CHECKSUM_NONE && kind < CHECKSUM_CRC_MAX && n_second >= 0 && n_second <= INT64_MAX / 8);
	return polynomial_multiply(modulus, first, polynomial_power(modulus, n_second * 8)) ^ second;
}

char *checksum_text(enum checksum_kind kind, uint64_t crc, char *ret)
{
	int n_bits = kind_of[kind].n_bits;
	assert(n_bits > 0);
	const uint64_t big = htobe64(crc << (64 - n_bits));
	(void)EVP_EncodeBlock((unsigned char *)ret, (const unsigned char *)&big, n_bits / 8);
	return ret;
}
