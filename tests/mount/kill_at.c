/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a daemon by test_faults.py: kills it, as kill -9 does, at the Nth change that it is about to make on the
 * disk. $TRAINFS_TEST_KILL is a file that says "PID N" once the counting shall begin; other processes are left alone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int n_left = -1; /* not read yet */

static void step(void)
{
	const char *path = getenv("TRAINFS_TEST_KILL");
	if (!path || n_left == -2)
		return;
	if (n_left == -1) {
		int pid, n, none = -1;
		FILE *file = fopen(path, "re");
		if (!file)
			return;
		int n_read = fscanf(file, "%d %d", &pid, &n);
		fclose(file);
		if (n_read == 2)
			atomic_compare_exchange_strong(&n_left, &none, pid == getpid() ? n : -2);
	}
	if (n_left > 0 && atomic_fetch_sub(&n_left, 1) == 1)
		kill(getpid(), SIGKILL);
}

#define STEP(type, name, parameters, arguments)                                       \
	type name parameters;                                                         \
	type name parameters                                                          \
	{                                                                             \
		type(*next) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
		step();                                                               \
		return next arguments;                                                \
	}

STEP(int, fsync, (int fd), (fd))
STEP(int, fdatasync, (int fd), (fd))
STEP(int, syncfs, (int fd), (fd))
STEP(int, rename, (const char *old, const char *new), (old, new))
STEP(int, renameat, (int from, const char *old, int to, const char *new), (from, old, to, new))
STEP(int, unlink, (const char *path), (path))
STEP(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
STEP(int, mkdir, (const char *path, mode_t mode), (path, mode))
STEP(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
STEP(int, linkat, (int from, const char *old, int to, const char *new, int flags),
     (from, old, to, new, flags))
STEP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
