/* SPDX-License-Identifier: MIT */
/*
 * A model and its versions from the inside: what models.c keeps, and what the nodes below models/ and the other
 * model_*.c work on. models.h is what the rest of the tree sees.
 */
#pragma once

#include "entry.h"
#include "models.h"

#include <jansson.h>
#include <pthread.h>

struct held;
struct making;

enum {
	MODEL_HOLD_MS = 1000,     /* a new or removed link is ours alone for so long */
	MODEL_PASSING_MS = 60000, /* names in passing, and files beside model.json */
	MODEL_FILE_MAX = 1 << 20  /* of such a file, and of model.json when it is saved */
};

struct version {
	/* immutable */
	struct model *model;
	char *name;

	/* protected by the table's lock */
	bool is_listed;  /* the backend has it */
	bool is_pending; /* on its way, from a draft or from a job */
	bool is_unsure;  /* was on its way: the next reading tells what became of it */
	bool is_ours;    /* made through this mount */
	bool is_removing;
	enum version_state state;
	int64_t created_ns, changed_ns;
	char *why, *job, *api; /* NULL where nothing is known */
	char *failure;         /* why it could not be made: shown as FAILED until it is removed */
	json_t *job_record;    /* for model.json, made once; NULL: not yet */
	pid_t refused_pid;     /* who was refused an unlink below, and when */
	int64_t refused_ms;
};

struct model {
	/* immutable */
	struct models *models;
	struct remote *remote;
	char *name;

	/* protected by the table's lock */
	bool is_listed; /* the backend has it */
	bool has_job;
	bool is_read;             /* versions and aliases are known */
	bool is_stale;            /* and are to be read again before anybody is answered */
	struct version **version; /* in the order in which they became known; never taken out */
	size_t n_versions;
	struct alias_entry *alias;
	size_t n_aliases;
	char *previous; /* or NULL */
	struct held *held;
	uint64_t revision; /* rises with what we change ourselves: older readings are void */
	int64_t changed_ns;
	int n_switching;
	pid_t refused_pid; /* of the newest refusal below any version */
	int64_t refused_ms;
};

struct models {
	struct remote *remote; /* immutable */

	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t changed; /* a version came to an end */
	struct model **model;
	size_t n_models;
	bool is_known;
	int64_t changed_ns;
	struct making *first_making;
	bool is_making;
};

/* ---- models_read.c ---- */

/* 0 once models are known and this one (may be NULL) is as the backend has it; else a CALL_ value or why not. */
int models_ready(struct call *c, struct models *models, struct model *m);

/* Reads one model from the backend and tells the kernel what is new. Blocks. */
int model_refresh(struct model *m, struct fault *reterr);

/* ---- models.c ---- */

/* By name, shown or not; NULL if there never was one. */
struct model *models_find(struct models *models, const char *name);
struct model *models_find_locked(struct models *models, const char *name);
int models_add_locked(struct models *models, const char *name, struct model **ret); /* known or new */
/* The struct of that name, made if need be, and whether the backend has it. */
int models_set_listed(struct models *models, const char *name, bool is_listed);
/* Has it anything that makes models/M be there? */
bool model_is_shown_locked(const struct model *m);

bool version_is_there_locked(const struct version *v);
enum version_state version_state_locked(const struct version *v);
const char *version_why_locked(const struct version *v);
struct version *version_find_locked(struct model *m, const char *name); /* one that is there, or NULL */
int version_add_locked(struct model *m, const char *name, struct version **ret); /* known or new */
size_t versions_count_locked(const struct model *m);

/* The version that an alias of the backend points at, or NULL. */
const char *alias_find_locked(const struct model *m, const char *name);
/* A name as the target of a link: a version, an alias, `previous`; NULL if it is none of them. */
struct version *model_resolve_locked(struct model *m, const char *name);
int alias_put_locked(struct model *m, const char *name, const char *version);
void aliases_free(struct alias_entry *alias, size_t n);
void alias_drop_locked(struct model *m, const char *name);
/* Some alias that points at this version, or NULL. */
const char *alias_of_locked(const struct version *v);

void model_tell_entry(struct model *m); /* it came or went */
void model_tell(struct model *m);       /* its directory and files have changed */
void version_tell(struct version *v, bool came_or_went);
void model_touch_locked(struct model *m); /* changed by us, now */

/* Puts a failure that nobody waits for into .trainfs/errors. */
void model_report(struct model *m, const char *name, int err, const char *sentence);

/* ---- model_switch.c ---- */

/*
 * Points an alias (`default` is one) at a version. -ENOENT, -EBUSY when that is not READY: one that is being made is
 * waited for a moment. Blocks.
 */
int model_switch(struct call *c, struct model *m, const char *alias, const char *version);
/* As model.json has been saved: with another `isDefault` it switches. Blocks. -EBADMSG. */
int model_save(struct call *c, struct model *m, const char *text, size_t len);
/* A first version became the default by itself. */
void model_note_first_default(struct model *m, const char *version);
/* Switches that a mount died over: made or not, as `default` stands now. True if there were any. */
bool model_settle_switches(struct model *m);
/* Works `previous` out of the journal. */
void model_load_previous(struct model *m);
int model_render_history(struct model *m, struct str *ret);

/* ---- model_make.c ---- */

/* Journals that a version is to be made from a job, and shows it CREATING. */
int version_plan(struct call *c, struct model *m, const char *name, const char *job);
/* Takes that back. */
void version_unplan(struct model *m, const char *name);
/* Makes it, behind. */
int version_make(struct model *m, const char *name, const char *job);
int models_resume_making(struct models *models);
void models_free_making(struct models *models);

/* Deletes a version: of rmdir and ctl. Blocks. */
int version_remove(struct call *c, struct version *v);
/* Everything that keeps it from being deleted now. */
int version_may_remove_locked(struct call *c, const struct version *v);
