/* SPDX-License-Identifier: MIT */
/* The buckets of `local`: plain directories below buckets/, of which `outputs` holds the outputs of jobs. */
#include "local/buckets.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "file.h"
#include "local/local.h"
#include "str.h"

static int local_bucket_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	cleanup_free char *path = store_path(local_of(be)->reader, "buckets");
	cleanup_closedir DIR *dir = path ? opendir(path) : NULL;
	if (!dir)
		return local_fault(reterr, path ? -errno : -ENOMEM, "list buckets");
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		if (!entry)
			return errno ? local_fault(reterr, -errno, "list buckets") : 0;
		struct stat st;
		if (entry->d_name[0] == '.' ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
			continue;
		int r = sink(arg, entry->d_name);
		if (r < 0)
			return r;
	}
}

static int local_bucket_create(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct local *local = local_of(be);
	int r = local_check_name("bucket", bucket, reterr);
	if (r < 0)
		return r;
	cleanup_free char *path = store_path(local->writer, "buckets/%s", bucket);
	if (!path)
		return local_fault(reterr, -ENOMEM, "make a bucket");
	if (mkdir(path, 0777) < 0)
		return errno == EEXIST ? fault_set(reterr, EEXIST, "there is a bucket %s already", bucket)
				       : local_fault(reterr, -errno, "make a bucket");
	store_announce(local->writer);
	return 0;
}

static int local_bucket_remove(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct local *local = local_of(be);
	if (!strcmp(bucket, "outputs"))
		return fault_set(reterr, EBUSY, "the bucket outputs holds the outputs of jobs; it stays");
	if (!str_is_plain_name(bucket))
		return fault_set(reterr, ENOENT, "there is no bucket %s", bucket);
	cleanup_free char *path = store_path(local->writer, "buckets/%s", bucket);
	if (!path)
		return local_fault(reterr, -ENOMEM, "remove a bucket");
	if (rmdir(path) < 0) {
		if (errno == ENOENT)
			return fault_set(reterr, ENOENT, "there is no bucket %s", bucket);
		if (errno == ENOTEMPTY || errno == EEXIST)
			return fault_set(reterr, ENOTEMPTY, "bucket %s is not empty", bucket);
		return local_fault(reterr, -errno, "remove a bucket");
	}
	store_announce(local->writer);
	return 0;
}

static int local_bucket_dir(struct backend *be, const char *bucket, int *ret_fd, struct fault *reterr)
{
	cleanup_free char *path = store_path(local_of(be)->reader, "buckets/%s", bucket);
	if (!path)
		return local_fault(reterr, -ENOMEM, "open a bucket");
	int fd = str_is_plain_name(bucket) ? file_open_dir(AT_FDCWD, path) : -ENOENT;
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return fault_set(reterr, ENOENT, "there is no bucket %s", bucket);
	if (fd < 0)
		return local_fault(reterr, fd, "open a bucket");
	*ret_fd = fd;
	return 0;
}

const struct bucket_ops local_bucket_ops = {
	.list = local_bucket_list,
	.create = local_bucket_create,
	.remove = local_bucket_remove,
	.dir = local_bucket_dir,
};
