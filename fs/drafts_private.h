/* SPDX-License-Identifier: MIT */
/* What drafts.c, sending.c and takeup.c share. */
#pragma once

#include "drafts.h"

struct submitted;

struct drafts {
	/* immutable */
	struct remote *remote;
	char *dir; /* <state_dir>/drafts */

	pthread_mutex_t lock;
	/* protected by lock */
	struct draft *first; /* newest first; none is taken out before the end */
	int64_t changed_ns;  /* of what is shown in train/, drafts/ and transfers.tsv */
};

void drafts_lock(struct drafts *drafts);
void drafts_unlock(struct drafts *drafts);

/* The id of this mount, as owners are named. */
const char *drafts_owner(const struct drafts *drafts);

/* A struct for a row, not in the table yet; its directory is looked for, not made. */
int draft_new(struct drafts *drafts, const struct draft_row *row, struct draft **ret);
struct draft *drafts_by_id_locked(struct drafts *drafts, int64_t id);
void draft_forget_locked(struct draft *draft);

/* A name below drafts/ that is free: `wanted`, or with _2, _3 ...; caller frees. */
int drafts_free_name_locked(struct drafts *drafts, const char *wanted, char **ret);

/* The directory of a draft that is gone, if it is still there; takes a struct draft. */
void draft_remove_left(void *arg);

/* The kernel is told that the entry of a draft at this place is another now. */
void drafts_tell_entry(struct drafts *drafts, enum place place, const char *model, const char *name);

/* Waiting fsyncs go on. */
void draft_tell_end(struct draft *draft, int result);

/* Nobody changes the draft from here on. -EBUSY: it is frozen already. */
int draft_freeze(struct draft *draft);
void draft_thaw(struct draft *draft);
