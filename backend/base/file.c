/* SPDX-License-Identifier: MIT */
/* Single files below a directory descriptor: read whole, replaced in one step, copied cheaply. */
#include "file.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>

enum { COPY_CHUNK = 256 << 10, COPY_RANGE_MAX = 1 << 30 };

/* O_NONBLOCK: a fifo must not hang us before we see that it is one. */
static int open_regular(int dirfd, const char *path, struct stat *ret_stat)
{
	cleanup_close int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_stat) < 0)
		return -errno;
	if (S_ISDIR(ret_stat->st_mode))
		return -EISDIR;
	if (!S_ISREG(ret_stat->st_mode))
		return -EINVAL;
	return STEAL_FD(fd);
}

/* At most `n` bytes, fewer only at the end of the file. */
static ssize_t read_full(int fd, char *buf, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = read(fd, buf + got, n - got);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

int file_read_all(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	struct stat st;
	cleanup_close int fd = open_regular(dirfd, path, &st);
	if (fd < 0)
		return fd;
	if (st.st_size > 0 && (uint64_t)st.st_size > max)
		return -EFBIG;
	/* The size is a hint only: files of /proc have none, and a log grows meanwhile. */
	size_t capacity = st.st_size > 0 ? (size_t)st.st_size + 1 : 4096, len = 0;
	cleanup_free char *data = NULL;
	for (;;) {
		char *bigger = realloc(data, capacity + 1);
		if (!bigger)
			return -ENOMEM;
		data = bigger;
		ssize_t n = read_full(fd, data + len, capacity - len);
		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
		if (len < capacity)
			break;
		capacity *= 2;
	}
	data[len] = '\0';
	*ret = STEAL(data);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int file_write_fd(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int file_sync_dir(int dirfd, const char *name)
{
	cleanup_close int fd = file_open_dir(dirfd, name);
	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? -errno : 0;
}

/* `name`'s own directory, for files that are to be renamed over it. */
static int parent_of(const char *name, char **ret)
{
	const char *slash = strrchr(name, '/');

	*ret = slash ? strndup(name, slash == name ? 1 : (size_t)(slash - name)) : strdup(".");
	return *ret ? 0 : -ENOMEM;
}

static int write_and_sync(int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
	cleanup_close int fd =
		openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = file_write_fd(fd, data, len);
	if (r < 0)
		return r;
	if (fchmod(fd, mode) < 0 || fsync(fd) < 0) /* umask has no say in a mode that was asked for */
		return -errno;
	return 0;
}

int file_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
	cleanup_free char *parent = NULL;
	char temporary[32];
	uint64_t random;

	int r = parent_of(name, &parent);
	if (r < 0)
		return r;
	cleanup_close int dir = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	(void)snprintf(temporary, sizeof(temporary), ".tmp-%016llx", (unsigned long long)random);
	const char *slash = strrchr(name, '/');
	r = write_and_sync(dir, temporary, data, len, mode);
	if (r == 0 && renameat(dir, temporary, dir, slash ? slash + 1 : name) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dir, temporary, 0); /* may never have come to be */
		return r;
	}
	return fsync(dir) < 0 ? -errno : 0;
}

int file_open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The next part of *path, which moves on; an empty text at its end. -EINVAL for "..". */
static int next_part(const char **path, char ret[static 256])
{
	*path += strspn(*path, "/");
	size_t n = strcspn(*path, "/");
	if (n > 255)
		return -ENAMETOOLONG;
	memcpy(ret, *path, n);
	ret[n] = '\0';
	*path += n;
	return strcmp(ret, "..") == 0 ? -EINVAL : 0;
}

static bool is_last(const char *rest)
{
	return rest[strspn(rest, "/")] == '\0';
}

/* openat with O_DIRECTORY says ENOTDIR of a symlink; the caller is to hear what it was. */
static int open_part(int dirfd, const char *part)
{
	struct stat st;
	int fd = file_open_dir(dirfd, part);

	if (fd == -ENOTDIR && fstatat(dirfd, part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return -ELOOP;
	return fd;
}

int file_open_below(int dirfd, const char *path, int flags, mode_t mode)
{
	cleanup_close int dir = -1;
	char part[256];

	if (path[0] == '/' || path[0] == '\0')
		return -EINVAL;
	for (;;) {
		int r = next_part(&path, part);
		if (r < 0)
			return r;
		int at = dir >= 0 ? dir : dirfd;
		if (is_last(path)) {
			int fd = openat(at, part, flags | O_NOFOLLOW | O_CLOEXEC, mode);
			return fd < 0 ? -errno : fd;
		}
		int fd = open_part(at, part);
		if (fd < 0)
			return fd;
		cleanup_close_(&dir);
		dir = fd;
	}
}

int file_make_dirs(int dirfd, const char *path, mode_t mode)
{
	cleanup_free char *copy = strdup(path);
	struct stat st;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + strspn(copy, "/"); *p;) {
		p += strcspn(p, "/");
		char kept = *p;
		*p = '\0';
		if (mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST) {
			int err = errno;
			/* A parent on a read-only file system that is there already is fine. */
			if (fstatat(dirfd, copy, &st, 0) < 0)
				return -err;
		}
		*p = kept;
		p += strspn(p, "/");
	}
	if (fstatat(dirfd, path, &st, 0) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* From where both descriptors stand to the end: in the kernel as far as it can, the rest by hand. */
static int copy_bytes(int src, int dst)
{
	cleanup_free char *buf = NULL;

	while (copy_file_range(src, NULL, dst, NULL, COPY_RANGE_MAX, 0) > 0)
		;
	/* Refused, or the end: reading on finds out which, and repeats a true error. */
	buf = malloc(COPY_CHUNK);
	if (!buf)
		return -ENOMEM;
	for (;;) {
		ssize_t n = read_full(src, buf, COPY_CHUNK);
		if (n < 0)
			return (int)n;
		int r = file_write_fd(dst, buf, (size_t)n);
		if (r < 0)
			return r;
		if (n < COPY_CHUNK)
			return 0;
	}
}

int file_copy(int src_dirfd, const char *src, int dst_dirfd, const char *dst)
{
	struct stat st;
	cleanup_close int from = open_regular(src_dirfd, src, &st);
	if (from < 0)
		return from;
	cleanup_close int to =
		openat(dst_dirfd, dst, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	int r = ioctl(to, FICLONE, from) == 0 ? 0 : copy_bytes(from, to);
	if (r == 0 && fchmod(to, st.st_mode & 07777) < 0)
		r = -errno;
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (r == 0 && futimens(to, times) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dst_dirfd, dst, 0); /* made above, and no use to anyone */
	return r;
}

int file_each_block(int fd, int64_t at, int64_t n, file_sink sink, void *arg)
{
	enum { BLOCK = 256 << 10 };
	cleanup_free char *block = malloc(BLOCK);
	if (!block)
		return -ENOMEM;
	while (n > 0) {
		ssize_t got = pread(fd, block, n < BLOCK ? (size_t)n : BLOCK, at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		int r = sink(arg, block, (size_t)got);
		if (r < 0)
			return r;
		at += got;
		n -= got;
	}
	return 0;
}
