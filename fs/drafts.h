/* SPDX-License-Identifier: MIT */
/*
 * Drafts: packages on their way in (DESIGN 3). A draft is a directory below <state_dir>/drafts and a row of the
 * journal; it settles, is frozen, checked, sent, and becomes a job or a version; or it is refused and waits in drafts/.
 */
#pragma once

#include "journal.h"
#include "node.h"
#include "process.h"
#include "request.h"

#include <pthread.h>

struct drafts;

enum { DRAFT_WRITERS_MAX = 64 };

struct draft {
	/* immutable */
	int64_t id;
	struct remote *remote;
	char *dir;    /* absolute */
	bool is_lost; /* its directory was not there when the row was read */

	/* protected by the table's lock */
	enum place place;
	char *model; /* PLACE_MODEL */
	char *name;
	char owner[24];
	char *job; /* decided id */
	bool is_gone;
	bool is_left;      /* gone, but its directory stays for a while */
	bool is_replayed;  /* a mount before this one may have sent it */
	const char *doing; /* for transfers.tsv: "checking", "sending"; NULL: nothing */
	char *verdict;     /* why it was refused, until something changes */
	int64_t size_bytes;
	struct process writer[DRAFT_WRITERS_MAX]; /* who may still be alive */
	size_t n_writers;
	bool has_unknown_writer; /* counts as one that lives on */
	pid_t last_pid;          /* of the newest change, and when its process was looked up */
	int64_t last_pid_ms;
	int64_t changed_ms;     /* monotonic, of the newest change */
	bool is_watched;        /* the timer looks at it */
	struct waiters for_end; /* fsyncs that wait for the verdict */
	int failed; /* -errno when this machine could not make a change: something is missing; 0: none */
	int result; /* of the newest submission that is over: 0 or -errno */

	/* changes hold it for reading, freezing for writing */
	pthread_rwlock_t freeze;
	_Atomic bool is_frozen;

	struct draft *next;
};

int drafts_new(struct remote *remote, struct drafts **ret, struct fault *reterr);
/* Goes on with what the journal holds: sends what was complete, sets aside what was not. */
int drafts_start(struct drafts *drafts);
void drafts_free(struct drafts *drafts); /* takes NULL */
/* Looks whether other mounts of this state have made, moved or sent drafts, or have died. From the watch thread. */
void drafts_reload(struct drafts *drafts);

/* The draft of that name there, or NULL. model: "" but for PLACE_MODEL. */
struct draft *drafts_find(struct drafts *drafts, enum place place, const char *model, const char *name);
/* The draft of a job that is on its way (SUBMITTING), or NULL. */
struct draft *drafts_of_job(struct drafts *drafts, const char *job);

/* Called for each at a place, newest last; the lock is held: `draft->name` is borrowed. */
typedef int (*draft_visit)(void *arg, struct draft *draft);
int drafts_each(struct drafts *drafts, draft_visit visit, void *arg);

/* A new, empty one. -EEXIST. */
int draft_make(struct call *c, struct drafts *drafts, enum place place, const char *model, const char *name,
	       mode_t mode, struct draft **ret);

/* Brackets every change below a draft: -EBUSY when it is frozen or another mount's. Notes who writes, and how it ended. */
int draft_change_begin(struct call *c, struct draft *draft);
void draft_change_end(struct draft *draft, int result);

/* rmdir of the draft: -ENOTEMPTY, -EBUSY. */
int draft_remove(struct call *c, struct draft *draft);

/*
 * To another place and name. Into train/ or jobs/ it is checked, journalled and sent (DESIGN 3.2); into a model it
 * becomes a version. -EBADMSG and others when refused: then it stays where it was.
 */
int draft_move(struct call *c, struct draft *draft, enum place place, const char *model, const char *name);

/* fsync of the directory: submits, returns or parks until accepted or refused. */
int draft_sync(struct call *c, struct draft *draft);

/* What this process made in train/ goes to drafts/: it wrote files directly into train/ (rsync pkg/ train/). */
void drafts_set_aside(struct call *c, struct drafts *drafts);

/* A child for the draft's directory. */
int draft_child(struct draft *draft, struct child *ret);

/* rename(2) of a draft into another directory of the tree: EXDEV where mv shall copy. */
int draft_rename(struct call *c, struct draft *draft, struct node *newdir, const char *newname,
		 unsigned flags);

/* Why it was refused last, while nothing has changed since; -ENODATA. */
int draft_verdict(struct draft *draft, struct str *ret);

/* Text of transfers.tsv, without its header. */
int drafts_render(struct drafts *drafts, struct str *ret);
/* When a draft was last made, moved, sent, refused or removed. */
int64_t drafts_changed_ns(struct drafts *drafts);
