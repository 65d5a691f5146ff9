/* SPDX-License-Identifier: MIT */
/* What the ways into a backend share: backend.c, and of buckets buckets.c. */
#pragma once

#include "backend.h"

/* NULL: there is no such operation. */
#define OP(be, table, op) ((be)->type->table ? (be)->type->table->op : NULL)

/* That one is missing: -EOPNOTSUPP. `op` and `what`, as below, are for the sentence. */
int backend_missing(const struct backend *be, const char *op, const char *what, struct fault *reterr);

/*
 * What an operation came to, on its way to the caller: counted, logged, explained if `fault` has no sentence. `what` is
 * the thing it was about. Gives r.
 */
int backend_answer(struct backend *be, const char *op, const char *what, int r, struct fault *fault,
		   struct fault *reterr);
/* Of an operation that gives a descriptor. */
int backend_answer_fd(struct backend *be, const char *op, const char *what, int r, int fd, int *ret_fd,
		      struct fault *fault, struct fault *reterr);
