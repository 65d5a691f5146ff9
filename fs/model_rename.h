/* SPDX-License-Identifier: MIT */
/* rename(2) out of a model's directory: the other half of most ways to switch a link or to save a file. */
#pragma once

#include "model.h"

/* The operation of kind_model. */
int model_rename(struct call *c, struct node *dir, const char *name, struct node *newdir, const char *newname,
		 unsigned flags);

/* Is it a name for a `what` (model, version, alias)? -EINVAL with the sentence. */
int model_check_name(struct call *c, const char *what, const char *name);

/* May a version of that name be made here? Blocks for the backend's local checks. */
int model_check_version(struct call *c, struct model *m, const char *name);

/* What was held under that name is over: the name stands for what the backend has. */
void model_unhold(struct model *m, const char *name);
