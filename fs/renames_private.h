/* SPDX-License-Identifier: MIT */
/* What the files of renames share: queue and view, work at the service, records. */
#pragma once

#include "renames.h"

/* ---- renames.c ---- */
void rename_enter_locked(struct rename *rename);   /* into the queue and into the tree */
void rename_queue_locked(struct rename *rename);   /* into the queue only */
void rename_leave_locked(struct rename *rename);   /* out of the queue */
void rename_settled_locked(struct rename *rename); /* it was done: listings under way know */
void rename_revert_locked(struct rename *rename);  /* the tree shows the service's truth again */
bool rename_follows(const struct rename *later, const struct rename *rename); /* moves what that one makes */
bool rename_is_key(const struct rename_step *step, bool is_target, const char *bucket, const char *key);
bool rename_is_below(const struct rename_step *step, const char *bucket, const char *prefix); /* either key */
const struct rename_step *rename_first(const struct rename *rename);
int rename_tell(const struct rename *rename, struct str *ret); /* "a to b", for a sentence */

/* ---- renames_run.c ---- */
void renames_plan_tick_locked(struct objects *objects);

/* ---- renames_record.c ---- */
int rename_record(struct rename *rename);
/* A step is further than it was; one of "made", "version", and (step NULL) "undo". */
int rename_note(const struct rename *rename, const struct rename_step *step, const char *what,
		const char *version);
void rename_forget(const struct rename *rename);
