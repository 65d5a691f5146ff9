/* SPDX-License-Identifier: MIT */
/* Sums of wholes from sums of parts, each against the published value, and against counting bit by bit. */
#include "checksum.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	enum checksum_kind kind;
	uint64_t polynomial, check; /* of "123456789" */
	const char *text;
} known[] = {
	{CHECKSUM_CRC32C, 0x82f63b78, 0xe3069283, "4waSgw=="},
	{CHECKSUM_CRC32, 0xedb88320, 0xcbf43926, "y/Q5Jg=="},
	{CHECKSUM_CRC64NVME, 0x9a6c9329ac4bc9b5, 0xae8b14860a799888, "rosUhgp5mIg="},
};
enum { KNOWN = sizeof(known) / sizeof(*known), BIG = 300000 };

Test(checksum, published_values_and_their_text)
{
	char text[CHECKSUM_TEXT_MAX];
	for (int i = 0; i < KNOWN; i++) {
		uint64_t crc = checksum_add(known[i].kind, 0, "123456789", 9);
		cr_expect(eq(u64, crc, known[i].check), "%s", checksum_name(known[i].kind));
		cr_expect(eq(str, checksum_text(known[i].kind, crc, text), (char *)known[i].text));
		cr_expect(zero(u64, checksum_add(known[i].kind, 0, "", 0)));
	}
	cr_expect(eq(str, checksum_text(CHECKSUM_CRC32, 0, text), "AAAAAA=="));
	cr_expect(eq(str, checksum_text(CHECKSUM_CRC64NVME, UINT64_MAX, text), "//////////8="));
}

/* As the definition says, a bit at a time. */
static uint64_t slowly(int i, const unsigned char *bytes, size_t n)
{
	uint64_t all = known[i].kind == CHECKSUM_CRC64NVME ? UINT64_MAX : UINT32_MAX, crc = all;
	for (size_t at = 0; at < n; at++) {
		crc ^= bytes[at];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? known[i].polynomial : 0);
	}
	return crc ^ all;
}

static unsigned char *make_bytes(size_t n)
{
	unsigned char *bytes = malloc(n);
	for (size_t at = 0; at < n; at++)
		bytes[at] = (unsigned char)rand();
	return bytes;
}

Test(checksum, of_every_length_and_from_every_address)
{
	unsigned char *bytes = make_bytes(600);
	for (int i = 0; i < KNOWN; i++)
		for (size_t from = 0; from < 17; from++)
			for (size_t n = 0; n < 500; n += n < 200 ? 1 : 37)
				cr_assert(eq(u64, checksum_add(known[i].kind, 0, bytes + from, n),
					     slowly(i, bytes + from, n)),
					  "%s of %zu bytes at %zu", checksum_name(known[i].kind), n, from);
	free(bytes);
}

Test(checksum, goes_on_and_joins_at_every_place)
{
	unsigned char *bytes = make_bytes(400);
	for (int i = 0; i < KNOWN; i++) {
		enum checksum_kind kind = known[i].kind;
		const uint64_t whole = slowly(i, bytes, 400);
		for (size_t at = 0; at <= 400; at++) {
			uint64_t first = checksum_add(kind, 0, bytes, at),
				 second = checksum_add(kind, 0, bytes + at, 400 - at);
			cr_assert(eq(u64, checksum_add(kind, first, bytes + at, 400 - at), whole));
			cr_assert(eq(u64, checksum_join(kind, first, second, (int64_t)(400 - at)), whole));
		}
	}
	free(bytes);
}

/* A tree of joins over a random cut in two, however it lies. */
static uint64_t in_parts(enum checksum_kind kind, const unsigned char *bytes, size_t n)
{
	if (n < 1000)
		return checksum_add(kind, 0, bytes, n);
	size_t first = (size_t)rand() % (n + 1);
	uint64_t second = in_parts(kind, bytes + first, n - first);
	return checksum_join(kind, in_parts(kind, bytes, first), second, (int64_t)(n - first));
}

Test(checksum, joins_of_random_parts)
{
	unsigned char *bytes = make_bytes(BIG);
	srand(20);
	for (int i = 0; i < KNOWN; i++) {
		const uint64_t whole = slowly(i, bytes, BIG);
		for (int round = 0; round < 20; round++)
			cr_assert(eq(u64, in_parts(known[i].kind, bytes, BIG), whole));
	}
	free(bytes);
}

/* No memory holds it; doubling gets there, and so does one join of zeros. */
Test(checksum, joins_over_terabytes)
{
	for (int i = 0; i < KNOWN; i++) {
		enum checksum_kind kind = known[i].kind;
		uint64_t zeros = checksum_add(kind, 0, "", 1), crc = checksum_add(kind, 0, "123456789", 9);
		int64_t n = 1;
		for (; n < INT64_C(1) << 42; n *= 2)
			zeros = checksum_join(kind, zeros, zeros, n);
		uint64_t half = zeros, by_halves = checksum_join(kind, crc, half, n);
		by_halves = checksum_join(kind, by_halves, half, n);
		cr_expect(eq(u64, checksum_join(kind, crc, checksum_join(kind, half, half, n), 2 * n),
			     by_halves));
	}
}
