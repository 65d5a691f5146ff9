/* SPDX-License-Identifier: MIT */
/* The kinds of nodes: who makes children of which kind, and who is told when one changes. */
#pragma once

#include "node.h"

/* obj: struct serve */
extern const struct node_kind kind_root;         /* the top, when it holds all remotes */
extern const struct node_kind kind_root_file;    /* README.md */
extern const struct node_kind kind_control;      /* .trainfs */
extern const struct node_kind kind_control_file; /* sub: enum control_file */
enum control_file {
	CONTROL_VERSION,
	CONTROL_REMOTES,
	CONTROL_ERRORS,
	CONTROL_EVENTS,
	CONTROL_STATS,
	CONTROL_CTL,
	CONTROL_FILE_MAX
};

/* obj: struct remote */
extern const struct node_kind kind_remote;
extern const struct node_kind kind_remote_file; /* sub: enum remote_file */
enum remote_file { REMOTE_FILE_JOBS, REMOTE_FILE_TRANSFERS, REMOTE_FILE_MAX };
extern const struct node_kind kind_place;          /* sub: PLACE_TRAIN or PLACE_DRAFTS */
extern const struct node_kind kind_submitted;      /* submitted/ */
extern const struct node_kind kind_submitted_link; /* submitted/NAME and latest; sub: NODE_BY_NAME */
extern const struct node_kind kind_jobs;           /* jobs/ */
extern const struct node_kind kind_models;         /* models/ */
extern const struct node_kind kind_buckets;        /* buckets/ */

/* obj: struct job */
extern const struct node_kind kind_job;
extern const struct node_kind kind_job_file; /* sub: enum job_file */
enum job_file {
	JOB_FILE_STATE,
	JOB_FILE_WHY,
	JOB_FILE_EXIT,
	JOB_FILE_DONE,
	JOB_FILE_CREATED,
	JOB_FILE_STARTED,
	JOB_FILE_ENDED,
	JOB_FILE_LOG,
	JOB_FILE_ATTEMPTS,
	JOB_FILE_SPEC,
	JOB_FILE_API,
	JOB_FILE_URL,
	JOB_FILE_GIT,
	JOB_FILE_EVENTS,
	JOB_FILE_COST,
	JOB_FILE_CTL,
	JOB_FILE_WAIT,
	JOB_FILE_FOLLOW,
	JOB_FILE_OUTPUT, /* links from here on */
	JOB_FILE_MODEL,
	JOB_FILE_RESUMED_FROM,
	JOB_FILE_MAX
};

/* obj: struct model, struct version: models.h */
extern const struct node_kind kind_model;
extern const struct node_kind kind_model_file;
extern const struct node_kind kind_model_link; /* sub: NODE_BY_NAME */
extern const struct node_kind kind_version;
extern const struct node_kind kind_version_file;

/* obj: struct disk_file (disk.h), owned by the node */
extern const struct node_kind kind_disk;

/* obj: struct object_dir, struct object_file (objects.h), each referenced by the node */
extern const struct node_kind kind_object_dir;
extern const struct node_kind kind_object_file;
