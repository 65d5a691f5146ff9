/* SPDX-License-Identifier: MIT */
/* See http/sum.h. SHA-256 is OpenSSL's. */
#include "http/sum.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

void http_sum_release(struct http_sum *sum)
{
	EVP_MD_CTX_free(sum->sha256);
	*sum = (struct http_sum){0};
}

int http_sum_begin(struct http_sum *sum, const struct checksum *told)
{
	http_sum_release(sum);
	if (told->kind == CHECKSUM_SHA256) {
		sum->sha256 = EVP_MD_CTX_new();
		if (!sum->sha256 || EVP_DigestInit_ex2(sum->sha256, EVP_sha256(), NULL) != 1) {
			http_sum_release(sum);
			return -ENOMEM;
		}
	}
	sum->told = *told;
	return 0;
}

void http_sum_add(struct http_sum *sum, const void *bytes, size_t n)
{
	if (sum->told.kind == CHECKSUM_SHA256)
		(void)EVP_DigestUpdate(sum->sha256, bytes, n); /* cannot fail with its own implementation */
	else if (sum->told.kind != CHECKSUM_NONE)
		sum->crc = checksum_add(sum->told.kind, sum->crc, bytes, n);
}

bool http_sum_is_right(struct http_sum *sum, char ret[static CHECKSUM_TEXT_MAX])
{
	unsigned char bytes[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	if (sum->told.kind == CHECKSUM_NONE)
		return true;
	if (sum->told.kind == CHECKSUM_SHA256) {
		(void)EVP_DigestFinal_ex(sum->sha256, bytes, &n); /* as above */
		(void)EVP_EncodeBlock((unsigned char *)ret, bytes, (int)n);
	} else {
		(void)checksum_text(sum->told.kind, sum->crc, ret);
	}
	return strcmp(ret, sum->told.text) == 0;
}
