/* SPDX-License-Identifier: MIT */
/* What the error codes of AWS mean, and where an answer says that a bucket is. */
#pragma once

#include "aws/parse.h"
#include "http/meaning.h"

/* Of S3 and the query services, for http/meaning.h. */
extern const struct http_meaning aws_meanings[];

/* The http_judge of every call to AWS: by the code, whatever the status. */
void aws_judge(int status, const struct http_headers *headers, const char *body, size_t n,
	       struct http_verdict *ret);

/*
 * The region that an answer from the wrong one points at: a header, or what the error document names. False: none.
 * `body` is that of the answer.
 */
bool aws_error_region(const struct http_reply *reply, char ret[static AWS_REGION_MAX]);
