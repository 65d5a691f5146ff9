/* SPDX-License-Identifier: MIT */
/* The checksum of an object as its service tells it, and of the bytes as they come. Zeroed: there is none. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_SUM_TEXT_MAX = 48 };

enum http_sum_kind { HTTP_SUM_NONE, HTTP_SUM_CRC32C, HTTP_SUM_CRC64NVME, HTTP_SUM_SHA256 };

struct http_sum {
	enum http_sum_kind kind;
	char told[HTTP_SUM_TEXT_MAX]; /* base64 of the big-endian bytes */
	/* sum.c's */
	uint64_t crc;
	void *sha256;
};

/* Lets go of what there was. A text that is too long is of no such sum: none. -ENOMEM. */
int http_sum_begin(struct http_sum *sum, enum http_sum_kind kind, const char *told);
void http_sum_add(struct http_sum *sum, const void *bytes, size_t n);
/* Were those the bytes? The text of what came goes to `ret`. Once; true if there is no sum. */
bool http_sum_is_right(struct http_sum *sum, char ret[static HTTP_SUM_TEXT_MAX]);
const char *http_sum_name(const struct http_sum *sum); /* "CRC32C" */
void http_sum_release(struct http_sum *sum);
