/* SPDX-License-Identifier: MIT */
/* What the target of a link in a model's directory means. */
#pragma once

#include "model.h"

enum target_type { TARGET_VERSION, TARGET_JOB };

struct target {
	enum target_type type;
	char *name; /* of the version, or the job's id; owned */
};

/*
 * The target of a new link in models/M: a version or alias of M, or a job of this remote, relative to models/M or
 * absolute below the mount point. -ENOENT, -EXDEV (another remote), -EINVAL, -EBUSY (a job that has not ended), -EBADMSG
 * (one that has not succeeded); may park.
 */
int model_target(struct call *c, struct model *m, const char *text, struct target *ret);
