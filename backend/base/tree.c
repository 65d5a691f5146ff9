/* SPDX-License-Identifier: MIT */
/*
 * Whole trees: copied, removed, brought to disk, measured. Each works on descriptors, one a level, so that nothing
 * that is moved or linked meanwhile leads out of the tree.
 */
#include "base/tree.h"

#include "cleanup.h"
#include "file.h"
#include "str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

enum { LEVELS_MAX = 200, REMOVE_LEVELS_MAX = 50 };

/* Reads a directory through a descriptor of its own: `fd` stays the caller's. */
static int dir_open(int fd, DIR **ret)
{
	cleanup_close int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own < 0)
		return -errno;
	DIR *dir = fdopendir(own);
	if (!dir)
		return -errno;
	(void)STEAL_FD(own);
	*ret = dir;
	return 0;
}

/* The next name but "." and ".."; *ret is NULL at the end. Borrowed from `dir`. */
static int dir_next(DIR *dir, const char **ret)
{
	struct dirent *entry;

	do {
		errno = 0;
		entry = readdir(dir);
		if (!entry && errno)
			return -errno;
	} while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	*ret = entry ? entry->d_name : NULL;
	return 0;
}

typedef int (*name_visit)(void *arg, int dirfd, const char *name);

/* Calls `visit` with each name in a directory, until one fails. */
static int dir_each(int fd, name_visit visit, void *arg)
{
	cleanup_closedir DIR *dir = NULL;
	const char *name = NULL;

	int r = dir_open(fd, &dir);
	while (r == 0) {
		r = dir_next(dir, &name);
		if (r < 0 || !name)
			break;
		r = visit(arg, fd, name);
	}
	return r;
}

/* ---- copying ---- */

struct copy {
	dev_t dev; /* the copy's own root: never copied into itself */
	ino_t ino;
	int levels;
	struct str where; /* below the root of the tree, for the fault */
	struct fault *reterr;
};

static int copy_dir(struct copy *copy, int src, int dst);

static int copy_fault(struct copy *copy, int r, const char *what)
{
	const char *where = copy->where.data && !copy->where.err ? copy->where.data : "";

	return fault_set(copy->reterr, -r, "%s: %s", *where ? where : ".", what);
}

int tree_copy_link(int src, const char *name, int dst)
{
	char target[4097];
	ssize_t n = readlinkat(src, name, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, dst, name) < 0 ? -errno : 0;
}

int tree_finish_dir(int fd, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};

	if (fchmod(fd, st->st_mode & 07777) < 0 || futimens(fd, times) < 0)
		return -errno;
	return 0;
}

static int copy_subdir(struct copy *copy, int src, const char *name, int dst)
{
	struct stat st;
	cleanup_close int from = file_open_dir(src, name);
	if (from < 0)
		return copy_fault(copy, from, "cannot be read");
	if (fstat(from, &st) < 0)
		return copy_fault(copy, -errno, "cannot be read");
	if (st.st_dev == copy->dev && st.st_ino == copy->ino)
		return 0;
	if (copy->levels >= LEVELS_MAX)
		return copy_fault(copy, -EINVAL, "too many levels of directories");
	if (mkdirat(dst, name, 0700) < 0)
		return copy_fault(copy, -errno, "its copy cannot be made");
	cleanup_close int to = file_open_dir(dst, name);
	if (to < 0)
		return copy_fault(copy, to, "its copy cannot be opened");
	copy->levels++;
	int r = copy_dir(copy, from, to);
	copy->levels--;
	if (r == 0) {
		r = tree_finish_dir(to, &st);
		if (r < 0)
			return copy_fault(copy, r, "mode and time of its copy cannot be set");
	}
	return r;
}

static int copy_entry(struct copy *copy, int src, const char *name, int dst)
{
	struct stat st;

	if (fstatat(src, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : copy_fault(copy, -errno, "cannot be looked at");
	if (S_ISDIR(st.st_mode))
		return copy_subdir(copy, src, name, dst);
	int r;
	if (S_ISREG(st.st_mode))
		r = file_copy(src, name, dst, name);
	else if (S_ISLNK(st.st_mode))
		r = tree_copy_link(src, name, dst);
	else
		return copy_fault(
			copy, -EINVAL,
			"is a device, a socket or a fifo: only files, directories and links are copied");
	return r < 0 ? copy_fault(copy, r, "cannot be copied") : 0;
}

static int copy_dir(struct copy *copy, int src, int dst)
{
	cleanup_closedir DIR *dir = NULL;
	const char *name = NULL;

	int r = dir_open(src, &dir);
	if (r < 0)
		return copy_fault(copy, r, "cannot be read");
	for (;;) {
		r = dir_next(dir, &name);
		if (r < 0)
			return copy_fault(copy, r, "cannot be read");
		if (!name)
			return 0;
		size_t len = copy->where.len;
		str_printf(&copy->where, "%s%s", len ? "/" : "", name);
		r = copy_entry(copy, src, name, dst);
		if (r < 0)
			return r;
		if (copy->where.data) {
			copy->where.len = len;
			copy->where.data[len] = '\0';
		}
	}
}

int tree_copy(int src_dirfd, const char *src, int dst_dirfd, const char *dst, struct fault *reterr)
{
	struct stat st, made;
	cleanup_close int from = file_open_dir(src_dirfd, src);
	if (from < 0)
		return fault_set(reterr, -from, "%s: cannot be read", src);
	if (fstat(from, &st) < 0)
		return fault_set(reterr, errno, "%s: cannot be read", src);
	if (mkdirat(dst_dirfd, dst, 0700) < 0)
		return fault_set(reterr, errno, "%s: cannot be made", dst);
	cleanup_close int to = file_open_dir(dst_dirfd, dst);
	if (to < 0)
		return fault_set(reterr, -to, "%s: cannot be opened", dst);
	if (fstat(to, &made) < 0)
		return fault_set(reterr, errno, "%s: cannot be opened", dst);
	struct copy copy = {.dev = made.st_dev, .ino = made.st_ino, .reterr = reterr};
	int r = copy_dir(&copy, from, to);
	str_release(&copy.where);
	if (r < 0)
		return r;
	r = tree_finish_dir(to, &st);
	return r < 0 ? fault_set(reterr, -r, "%s: mode and time cannot be set", dst) : 0;
}

/* ---- removing ---- */

struct removal {
	int root; /* what is too deep is moved here, and met again later */
	int levels;
	unsigned n_moved;
	bool has_moved;
};

/* A directory that we may read and change, whatever its mode was. */
static int open_for_removal(int dirfd, const char *name)
{
	struct stat st;
	int fd = file_open_dir(dirfd, name);
	if (fd == -EACCES && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
	    fchmodat(dirfd, name, 0700, 0) == 0)
		fd = file_open_dir(dirfd, name);
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)fchmod(fd, 0700); /* if not, unlinking says so */
	return fd;
}

/* Up to the root, where it is level 1 again: descriptors are bounded, depth is not. */
static int move_up(struct removal *removal, int dirfd, const char *name)
{
	char up[40];

	do {
		(void)snprintf(up, sizeof(up), ".deep-%d-%u", (int)getpid(), removal->n_moved++);
	} while (faccessat(removal->root, up, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	int r = renameat(dirfd, name, removal->root, up);
	if (r < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0) /* its ".." is to change */
		r = renameat(dirfd, name, removal->root, up);
	if (r < 0)
		return -errno;
	removal->has_moved = true;
	return 0;
}

static int remove_entry(void *arg, int dirfd, const char *name)
{
	struct removal *removal = arg;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (removal->levels >= REMOVE_LEVELS_MAX)
		return move_up(removal, dirfd, name);
	cleanup_close int fd = open_for_removal(dirfd, name);
	if (fd < 0)
		return fd == -ENOTDIR ? -EPERM : fd;
	removal->levels++;
	int r = dir_each(fd, remove_entry, removal);
	removal->levels--;
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int tree_remove(int dirfd, const char *name)
{
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	cleanup_close int fd = open_for_removal(dirfd, name);
	if (fd < 0)
		return fd == -ENOTDIR ? -EPERM : fd;
	struct removal removal = {.root = fd};
	do {
		removal.has_moved = false;
		int r = dir_each(fd, remove_entry, &removal);
		if (r < 0)
			return r;
	} while (removal.has_moved);
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

/* ---- walking without changing ---- */

typedef int (*tree_visit)(void *arg, int dirfd, const char *name, const struct stat *st);

struct walk {
	tree_visit visit;
	void *arg;
	int levels;
};

/* Visits `name` and everything below it, children before parents. */
static int walk_entry(void *arg, int dirfd, const char *name)
{
	struct walk *walk = arg;
	struct stat st;
	int r = 0;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT && walk->levels > 0 ? 0 : -errno;
	if (S_ISDIR(st.st_mode)) {
		cleanup_close int fd = walk->levels <= LEVELS_MAX ? file_open_dir(dirfd, name) : -ELOOP;
		walk->levels++;
		r = fd < 0 ? fd : dir_each(fd, walk_entry, walk);
		walk->levels--;
	}
	return r < 0 ? r : walk->visit(walk->arg, dirfd, name, &st);
}

static int tree_walk(int dirfd, const char *name, tree_visit visit, void *arg)
{
	struct walk walk = {.visit = visit, .arg = arg};

	return walk_entry(&walk, dirfd, name);
}

static int sync_one(void *arg, int dirfd, const char *name, const struct stat *st)
{
	if (!S_ISDIR(st->st_mode) && !S_ISREG(st->st_mode))
		return 0;
	cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

int tree_sync(int dirfd, const char *name)
{
	return tree_walk(dirfd, name, sync_one, NULL);
}

static int add_size(void *arg, int dirfd, const char *name, const struct stat *st)
{
	*(int64_t *)arg += (int64_t)st->st_blocks * 512;
	return 0;
}

int tree_size(int dirfd, const char *name, int64_t *ret)
{
	int64_t sum = 0;
	int r = tree_walk(dirfd, name, add_size, &sum);
	if (r < 0)
		return r;
	*ret = sum;
	return 0;
}
