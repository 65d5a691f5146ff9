/* SPDX-License-Identifier: MIT */
/*
 * What trainfs itself must not forget about a remote: drafts, submissions under way, who came from what, switches made.
 * One SQLite file (fs.db in the remote's state_dir), shared by all mounts of that state; every change is on disk before
 * its function returns. All calls are thread-safe, 0 or -errno; -ENOSPC and -EIO as the disk has it.
 */
#pragma once

#include "fault.h"

#include <stdbool.h>
#include <stdint.h>

struct journal;

/* Where a draft stands in the tree. */
enum place { PLACE_TRAIN, PLACE_DRAFTS, PLACE_JOBS, PLACE_MODEL };

/* What is decided about it. COMPLETE: its writers have gone, it is to be submitted. SENDING: its job id is decided, the
   service may have been asked. */
enum phase { PHASE_OPEN, PHASE_COMPLETE, PHASE_SENDING };

struct draft_row {
	int64_t id; /* also the name of its directory below drafts/ */
	enum place place;
	const char *model; /* PLACE_MODEL: the model's name, else "" */
	const char *name;
	const char *owner; /* id of a mount */
	enum phase phase;
	const char *job; /* decided id, or NULL */
};

int journal_open(const char *state_dir, struct journal **ret, struct fault *reterr);
void journal_close(struct journal *journal); /* takes NULL */

/* Has another process changed anything since the last call? */
bool journal_has_changed(struct journal *journal);

/* -EEXIST: the name is taken at that place. */
int journal_draft_add(struct journal *journal, enum place place, const char *model, const char *name,
		      const char *owner, int64_t *ret_id);
int journal_draft_move(struct journal *journal, int64_t id, enum place place, const char *model,
		       const char *name);
int journal_draft_remove(struct journal *journal, int64_t id);

/* open -> complete */
int journal_draft_complete(struct journal *journal, int64_t id);

/*
 * -> sending, with its job id. One transaction: -EEXIST if another draft has the id, -EBUSY if it is not `owner`'s or is being sent already.
 */
int journal_draft_claim(struct journal *journal, int64_t id, const char *owner, const char *job);

/* sending -> gone, and the job is known to come from a draft named `name` (NULL: not a job). */
int journal_draft_sent(struct journal *journal, int64_t id, const char *job, const char *name, int64_t at_ns);

/* complete or sending -> open, at another place: it was refused. */
int journal_draft_refuse(struct journal *journal, int64_t id, const char *new_name);

/* Takes a draft over from a mount that is gone: `from` must still be its owner; else -EBUSY. */
int journal_draft_adopt(struct journal *journal, int64_t id, const char *from, const char *to);

/* Borrowed rows, during the call only. A negative return ends it. */
typedef int (*draft_sink)(void *arg, const struct draft_row *row);
int journal_drafts(struct journal *journal, draft_sink sink, void *arg);

/* Those that are newer than row `after` (0: all), oldest first. */
typedef int (*submission_sink)(void *arg, int64_t row, const char *job, const char *name);
int journal_submissions(struct journal *journal, int64_t after, submission_sink sink, void *arg);

/* Switches of a model's default, oldest first. `from` is "" for the first. */
struct switch_row {
	int64_t at_ns;
	const char *from, *to, *by;
};
/* Intended: before the service is asked. */
int journal_switch_begin(struct journal *journal, const char *model, const struct switch_row *row,
			 const char *owner, int64_t *ret_id);
/* It was made, and is history from here on; or it was not, and is forgotten. */
int journal_switch_end(struct journal *journal, int64_t id, bool is_made);
/* Those that were begun and have no end: another is at it, or a mount died over it. */
typedef int (*open_switch_sink)(void *arg, int64_t id, const char *to, const char *owner);
int journal_open_switches(struct journal *journal, const char *model, open_switch_sink sink, void *arg);
typedef int (*switch_sink)(void *arg, const struct switch_row *row);
int journal_switches(struct journal *journal, const char *model, switch_sink sink, void *arg);

/* Versions that are to be made from a job, until that is done. */
int journal_version_add(struct journal *journal, const char *model, const char *version, const char *job,
			const char *owner);
int journal_version_remove(struct journal *journal, const char *model, const char *version);
typedef int (*version_sink)(void *arg, const char *model, const char *version, const char *job,
			    const char *owner);
int journal_versions(struct journal *journal, version_sink sink, void *arg);
