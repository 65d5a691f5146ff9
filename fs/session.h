/* SPDX-License-Identifier: MIT */
/*
 * A libfuse session with its place in the mount table: mounting gives a reason when it fails, and unmounting takes away
 * no more than its own.
 */
#pragma once

#include "fault.h"
#include "mountpoint.h"

#include <stdbool.h>

struct fuse_lowlevel_ops;
struct fuse_session;

struct session {
	const char *path; /* borrowed */
	struct mountpoint mountpoint;
	struct fuse_session *fuse;
};

/*
 * Mounts at `path` (resolved, a directory) with the -o options of libfuse. Standard error is captured meanwhile, for
 * what fusermount3 has to say. Before threads start.
 */
int session_open(const char *path, const char *fuse_options, const struct fuse_lowlevel_ops *ops,
		 void *userdata, struct session *ret, struct fault *reterr);

/* Takes libfuse's reading and writing of its connection over, which is fd, for what session.c mends. -errno. */
int session_take_io(struct fuse_session *fuse, int fd);

/*
 * Lets the kernel read SESSION_READ_AHEAD_KB ahead of who reads in order, instead of 128: only root may. -errno. After the
 * mount has answered, for the kernel sets it then.
 */
enum { SESSION_READ_AHEAD_KB = 8192 };
int session_raise_read_ahead(const struct session *session);

/* Unmounts it, lazily if it is in use; does nothing if it is not there any more. Callable from any thread, repeatedly. */
void session_detach(const struct session *session);

/* Detaches and frees; the connection is over afterwards. No thread may be in the session's loop. Takes a zeroed one. */
void session_close(struct session *session);
