/* SPDX-License-Identifier: MIT */
/* What the error codes of a service mean (DESIGN 8): an errno, what may help, a sentence. A table is the service's. */
#pragma once

#include "http/http.h"

enum http_meaning_flags {
	HTTP_MEANS_TRANSIENT = 1 << 0,
	HTTP_MEANS_THROTTLED = 1 << 1,
	HTTP_MEANS_CREDENTIALS = 1 << 2, /* newer ones may help */
	HTTP_MEANS_SKEWED = 1 << 3,
};

struct http_meaning {
	const char *code; /* NULL: the end of the table */
	int err;          /* positive errno */
	unsigned flags;
	const char *advice; /* what to do; NULL: the service's message says it */
};

/* NULL: a code that is not in the table. */
const struct http_meaning *http_meaning_find(const struct http_meaning *table, const char *code);

/* "CODE: message; advice", without what is not there. `meaning` may be NULL. */
void http_meaning_text(const struct http_meaning *meaning, const char *code, const char *message, char *ret,
		       size_t size);

/* What an http_judge says of that code. Of one that is not in the table: its text alone, and the status decides. */
void http_meaning_judge(const struct http_meaning *table, const char *code, const char *message,
			struct http_verdict *ret);
