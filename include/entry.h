/* SPDX-License-Identifier: MIT */
/*
 * The values that cross the contract between the tree (fs/) and the backends.
 *
 * Strings are UTF-8. A listing hands out *borrowed* entries, valid during the call of the sink only; a `_get`
 * fills a struct that the caller releases. Times are nanoseconds since 1970 UTC, 0 when not known.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum job_state {
	JOB_SUBMITTING, /* accepted by trainfs, not yet by the service; no backend reports it */
	JOB_QUEUED,
	JOB_PREPARING,
	JOB_RUNNING,
	JOB_SUCCEEDED,
	JOB_FAILED,
	JOB_CANCELLING,
	JOB_CANCELLED,
	JOB_UNKNOWN,
	JOB_STATE_MAX
};

const char *job_state_name(enum job_state state);           /* "RUNNING" */
int job_state_parse(const char *name, enum job_state *ret); /* -EINVAL */
bool job_state_is_ended(enum job_state state);              /* SUCCEEDED, FAILED, CANCELLED */

enum { JOB_EXIT_UNKNOWN = -1 };

/* A job as a row of a listing: what `ls -l jobs` and jobs.tsv need, and nothing that costs a call of its own. */
struct job_entry {
	const char *id;
	const char *model;
	enum job_state state;
	int64_t created_ns, started_ns, ended_ns;
	int64_t changed_ns; /* of the last change of state */
	int exit;           /* 0..255, or JOB_EXIT_UNKNOWN */
	const char *cost;   /* "1.25 USD", "1.25 USD estimate", or NULL */
	bool is_gone;       /* the job has been deleted; the other fields but id mean nothing */
};

struct job_attempt {
	int64_t started_ns, ended_ns;
	int exit;
	char *why; /* may be NULL */
};

struct job_event {
	enum job_state state;
	int64_t at_ns;
};

/* All that is known of one job beside its row. Every string is owned and may be NULL where nothing is known. */
struct job_detail {
	char *why;  /* one paragraph */
	char *spec; /* canonical JSON of DESIGN 4, as submitted */
	char *api;  /* the provider's own record, verbatim */
	char *url;
	char *git;          /* JSON {"branch","commit","dirty"} */
	char *output;       /* "BUCKET/PREFIX" below buckets/ */
	char *resumed_from; /* job id */
	char *version;      /* "MODEL/VERSION" made from this job */
	struct job_attempt *attempt;
	size_t n_attempts;
	struct job_event *event;
	size_t n_events;
};
void job_detail_release(struct job_detail *detail); /* takes a zeroed one; leaves it zeroed */

enum version_state { VERSION_CREATING, VERSION_READY, VERSION_FAILED, VERSION_DELETING, VERSION_STATE_MAX };
const char *version_state_name(enum version_state state);
int version_state_parse(const char *name, enum version_state *ret);

struct version_entry {
	char *name;
	enum version_state state;
	int64_t created_ns;
	char *why; /* may be NULL */
	char *job; /* id of the job it was made from, or NULL */
	char *api; /* the provider's record, JSON, or NULL */
};

struct alias_entry {
	char *name; /* "default" is one */
	char *version;
};

/* One model with all its versions and aliases; each array sorted by name. */
struct model_detail {
	struct version_entry *version;
	size_t n_versions;
	struct alias_entry *alias;
	size_t n_aliases;
};
void model_detail_release(struct model_detail *detail);

/* An object as a row of a listing, or a common prefix. */
struct object_entry {
	const char *key;     /* whole; a common prefix ends in '/' */
	const char *version; /* opaque; "" of a common prefix */
	int64_t size_bytes;
	int64_t changed_ns;
	bool is_prefix;
};

/* All that a service says of one object. Strings are owned, NULL where nothing is known. */
struct object_detail {
	char *version;
	int64_t size_bytes;
	int64_t changed_ns;
	char *content_type;
	char *storage_class;
	char *metadata; /* JSON object of the user's own, name -> text; NULL: none */
};
void object_detail_release(struct object_detail *detail);
