/* SPDX-License-Identifier: MIT */
/*
 * What is known of a remote's jobs: every row, the details of those that were asked for, and who waits for what.
 * The watch thread applies what the backend reports; the tree reads. A struct job lives until the mount ends.
 */
#pragma once

#include "entry.h"
#include "node.h"
#include "process.h"
#include "request.h"

#include <pthread.h>

struct jobs;
struct logstream;
struct remote;

/* What is true of a job at one moment. Strings live as long as the job. */
struct job_row {
	const char *model;
	enum job_state state;
	int64_t created_ns, started_ns, ended_ns, changed_ns;
	int exit;
	const char *cost; /* "" when nothing is known */
	bool is_gone;
};

/* A text of job_row.cost, and those before it. */
struct job_cost {
	struct job_cost *older;
	char text[];
};

/* A detail as it was read, counted. */
struct job_facts {
	_Atomic int n_refs;
	struct job_detail detail;
};
void job_facts_unref(struct job_facts *facts); /* takes NULL */

struct job {
	/* immutable */
	char *id;
	struct remote *remote;

	/* protected by the table's lock */
	struct job_row row;
	struct job_cost *cost;   /* row.cost is its text; NULL: "" */
	uint64_t revision;       /* rises with every change */
	bool is_pending;         /* submitted here, not yet reported by the backend */
	struct job_facts *facts; /* newest read, or NULL */
	uint64_t facts_revision;
	uint64_t facts_table_revision; /* of the whole table: a queued job's place changes with the others */
	bool is_loading;
	bool is_end_told; /* the kernel knows of the end */
	struct waiters for_facts, for_end;
	void *poll_handle;        /* newest of poll(2) on state */
	uint64_t told_revision;   /* of the state that a reader saw last */
	uint64_t listed_revision; /* of the directory that the kernel was last told to keep; 0: none */
	struct logstream *log;
	struct process refused; /* who was refused an unlink here last, and when */
	int64_t refused_ms;
	struct job *newer_facts, *older_facts; /* those with facts, to drop the oldest */
	struct job *next_hash;
};

int jobs_new(struct remote *remote, struct jobs **ret);
void jobs_free(struct jobs *jobs); /* takes NULL */
/* At the end, when all have been answered: drops the requests that still wait in a row. Takes NULL. */
void jobs_let_go(struct jobs *jobs);

/* The newest of that id, also one that is gone; NULL if there never was one. */
struct job *jobs_find(struct jobs *jobs, const char *id);

/* 0 once the list is known; parks or fails with the remote's reason until then. */
int jobs_ready(struct call *c, struct jobs *jobs);
/* The list was read, or could not be: whoever waits is asked again. */
void jobs_set_ready(struct jobs *jobs, bool is_known);

/* All that are not gone, newest first: a row of pointers, caller frees. */
int jobs_snapshot(struct jobs *jobs, struct job ***ret, size_t *ret_n);
void job_row_get(struct job *job, struct job_row *ret);
/* Of any job of the table. */
uint64_t jobs_revision(struct jobs *jobs);
int64_t jobs_changed_ns(struct jobs *jobs);

/* A change that the backend reported. Quiet: during the first listing, nobody is told. */
int jobs_apply(struct jobs *jobs, const struct job_entry *entry, bool is_quiet);

/* Something about this job has changed that no row shows (a version was made from it): its facts are read anew. */
void jobs_forget_facts(struct jobs *jobs, const char *id);

/* Made here and on its way (SUBMITTING). -EEXIST. */
int jobs_add_pending(struct jobs *jobs, const char *id, const char *model);
/* It did not become a job. */
void jobs_drop_pending(struct jobs *jobs, const char *id);
/* It did: QUEUED until the backend says more. */
void jobs_confirm(struct jobs *jobs, const char *id);

/* Deletes an ended job at its service. -EBUSY for a live one. */
int job_delete(struct call *c, struct job *job);

/* The job's details, referenced; may park (single flight). */
int job_facts_get(struct call *c, struct job *job, struct job_facts **ret);

/* 0 when it has ended; else parks until then. */
int job_wait_end(struct call *c, struct job *job);

/* The log has come in to its last line (log streams call this once a job has ended). */
void job_log_is_complete(struct job *job);

bool job_end_is_told(struct job *job);

/* How the kernel may keep the entries of the job's directory: they stay as they are while the revision does. */
enum open_mode job_entries_mode(struct job *job);

/* Readers of `state`: what poll(2) compares with. */
void job_state_was_read(struct job *job);
unsigned job_poll_state(struct job *job, void *kernel_handle);

void jobs_lock(struct jobs *jobs);
void jobs_unlock(struct jobs *jobs);
