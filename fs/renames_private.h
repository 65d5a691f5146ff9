/* SPDX-License-Identifier: MIT */
/* What the files of renames share: queue, tree, work at the service and its end, records. */
#pragma once

#include "renames.h"

/* Of `of`, each step is `at`. */
#define each_step(at, of)                                                                               \
	for (struct rename_step *at = ((struct rename *)(of))->step; (at) < (of)->step + (of)->n_steps; \
	     (at)++)

/* ---- renames.c ---- */
void rename_queue_locked(struct rename *rename);                              /* into the queue */
void rename_leave_locked(struct rename *rename);                              /* out of it */
bool rename_follows(const struct rename *later, const struct rename *rename); /* moves what that one makes */
bool rename_is_key(const struct rename_step *step, bool is_target, const char *bucket, const char *key);
bool rename_is_below(const struct rename_step *step, const char *bucket, const char *prefix); /* either key */
bool rename_is_marker(const char *key); /* of a directory */
const struct rename_step *rename_first(const struct rename *rename);
int rename_tell(const struct rename *rename, struct str *ret); /* "a to b", for a sentence */

/* ---- renames_tree.c ---- */
void rename_enter_locked(struct rename *rename);   /* into the queue and into the tree */
void rename_settled_locked(struct rename *rename); /* it was done: listings under way know */
void rename_revert_locked(struct rename *rename);  /* the tree shows the service's truth again */

/* ---- renames_run.c ---- */
void rename_start_locked(struct rename *rename, enum rename_phase phase);

/* ---- renames_end.c ---- */
void rename_end(struct rename *rename); /* of a phase: by the thread that did its last step */
void renames_plan_tick_locked(struct objects *objects);

/* ---- renames_record.c ---- */
int rename_record(struct rename *rename);
/* A step is further than it was; one of "made", "version", and (step NULL) "undo". */
int rename_note(const struct rename *rename, const struct rename_step *step, const char *what,
		const char *version);
void rename_forget(const struct rename *rename);
