/* SPDX-License-Identifier: MIT */
/*
 * What S3 answers, as values: pure functions of the bytes. Whatever the bytes are, they end, in little memory: no
 * network, no DTD, no entities, texts and depth bounded. What is no such document is -EIO with a sentence.
 */
#pragma once

#include "backend.h"

enum { AWS_CODE_MAX = 128, AWS_REGION_MAX = 64, AWS_HOST_MAX = 256, AWS_TOKEN_MAX = 1980 };

/* An error of S3 (rest-xml) or of a query service. Texts are cut, clean of control characters, "" when not given. */
struct aws_error {
	char code[AWS_CODE_MAX];
	char message[400];
	char region[AWS_REGION_MAX]; /* where the bucket is */
	char endpoint[AWS_HOST_MAX]; /* the same, as a host */
};
/* False: the bytes are no error document. */
bool aws_parse_error(const char *xml, size_t n, struct aws_error *ret);

/* Gets a bucket's name and its region ("" when not told); a negative return ends it with that error. */
typedef int (*aws_bucket_sink)(void *arg, const char *name, const char *region);

/* ListAllMyBucketsResult; `next` is the token of the page that follows, "" when this was the last. */
int aws_parse_buckets(const char *xml, size_t n, aws_bucket_sink sink, void *arg,
		      char next[static AWS_TOKEN_MAX + 1], struct fault *reterr);

/*
 * ListBucketResult of ListObjectsV2, for that prefix, with delimiter=/ or (is_deep) without; a row that does not lie
 * directly, or at all, below it is -EIO. A key with a NUL in it is left out: it cannot be named in C.
 * `next` is there as soon as it was read, which may be before the first row.
 */
int aws_parse_objects(const char *xml, size_t n, const char *prefix, bool is_deep, object_sink sink,
		      void *arg, char next[static AWS_TOKEN_MAX + 1], struct fault *reterr);

/* InitiateMultipartUploadResult; caller frees. */
int aws_parse_upload(const char *xml, size_t n, char **ret_id, struct fault *reterr);

/* What was made: CopyObjectResult, CopyPartResult, CompleteMultipartUploadResult. */
struct aws_made {
	char version[OBJECT_VERSION_MAX + 1];
	char crc32c[64];    /* as the service writes it; "" when not told */
	int64_t changed_ns; /* 0: not told */
};
/*
 * The body of a 200, which may be an error all the same: then *ret_error is filled, and the result is what
 * aws_meanings says of its code.
 */
int aws_parse_made(const char *xml, size_t n, const char *root, struct aws_made *ret,
		   struct aws_error *ret_error, struct fault *reterr);

/* An ETag as a version: without the quotes of a strong one. -EINVAL: empty, or too long. */
int aws_parse_etag(const char *etag, char ret[static OBJECT_VERSION_MAX + 1]);
