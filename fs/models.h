/* SPDX-License-Identifier: MIT */
/*
 * What is known of a remote's models: versions, aliases, links that are a second old, versions on their way. Structs
 * live until the mount ends.
 */
#pragma once

#include "node.h"
#include "request.h"

struct models;
struct remote;

int models_new(struct remote *remote, struct models **ret);
void models_free(struct models *models); /* takes NULL */

/* Goes on with versions that the journal still holds. Called once, when threads may run. */
int models_start(struct models *models);

/*
 * Sends what was held back for a moment (new and removed aliases). Called once at the end, before the pool is stopped.
 * Blocks.
 */
void models_flush(struct models *models);

/*
 * Reads all models from the backend and tells the kernel what is new; called by the watch thread whenever something may
 * have changed, and from pool threads after our own changes. Blocks.
 */
int models_refresh(struct models *models, struct fault *reterr);

/* A job of this model is known: models/M is shown, empty. Cheap; callable from any thread. */
void models_note_job(struct models *models, const char *model);

/* "MODEL/VERSION" is on its way from a draft (models/M/V was made or moved there and is being sent), or no longer. */
void models_note_pending(struct models *models, const char *model, const char *version, bool is_pending);

/* Is there a version, a version on its way, or a link of that name? For mkdir and rename into a model. */
bool models_has_name(struct models *models, const char *model, const char *name);
