/* SPDX-License-Identifier: MIT */
/*
 * Listings in pages that end although a service repeats its tokens: Brent's way of finding a cycle, with the state in
 * the cursor that stands between two pages.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fault.h"

enum { PAGING_HEAD_MAX = 3 * (16 + 1) }; /* what a cursor is longer than its token */

struct paging {
	uint64_t mark;             /* hash of a token seen before */
	uint64_t n_since, n_until; /* pages since then, and until the next mark */
	const char *token;         /* of the page to ask for, borrowed; "": the first */
};

/* "" begins. -EINVAL: no cursor of paging_cursor. */
int paging_parse(const char *cursor, struct paging *ret, struct fault *reterr);

/* `token` comes next. -EIO: it came before, so the pages would come again for ever. */
int paging_next(struct paging *paging, const char *token, struct fault *reterr);

/* The cursor for `token`, which paging_next took; it fits. */
void paging_cursor(const struct paging *paging, const char *token, char *ret, size_t size);
