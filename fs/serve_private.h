/* SPDX-License-Identifier: MIT */
/* What the parts of one mount share. */
#pragma once

#include "config.h"
#include "inode.h"
#include "notify.h"
#include "request.h"
#include "serve.h"
#include "timers.h"

#include <stdatomic.h>

struct logwatch;
struct report;
struct touch;

struct serve {
	/* immutable after serve_new */
	const struct config *config;
	char *mount_point;
	bool is_single; /* one remote is the root */
	bool is_read_only;
	struct fuse_lowlevel_ops ops;
	char *python;
	char id[24]; /* of this mount: random, its lock file's name */
	uid_t uid;
	gid_t gid;
	int64_t started_ns;
	struct inode_table *table;
	struct node *root;
	struct notify *notify;
	struct timers *timers;
	struct parking *parking;
	struct report *report;
	struct logwatch *logwatch;
	struct chunks *chunks; /* for what is read from services */
	struct touch *touch;   /* NULL: no inotify events */
	struct remote **remote;
	size_t n_remotes;

	pthread_mutex_t handles_lock;
	/* protected by handles_lock */
	struct handle *handle; /* every one that is open */

	/* atomic */
	atomic_bool is_stopping;
	atomic_size_t n_handles;
};

/* Appends to .trainfs/errors and the log. `child` may be NULL: then `n` itself is what it concerns. */
void serve_report(struct serve *serve, struct node *n, const char *child, int err, const char *sentence);

/* Open handles are counted: a read that was interrupted may still be at work on one. */
struct handle *handle_new(struct serve *serve, struct node *n, int flags);
void handle_ref(struct handle *h);
void handle_unref(struct serve *serve, struct handle *h); /* takes NULL; the last one releases */
