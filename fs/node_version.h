/* SPDX-License-Identifier: MIT */
/* The files below a model and below a version, and what their kinds share. */
#pragma once

#include "kinds.h"
#include "model.h"

enum model_file { MODEL_FILE_JSON, MODEL_FILE_HISTORY, MODEL_FILE_MAX_ };

enum version_file {
	VERSION_FILE_STATE,
	VERSION_FILE_WHY,
	VERSION_FILE_CREATED,
	VERSION_FILE_INFO,
	VERSION_FILE_API,
	VERSION_FILE_CTL,
	VERSION_FILE_MAX
};

/* obj: struct scratch, counted by the node */
extern const struct node_kind kind_model_scratch;

/* Attributes of a made-up node of these kinds. */
void model_node_attr(struct call *c, const struct node *n, mode_t permissions, int64_t mtime_ns, enum ttl ttl,
		     struct attr *ret);

/* Was this process refused an unlink below it within the last second? */
bool was_refused(pid_t pid, pid_t refused_pid, int64_t refused_ms);
