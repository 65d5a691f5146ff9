/* SPDX-License-Identifier: MIT */
/* The remote of this machine: one instance of the backend. */
#pragma once

#include "backend.h"
#include "local/store.h"

#include <assert.h>

extern const struct backend_type local_type;

struct local {
	struct backend base;

	/* immutable after init */
	struct store *writer; /* two connections, so that a listing waits for no commit */
	struct store *reader;
	int inotify_fd; /* of what watch() waits for; read by the watching thread only */
	int wake_fd;
	char *python; /* NULL: none was found */
	int64_t gpus;
};

static inline struct local *local_of(struct backend *be)
{
	assert(be->type == &local_type);
	return (struct local *)be;
}

/* The sentence for a failure of the state directory itself; returns `r`. */
int local_fault(struct fault *fault, int r, const char *what);

/* -EINVAL unless it is a name of DESIGN 5. `what` is "job id", "model", ... */
int local_check_name(const char *what, const char *name, struct fault *reterr);
