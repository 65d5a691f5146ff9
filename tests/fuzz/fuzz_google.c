/* SPDX-License-Identifier: MIT */
/* Answers of Cloud Storage, by the first byte of what kind: refused, or values that keep what parse.h promises. */
#include "google/errors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take_bucket(void *arg, const char *name)
{
	if (!*name)
		abort();
	return 0;
}

static void check_object(struct object_detail *detail)
{
	if (!detail->version || !*detail->version || detail->size_bytes < 0)
		abort();
	object_detail_release(detail);
}

static void parse_object(const char *json, size_t n)
{
	struct object_detail detail = {0};
	struct fault fault = {0};
	char crc[GOOGLE_CRC_MAX];
	int r = google_parse_object(json, n, &detail, crc, &fault);
	check(r, &fault);
	if (r == 0)
		check_object(&detail);
}

static void parse_rewrite(const char *json, size_t n)
{
	struct google_rewrite rewrite = {0};
	struct fault fault = {0};
	int r = google_parse_rewrite(json, n, &rewrite, &fault);
	check(r, &fault);
	if (r == 0 && rewrite.is_done)
		check_object(&rewrite.object);
	else if (r == 0 && (!*rewrite.token || rewrite.n_rewritten < 0))
		abort();
}

static void parse_error(const char *json, size_t n)
{
	struct google_error error;
	struct http_verdict verdict = {0};
	if (google_parse_error(json, n, &error) &&
	    (strpbrk(error.reason, "\r\n") || strpbrk(error.message, "\r\n")))
		abort();
	google_judge(400, NULL, json, n, &verdict);
	if (strpbrk(verdict.text, "\r\n") || verdict.err < 0)
		abort();
}

static void parse_header(const char *text, bool is_hash)
{
	char crc[GOOGLE_CRC_MAX];
	int64_t n;
	if (is_hash ? google_parse_hash(text, crc) && !*crc : google_parse_stored(text, &n) == 0 && n <= 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fault fault = {0};
	char next[GOOGLE_TOKEN_MAX + 1];
	if (size == 0)
		return 0;
	const char *json = (const char *)data + 1;
	size_t n = size - 1;
	bool is_deep = n % 2;
	cleanup_free char *text =
		NULL; /* not by strndup: strict_string_checks wants a NUL at the end of `json` */
	if (str_format(&text, "%.*s", (int)n, json) < 0)
		return 0;
	switch (*data) {
	case 'b':
		check(google_parse_buckets(json, n, take_bucket, NULL, next, &fault), &fault);
		break;
	case 'o':
		check(google_parse_objects(json, n, prefix, is_deep, take_object, &is_deep, next, &fault),
		      &fault);
		break;
	case 'd':
		parse_object(json, n);
		break;
	case 'r':
		parse_rewrite(json, n);
		break;
	case 'h':
	case 's':
		parse_header(text, *data == 'h');
		break;
	default:
		parse_error(json, n);
	}
	return 0;
}
