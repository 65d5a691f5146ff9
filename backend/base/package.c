/* SPDX-License-Identifier: MIT */
/* Copies the listed paths one by one, each reached without following a link. */
#include "base/package.h"

#include "base/tree.h"
#include "cleanup.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* The directory that holds `path`, and where its last part begins. Returns a descriptor or -errno. */
static int open_parent(int root, const char *path, const char **ret_last)
{
	const char *slash = strrchr(path, '/');

	if (!slash) {
		*ret_last = path;
		return file_open_dir(root, ".");
	}
	cleanup_free char *parent = strndup(path, (size_t)(slash - path));
	if (!parent)
		return -ENOMEM;
	*ret_last = slash + 1;
	return file_open_below(root, parent, O_RDONLY | O_DIRECTORY, 0);
}

static int copy_one(int src_root, int dst_root, const char *path)
{
	const char *name;
	struct stat st;
	cleanup_close int src = open_parent(src_root, path, &name);
	if (src < 0)
		return src;
	cleanup_close int dst = open_parent(dst_root, path, &name);
	if (dst < 0)
		return dst;
	if (fstatat(src, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return mkdirat(dst, name, 0700) < 0 ? -errno : 0;
	if (S_ISLNK(st.st_mode))
		return tree_copy_link(src, name, dst);
	return file_copy(src, name, dst, name); /* -EINVAL for what is no file */
}

/* Modes and times of directories, once they are full. */
static int finish_dir(int src_root, int dst_root, const char *path)
{
	struct stat st;
	cleanup_close int src = file_open_below(src_root, path, O_PATH, 0);
	if (src < 0)
		return src;
	if (fstat(src, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return 0;
	cleanup_close int dst = file_open_below(dst_root, path, O_RDONLY | O_DIRECTORY, 0);
	if (dst < 0)
		return dst;
	return tree_finish_dir(dst, &st);
}

int package_copy(const struct package *package, int dst_dirfd, const char *name, struct fault *reterr)
{
	cleanup_close int src = file_open_dir(AT_FDCWD, package->dir);
	if (src < 0)
		return fault_set(reterr, -src, "%s: cannot be read", package->dir);
	if (mkdirat(dst_dirfd, name, 0755) < 0)
		return fault_set(reterr, errno, "%s: cannot be made", name);
	cleanup_close int dst = file_open_dir(dst_dirfd, name);
	if (dst < 0)
		return fault_set(reterr, -dst, "%s: cannot be opened", name);
	for (size_t i = 0; i < package->n_paths; i++) {
		int r = copy_one(src, dst, package->path[i]);
		if (r < 0)
			return fault_set(reterr, -r, "%s: cannot be copied: %s", package->path[i],
					 strerrordesc_np(-r));
	}
	for (size_t i = package->n_paths; i-- > 0;) {
		int r = finish_dir(src, dst, package->path[i]);
		if (r < 0)
			return fault_set(reterr, -r, "%s: its mode cannot be set", package->path[i]);
	}
	return 0;
}
