/* SPDX-License-Identifier: MIT */
/* One mount's file system: remotes, tree, drafts and threads, from opening its state to letting go of it. */
#pragma once

#include "config.h"
#include "fault.h"

#include <stdbool.h>
#include <stdio.h>

struct fuse_lowlevel_ops;
struct fuse_session;
struct serve;

struct serve_options {
	const char *mount_point; /* absolute */
	const char *only_remote; /* NULL: all of them, each a directory at the top */
	const char *python;      /* absolute path of python3, or NULL */
	bool is_read_only;       /* -o ro: nothing settles, nothing is replayed */
	bool has_xattr;          /* -o xattr */
};

/*
 * Opens state and backends and replays the journal. Waits up to 5 s for locks that a dying mount still holds.
 * A remote that does not open is shown as failed, and is fatal only as `only_remote` (-ENOENT: no such remote).
 * No thread runs yet. `config` is borrowed for the life of it.
 */
int serve_new(const struct config *config, const struct serve_options *options, struct serve **ret,
	      struct fault *reterr);

/* A line for each remote that has not opened, with the reason. */
void serve_tell_failed(const struct serve *serve, FILE *to);

/* The userdata of the session is the struct serve. */
const struct fuse_lowlevel_ops *serve_ops(const struct serve *serve);

/* The session is mounted: starts the threads. */
int serve_start(struct serve *serve, struct fuse_session *session);

/*
 * No new work and no notification from here on; what is parked is answered. To be called before the session is
 * unmounted, while its loop still runs, or after it ended.
 */
void serve_stop(struct serve *serve);

/* The process ends whatever is under way: names in the log what is not delivered. From any thread; waits for nothing. */
void serve_name_pending(const struct serve *serve);

void serve_free(struct serve *serve); /* takes NULL */
