/* SPDX-License-Identifier: MIT */
/* Answers of S3, by the first byte of what kind: refused, or values that keep what parse.h promises. */
#include "aws/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take_bucket(void *arg, const char *name, const char *region)
{
	if (!*name || strlen(region) >= AWS_REGION_MAX)
		abort();
	return 0;
}

static void parse_error(const char *xml, size_t n)
{
	struct aws_error error;
	if (aws_parse_error(xml, n, &error) &&
	    (strpbrk(error.code, "\r\n") || strpbrk(error.message, "\r\n")))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fault fault = {0};
	char next[AWS_TOKEN_MAX + 1];
	struct aws_made made;
	struct aws_error error;
	cleanup_free char *id = NULL;
	if (size == 0)
		return 0;
	const char *xml = (const char *)data + 1;
	size_t n = size - 1;
	bool is_deep = n % 2;
	switch (*data) {
	case 'b':
		check(aws_parse_buckets(xml, n, take_bucket, NULL, next, &fault), &fault);
		break;
	case 'o':
		check(aws_parse_objects(xml, n, prefix, is_deep, take_object, &is_deep, next, &fault),
		      &fault);
		break;
	case 'm':
		check(aws_parse_made(xml, n, "CopyObjectResult", &made, &error, &fault), &fault);
		break;
	case 'u':
		check(aws_parse_upload(xml, n, &id, &fault), &fault);
		break;
	default:
		parse_error(xml, n);
	}
	return 0;
}
