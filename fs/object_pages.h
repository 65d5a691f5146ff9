/* SPDX-License-Identifier: MIT */
/* All pages of a listing, each asked for while the rows of the one before are taken, where the service tells the way first. */
#pragma once

#include "backend.h"

#include <stdbool.h>

struct pool;

enum { OBJECT_PAGE_ROWS = 1000 };

struct object_pages {
	struct backend *be;
	struct pool *pool; /* for what is asked ahead */
	const char *bucket, *prefix;
	size_t n_max;               /* pages; -EFBIG: there are more */
	object_sink sink;           /* in order, one at a time, though not in one thread */
	bool (*goes_on)(void *arg); /* after each page but the last, in the caller's thread; else -EINTR */
	void *arg;
};

/* Blocks. -EIO also for a service that repeats itself for ever. */
int object_pages(const struct object_pages *wanted, struct fault *reterr);
