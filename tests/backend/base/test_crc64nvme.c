/* SPDX-License-Identifier: MIT */
/* The checksum of the NVMe specification. */
#include "base/crc64nvme.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

Test(crc64nvme, published_values)
{
	static unsigned char bytes[4096];

	cr_expect(eq(u64, crc64nvme_add(0, "123456789", 9), 0xae8b14860a799888));
	cr_expect(eq(u64, crc64nvme_add(0, bytes, sizeof(bytes)), 0x6482d367eb22b64e));
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = 0xff;
	cr_expect(eq(u64, crc64nvme_add(0, bytes, sizeof(bytes)), 0xc0ddba7302eca3ac));
	cr_expect(eq(u64, crc64nvme_add(0, "", 0), 0));
}

Test(crc64nvme, goes_on_at_every_place)
{
	static const char text[] = "the quick brown fox jumps over the lazy dog, thirteen times or more";
	const size_t n = sizeof(text) - 1;

	for (size_t at = 0; at <= n; at++)
		cr_expect(eq(u64, crc64nvme_add(crc64nvme_add(0, text, at), text + at, n - at),
			     crc64nvme_add(0, text, n)));
}
