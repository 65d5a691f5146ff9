/* SPDX-License-Identifier: MIT */
/* The models of `local`: rows for what there is, a directory for each version's files. */
#pragma once

struct model_ops;
struct store;

extern const struct model_ops local_model_ops;

/* What nobody works on any more: creations become FAILED, deletions are finished. */
void models_settle(struct store *store);
