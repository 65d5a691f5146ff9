/* SPDX-License-Identifier: MIT */
/* The checksum of an object that its service tells, and of the bytes as they come. Zeroed: there is none. */
#pragma once

#include "checksum.h"

#include <stdbool.h>

struct http_sum {
	struct checksum told;
	/* sum.c's */
	uint64_t crc;
	void *sha256;
};

/* Lets go of what there was. -ENOMEM. */
int http_sum_begin(struct http_sum *sum, const struct checksum *told);
void http_sum_add(struct http_sum *sum, const void *bytes, size_t n);
/* Were those the bytes? The text of what came goes to `ret`. Once; true if there is no sum. */
bool http_sum_is_right(struct http_sum *sum, char ret[static CHECKSUM_TEXT_MAX]);
void http_sum_release(struct http_sum *sum);
