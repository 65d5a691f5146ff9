/* SPDX-License-Identifier: MIT */
/*
 * A mount point as seen from outside: the kernel's mount table, whether what is there still answers, who serves it,
 * and how to take it away. Nothing here waits for a file system that may not answer.
 */
#pragma once

#include "fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MOUNTPOINT_TYPE "fuse.trainfs"

struct mountpoint {
	unsigned major, minor; /* of the device number of everything in it */
	char *type;            /* "fuse.trainfs" */
	char *source;          /* "gcp:" */
};
void mountpoint_release(struct mountpoint *mountpoint); /* takes a zeroed one; leaves it zeroed */

/* DIR as the mount table names it, also when what is mounted there is dead. -ENOENT, -EACCES, … */
int mountpoint_resolve(const char *dir, char **ret);

/* What is mounted at `path` (resolved), the topmost if several; -ENOENT: nothing is. */
int mountpoint_find(const char *path, struct mountpoint *ret);

/* The mount points below `path`, newline after each, into *ret; "" if there are none. */
int mountpoint_find_below(const char *path, char **ret);

/* Does it answer? 0; -ENOTCONN: its daemon is dead; -ETIMEDOUT: no answer in time. Before threads start. */
int mountpoint_probe(const char *path, int timeout_ms);

/*
 * Unmounts the topmost at `path`: as root by umount2, else by fusermount3. -EBUSY when it is in use (never with
 * `lazily`), -EPERM when it is another's. Callable from any thread.
 */
int mountpoint_detach(const char *path, bool lazily, struct fault *reterr);

/*
 * Records that this process serves `path`, device MAJOR:MINOR: a file under the state directory, locked until the
 * process ends, so that it cannot outlive what it says. *ret is its name, for unlink at the end.
 */
int mountpoint_record(const char *path, unsigned major, unsigned minor, char **ret);

/* The process that serves it, as recorded; -ENOENT if there is none. */
int mountpoint_daemon(const char *path, const struct mountpoint *mountpoint, pid_t *ret);
