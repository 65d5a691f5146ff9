/* SPDX-License-Identifier: MIT */
/* Buckets of mem: the directories of state_dir/buckets; what they hold may be objects (objects.c). */
#include "mem/state.h"

#include "cleanup.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int open_buckets(const struct mem *mem)
{
	return file_open_dir(mem->state_fd, "buckets");
}

static int list_names(const struct mem *mem, name_sink sink, void *arg)
{
	cleanup_closedir DIR *dir = NULL;
	int fd = open_buckets(mem);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		int r = -errno;
		close(fd);
		return r;
	}
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		if (!entry)
			return -errno;
		if (!str_is_plain_name(entry->d_name))
			continue;
		int r = sink(arg, entry->d_name);
		if (r < 0)
			return r;
	}
}

static int list_buckets(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_BUCKET_LIST, reterr);
	if (r == 0)
		r = list_names(mem, sink, arg);
	return mem_leave(mem, MEM_BUCKET_LIST, r, reterr);
}

static int create_bucket(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_BUCKET_CREATE, reterr);
	if (r < 0)
		return r;
	if (!str_is_plain_name(bucket))
		return fault_set(reterr, EINVAL, "%s: '%s' cannot be a bucket's name", mem->name, bucket);
	cleanup_close int buckets = open_buckets(mem);
	if (buckets < 0)
		return buckets;
	if (mkdirat(buckets, bucket, 0755) < 0)
		return fault_set(reterr, errno, "%s: bucket %s cannot be made: %s", mem->name, bucket,
				 strerrordesc_np(errno));
	{
		LOCK_SCOPE(&mem->lock);
		mem_touch_locked(mem);
	}
	return mem_leave(mem, MEM_BUCKET_CREATE, 0, reterr);
}

int mem_bucket_check(const struct mem *mem, const char *bucket, struct fault *reterr)
{
	cleanup_close int buckets = open_buckets(mem);
	if (buckets < 0)
		return buckets;
	cleanup_close int fd = str_is_plain_name(bucket) ? file_open_dir(buckets, bucket) : -ENOENT;
	if (fd < 0)
		return fault_set(reterr, -fd, "%s: there is no bucket %s", mem->name, bucket);
	return 0;
}

static int remove_bucket(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_BUCKET_REMOVE, reterr);
	if (r < 0)
		return r;
	cleanup_close int buckets = open_buckets(mem);
	if (buckets < 0)
		return buckets;
	r = mem_bucket_check(mem, bucket, reterr);
	if (r == 0)
		r = mem_bucket_is_empty(mem, bucket, reterr);
	if (r < 0)
		return r;
	if (unlinkat(buckets, bucket, AT_REMOVEDIR) < 0)
		return fault_set(reterr, errno, "%s: bucket %s cannot be removed: %s", mem->name, bucket,
				 strerrordesc_np(errno));
	{
		LOCK_SCOPE(&mem->lock);
		mem_touch_locked(mem);
	}
	return mem_leave(mem, MEM_BUCKET_REMOVE, 0, reterr);
}

static int bucket_dir(struct backend *be, const char *bucket, int *ret_fd, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_BUCKET_DIR, reterr);
	if (r < 0)
		return r;
	cleanup_close int buckets = open_buckets(mem);
	if (buckets < 0)
		return buckets;
	cleanup_close int fd = str_is_plain_name(bucket) ? file_open_dir(buckets, bucket) : -ENOENT;
	if (fd < 0)
		return fault_set(reterr, -fd, "%s: there is no bucket %s", mem->name, bucket);
	r = mem_leave(mem, MEM_BUCKET_DIR, 0, reterr);
	if (r == 0)
		*ret_fd = STEAL_FD(fd);
	return r;
}

const struct bucket_ops mem_object_ops = {
	.list = list_buckets,
	.create = create_bucket,
	.remove = remove_bucket,
	.objects = mem_objects,
	.version_name = "etag",
	.object_get = mem_object_get,
	.object_read = mem_object_read,
	.object_checksum = mem_object_checksum,
	.object_put = mem_object_put,
	.object_put_drop = mem_object_put_drop,
	.object_copy = mem_object_copy,
	.object_remove = mem_object_remove,
};

const struct bucket_ops mem_bucket_ops = {
	.list = list_buckets,
	.create = create_bucket,
	.remove = remove_bucket,
	.dir = bucket_dir,
};
