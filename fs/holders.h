/* SPDX-License-Identifier: MIT */
/* Which processes use a mount, found in /proc without a look into the mount itself. */
#pragma once

#include "str.h"

#include <stddef.h>
#include <sys/types.h>

/*
 * Appends a line for each process that uses `path` (resolved) or what is below it: "  PID COMMAND: working directory".
 * *ret_n is how many were found. Processes of other users are seen by root only.
 */
int holders_list(const char *path, struct str *text, size_t *ret_n);

/* A trainfs process that has /dev/fuse open and `path` on its command line; -ENOENT. For mounts of other users. */
int holders_find_daemon(const char *path, pid_t *ret);
