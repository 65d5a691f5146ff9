/* SPDX-License-Identifier: MIT */
/* The list of what a package submits, made from a directory that may be hostile. */
#pragma once

#include "fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PACKAGE_ENTRIES_MAX = 1000000,
	PACKAGE_DEPTH_MAX = 256,
	PACKAGE_PATH_MAX = 3840, /* leaves room before it within PATH_MAX */
	PACKAGE_LARGEST = 3,
};

struct package_file {
	const char *path; /* borrowed from package_list.path */
	int64_t size_bytes;
};

struct package_list {
	char **path; /* relative, directories too, parents before children, in byte order within a directory */
	bool *is_dir;
	size_t n_paths, capacity;
	int64_t size_bytes;
	struct package_file largest[PACKAGE_LARGEST];
};

void package_list_release(struct package_list *list); /* takes a zeroed one; leaves it zeroed */

/*
 * Lists the directory open as `dir_fd` (not consumed), following no symlink. `.error` at its root is left out, and
 * what ignore.h leaves out. -EBADMSG for devices, pipes, sockets, too many or too deep; -EFBIG over max_bytes (0: none).
 */
int package_list_make(int dir_fd, int64_t max_bytes, struct package_list *ret, struct fault *reterr);

/* Is there nothing in it that would be submitted, directories apart? Whatever cannot be read counts as something. */
bool package_is_empty(int dir_fd);

enum package_kind { PACKAGE_NONE, PACKAGE_FILE, PACKAGE_DIR };
enum package_kind package_list_find(const struct package_list *list, const char *path);
