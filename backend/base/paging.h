/* SPDX-License-Identifier: MIT */
/*
 * Listings in pages: what their rows can be, and that they end although a service repeats its tokens: Brent's way of
 * finding a cycle, with the state in the cursor that stands between two pages.
 */
#pragma once

#include <stdint.h>

#include "backend.h"

enum { PAGING_HEAD_MAX = 3 * (16 + 1) }; /* what a cursor is longer than its token */

struct paging {
	uint64_t mark;             /* hash of a token seen before */
	uint64_t n_since, n_until; /* pages since then, and until the next mark */
	const char *token;         /* of the page to ask for, borrowed; "": the first */
};

/* "" begins. -EINVAL: no cursor of paging_end. */
int paging_parse(const char *cursor, struct paging *ret, struct fault *reterr);

/* `token` comes next. -EIO: it came before, so the pages would come again for ever. */
int paging_next(struct paging *paging, const char *token, struct fault *reterr);

/* The end of a page that `token` follows; "": the last. As paging_next; the token fits into a cursor. */
int paging_end(struct paging *paging, const char *token, struct object_page *ret, struct fault *reterr);

/* A sink before another: the page is filled before that gets its first row, if the service has told the token by then. */
struct paging_sink {
	object_sink sink;
	void *arg;
	const struct paging *paging; /* as it was parsed */
	const char *token;           /* of the next page; "" until it is known */
	struct object_page *ret;
};
int paging_row(void *paging_sink, const struct object_entry *object);

/*
 * Has a listing of `prefix` (is_deep: with all that lies deeper) such a row? The prefix itself, what lies below, and
 * common prefixes, which are one name longer.
 */
bool paging_is_row(const char *key, const char *prefix, bool is_deep, bool is_prefix);
