/* SPDX-License-Identifier: MIT */
/* See sum.h. SHA-256 is OpenSSL's. */
#include "http/sum.h"

#include <endian.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/crc64nvme.h"

void http_sum_release(struct http_sum *sum)
{
	EVP_MD_CTX_free(sum->sha256);
	*sum = (struct http_sum){0};
}

int http_sum_begin(struct http_sum *sum, enum http_sum_kind kind, const char *told)
{
	http_sum_release(sum);
	if (kind == HTTP_SUM_NONE || strlen(told) >= sizeof(sum->told))
		return 0;
	if (kind == HTTP_SUM_SHA256) {
		sum->sha256 = EVP_MD_CTX_new();
		if (!sum->sha256 || EVP_DigestInit_ex2(sum->sha256, EVP_sha256(), NULL) != 1) {
			http_sum_release(sum);
			return -ENOMEM;
		}
	}
	sum->kind = kind;
	(void)snprintf(sum->told, sizeof(sum->told), "%s", told);
	return 0;
}

void http_sum_add(struct http_sum *sum, const void *bytes, size_t n)
{
	if (sum->kind == HTTP_SUM_CRC32C)
		sum->crc = crc32c_add((uint32_t)sum->crc, bytes, n);
	else if (sum->kind == HTTP_SUM_CRC64NVME)
		sum->crc = crc64nvme_add(sum->crc, bytes, n);
	else if (sum->kind == HTTP_SUM_SHA256)
		(void)EVP_DigestUpdate(sum->sha256, bytes, n); /* cannot fail with its own implementation */
}

bool http_sum_is_right(struct http_sum *sum, char ret[static HTTP_SUM_TEXT_MAX])
{
	unsigned char bytes[EVP_MAX_MD_SIZE];
	const uint64_t big = htobe64(sum->crc);
	unsigned n = 0;
	if (sum->kind == HTTP_SUM_NONE)
		return true;
	if (sum->kind == HTTP_SUM_SHA256) {
		(void)EVP_DigestFinal_ex(sum->sha256, bytes, &n); /* as above */
	} else {
		n = sum->kind == HTTP_SUM_CRC32C ? sizeof(uint32_t) : sizeof(uint64_t);
		memcpy(bytes, (const char *)&big + sizeof(big) - n, n);
	}
	(void)EVP_EncodeBlock((unsigned char *)ret, bytes, (int)n);
	return strcmp(ret, sum->told) == 0;
}

const char *http_sum_name(const struct http_sum *sum)
{
	static const char *const name[] = {"no sum", "CRC32C", "CRC64NVME", "SHA-256"};
	return name[sum->kind];
}
