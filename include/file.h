/* SPDX-License-Identifier: MIT */
/*
 * Files and trees of this machine, named by a directory descriptor and a path below it (AT_FDCWD: as usual).
 *
 * The trees are hostile: no symlink is followed in the last part of a name, nor anywhere inside a tree; what is
 * neither file, directory nor symlink is refused. Owners are not kept, modes and mtimes are.
 */
#pragma once

#include "fault.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A file as NUL-terminated text. -EFBIG over `max` bytes, -ELOOP a symlink, -EISDIR, -EINVAL no regular file. */
int file_read_all(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len /* may be NULL */);

/* Gives n bytes of `fd` from `at` on to `sink`, block by block; a negative return ends it. -EIO: it is shorter; -ENOMEM. */
typedef int (*file_sink)(void *arg, const void *bytes, size_t n);
int file_each_block(int fd, int64_t at, int64_t n, file_sink sink, void *arg);

/* All of it, whatever signals or short writes come between. */
int file_write_fd(int fd, const void *data, size_t len);

/* Replaces or makes `name` in one step; file and directory are on disk when it returns. */
int file_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode);

/*
 * Opens `path` part by part; a symlink on the way is -ELOOP, a ".." or an absolute path -EINVAL. Always O_CLOEXEC.
 * Returns the descriptor or -errno.
 */
int file_open_below(int dirfd, const char *path, int flags, mode_t mode);

/* Opens the directory `name` itself, no symlink. Returns the descriptor or -errno. */
int file_open_dir(int dirfd, const char *name);

/* Makes a directory and its missing parents. 0 when it is there already. */
int file_make_dirs(int dirfd, const char *path, mode_t mode);

/* Brings a directory's entries to disk. */
int file_sync_dir(int dirfd, const char *name);

/* Copies one regular file to a new one: a reflink where that is possible. -EEXIST, -EINVAL no regular file. */
int file_copy(int src_dirfd, const char *src, int dst_dirfd, const char *dst);

/*
 * Copies a directory to a new one. -EEXIST: `dst` is there; -EINVAL, naming it: a device, socket or fifo, or more
 * than 200 levels. If `dst` lies in `src` it is left out. A failed copy leaves what was made: remove it.
 */
int tree_copy(int src_dirfd, const char *src, int dst_dirfd, const char *dst, struct fault *reterr);

/* Removes a file or a whole tree, also where permissions of its directories are missing. 0 if it is not there. */
int tree_remove(int dirfd, const char *name);

/* Brings every file and directory of a tree to disk. */
int tree_sync(int dirfd, const char *name);

/* Bytes that a tree takes up, as du counts (hard links as often as they are found). */
int tree_size(int dirfd, const char *name, int64_t *ret);
