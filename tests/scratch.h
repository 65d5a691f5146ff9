/* SPDX-License-Identifier: MIT */
/* A directory of a test's own, below $TMPDIR, gone when the test ends. One a process. */
#pragma once

#include "cleanup.h"
#include "file.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char scratch_path[256];
static int scratch_fd = -1;

/* Its descriptor; its path is in scratch_path. */
static inline int scratch_open(void)
{
	const char *tmp = getenv("TMPDIR");

	umask(022);
	snprintf(scratch_path, sizeof(scratch_path), "%s/trainfs-test.XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(scratch_path) != NULL);
	scratch_fd = open(scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(scratch_fd >= 0);
	return scratch_fd;
}

static inline void scratch_close(void)
{
	if (scratch_fd < 0)
		return;
	close(scratch_fd);
	scratch_fd = -1;
	cr_expect(tree_remove(AT_FDCWD, scratch_path) == 0);
}

/* Entries of a directory. */
static inline int scratch_count(int dirfd)
{
	int n = 0;
	DIR *d = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	cr_assert(d != NULL);
	for (struct dirent *entry; (entry = readdir(d));)
		n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(d);
	return n;
}
