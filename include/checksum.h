/* SPDX-License-Identifier: MIT */
/*
 * Checksums that services tell of objects. A CRC of a text in parts comes from those of the parts by arithmetic, so
 * parts may be read in any order; a SHA-256 does not.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* CRCs first, in the order of what they cost. */
enum checksum_kind {
	CHECKSUM_NONE,
	CHECKSUM_CRC32C,
	CHECKSUM_CRC32,
	CHECKSUM_CRC64NVME,
	CHECKSUM_CRC_MAX,
	CHECKSUM_SHA256 = CHECKSUM_CRC_MAX,
	CHECKSUM_MAX
};

enum { CHECKSUM_TEXT_MAX = 48 }; /* holds the text of each */

/* As a service tells it. Zeroed: it tells none. */
struct checksum {
	enum checksum_kind kind;
	char text[CHECKSUM_TEXT_MAX]; /* base64 of the big-endian bytes */
};

const char *checksum_name(enum checksum_kind kind); /* "CRC32C" */

/* The rest is of CRCs only. Goes on from `crc`; 0 is the start. */
uint64_t checksum_add(enum checksum_kind kind, uint64_t crc, const void *bytes, size_t n);
/* Of a text in two parts: `first` of the one, `second` of the other, which has `n_second` bytes. */
uint64_t checksum_join(enum checksum_kind kind, uint64_t first, uint64_t second, int64_t n_second);
/* As in struct checksum; returns `ret`, which has room for 4 digits for each 3 bytes begun, and a NUL. */
char *checksum_text(enum checksum_kind kind, uint64_t crc, char *ret);
