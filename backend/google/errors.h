/* SPDX-License-Identifier: MIT */
/* What the error reasons of Google mean (DESIGN 8): an errno, what may help, and a sentence. */
#pragma once

#include "google/parse.h"
#include "http/http.h"

enum google_error_flags {
	GOOGLE_ERROR_TRANSIENT = 1 << 0,
	GOOGLE_ERROR_THROTTLED = 1 << 1,
	GOOGLE_ERROR_CREDENTIALS = 1 << 2, /* newer ones may help */
};

struct google_error_meaning {
	const char *reason;
	int err; /* positive errno; 0: the status says it */
	unsigned flags;
	const char *advice; /* what to do; NULL: the service's message says it */
};

/* NULL: a reason that is not known. */
const struct google_error_meaning *google_error_find(const char *reason);

/* "REASON: message; advice" */
void google_error_text(const struct google_error *error, char *ret, size_t size);

/* The http_judge of every call to Google. */
void google_judge(int status, const struct http_headers *headers, const char *body, size_t n,
		  struct http_verdict *ret);
