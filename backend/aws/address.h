/* SPDX-License-Identifier: MIT */
/* Which URL a bucket or an object has. */
#pragma once

#include <stdbool.h>

#include "str.h"

/* The service in one region. */
struct aws_place {
	const char *base; /* "https://s3.eu-west-1.amazonaws.com", without a '/' at its end */
	bool is_own;      /* not AWS's: somebody set it, and it knows buckets by path */
};

/* 3 to 63 of a-z 0-9 . -, as S3 takes a new one. */
bool aws_is_bucket_name(const char *bucket);

/* A region's name can be part of a host: letters, digits, '-'. */
bool aws_is_region(const char *region);

/*
 * Appends the URL of a key in a bucket (`key` NULL: of the bucket; `bucket` NULL: of the service). By host, unless the
 * place is somebody's own, or the bucket's name is an old one or has a dot, which no certificate covers. -EINVAL: no
 * bucket's name.
 */
int aws_url(const struct aws_place *place, const char *bucket, const char *key, struct str *url);

/* "/BUCKET/KEY" as x-amz-copy-source has it. */
int aws_copy_source(const char *bucket, const char *key, struct str *s);
