/* SPDX-License-Identifier: MIT */
/* What the error codes of AWS mean (DESIGN 8): an errno, what may help, and a sentence. */
#pragma once

#include "aws/parse.h"
#include "http/http.h"

enum aws_error_flags {
	AWS_ERROR_TRANSIENT = 1 << 0,
	AWS_ERROR_THROTTLED = 1 << 1,
	AWS_ERROR_CREDENTIALS = 1 << 2, /* newer ones may help */
	AWS_ERROR_SKEWED = 1 << 3,
};

struct aws_error_meaning {
	const char *code;
	int err; /* positive errno */
	unsigned flags;
	const char *advice; /* what to do; NULL: the service's message says it */
};

/* NULL: a code that is not known. */
const struct aws_error_meaning *aws_error_find(const char *code);

/* "CODE: message; advice" */
void aws_error_text(const struct aws_error *error, char *ret, size_t size);

/* The http_judge of every call to AWS: by the code, whatever the status. */
void aws_judge(int status, const struct http_headers *headers, const char *body, size_t n,
	       struct http_verdict *ret);

/*
 * The region that an answer from the wrong one points at: a header, or what the error document names. False: none.
 * `body` is that of the answer.
 */
bool aws_error_region(const struct http_reply *reply, char ret[static AWS_REGION_MAX]);
