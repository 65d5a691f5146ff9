/* SPDX-License-Identifier: MIT */
/*
 * What stands in a model's directory for a moment and is ours alone: links that are a second old, links whose removal is
 * held back, and the files that editors put beside model.json.
 */
#pragma once

#include "model.h"

#include <stdatomic.h>

enum held_type {
	HELD_ALIAS,   /* a link to a version */
	HELD_JOB,     /* a link to a job: a version to be */
	HELD_REMOVED, /* a link, or model.json, that was removed just now */
	HELD_FILE
};

/* A file in memory, counted: by its entry and by the nodes that show it. */
struct scratch {
	/* immutable */
	atomic_int n_refs;
	int fd;

	/* atomic */
	atomic_int n_open;
	atomic_uint mode; /* permissions */
};

struct held {
	/* all under the table's lock */
	enum held_type type;
	char *name;
	char *target;         /* what readlink says, or NULL */
	char *meaning;        /* the version's name, or the job's id; or NULL */
	struct scratch *file; /* or NULL */
	bool is_passing;      /* a name in passing: never sent */
	bool is_sending;
	pid_t pid;      /* who made it */
	int64_t due_ms; /* monotonic: then it is sent, or forgotten */
	struct held *next;
};

int scratch_new(const char *text, size_t len, struct scratch **ret);
struct scratch *scratch_ref(struct scratch *file);
void scratch_unref(struct scratch *file); /* takes NULL */
/* All of it, as text; -EFBIG. */
int scratch_read(const struct scratch *file, char **ret, size_t *ret_len);
int fd_read_all(int fd, char **ret, size_t *ret_len);

struct held *held_find_locked(struct model *m, const char *name);

/*
 * Adds one, in place of an older one of that name; strings are copied, `file` is referenced. It is due after hold_ms.
 */
int held_add(struct model *m, const struct held *what, int64_t hold_ms);

/* Takes one out and frees it. */
void held_drop_locked(struct model *m, struct held *held);
int held_rename_locked(struct model *m, struct held *held, const char *name);

/* Removals by this process come to nothing: it was refused another one below. */
void held_restore_locked(struct model *m, pid_t pid);

/* Sends what is held, due or not. Blocks. */
void held_flush(struct model *m);
void held_clear(struct model *m); /* when nobody uses the model any more */
