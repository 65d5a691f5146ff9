/* SPDX-License-Identifier: MIT */
/*
 * Puts of mem. What has more than a part is sent in parts, as its source has them, to a file without a name; the last
 * makes the object of it. What fails for the time being keeps that file for the next put.
 */
#include "mem/state.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>

enum { CHUNK = 256 << 10 };

struct mem_upload {
	struct object_upload base;
	int fd;
};

static int copy_bytes(int from_fd, int64_t from, int to_fd, int64_t to, int64_t n)
{
	cleanup_free char *buf = malloc(CHUNK);
	if (!buf)
		return -ENOMEM;
	while (n > 0) {
		ssize_t got = pread(from_fd, buf, n < CHUNK ? n : CHUNK, from);
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		if (pwrite(to_fd, buf, got, to) != got)
			return -ENOSPC;
		from += got;
		to += got;
		n -= got;
	}
	return 0;
}

/* The bytes of a file become the key's. */
static int put_file(struct mem *mem, const char *bucket, const char *key, int fd, int64_t n,
		    const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	int64_t at = mem_object_reserve(mem, n);
	int r = copy_bytes(fd, 0, mem->data_fd, at, n);
	return r < 0 ? r : mem_object_commit(mem, bucket, key, at, n, if_version, ret, reterr);
}

static struct mem_upload *upload_new(const struct mem *mem)
{
	struct mem_upload *upload = calloc(1, sizeof(*upload));
	int fd = openat(mem->state_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (upload && fd >= 0) {
		upload->fd = fd;
		return upload;
	}
	cleanup_close_(&fd);
	free(upload);
	return NULL;
}

void mem_object_put_drop(struct backend *be, struct object_upload *base)
{
	struct mem_upload *upload = (struct mem_upload *)base;
	close(upload->fd);
	free(upload);
}

static int send_part(struct mem *mem, struct mem_upload *upload, const struct object_source *source,
		     int64_t n, struct fault *reterr)
{
	int64_t at = upload->base.n_sent;
	int r = mem_enter(mem, MEM_OBJECT_PART, reterr);
	if (r == 0)
		r = copy_bytes(source->fd, at, upload->fd, at, n - at);
	if (r < 0)
		return r;
	upload->base.n_sent = n;
	object_source_sent(source, n);
	return mem_leave(mem, MEM_OBJECT_PART, 0, reterr);
}

static int send_parts(struct mem *mem, struct mem_upload *upload, const struct object_source *source,
		      struct fault *reterr)
{
	bool is_all = false;
	int r = 0;
	while (r == 0 && !is_all) {
		int64_t n, end = upload->base.n_sent + MEM_PART_BYTES;
		r = object_source_await(source, end, end, &n, &is_all);
		if (r == 0 && n > upload->base.n_sent)
			r = send_part(mem, upload, source, n, reterr);
	}
	return r;
}

static int put_in_parts(struct mem *mem, const char *bucket, const char *key,
			const struct object_source *source, const char *if_version,
			struct object_upload **keep, struct object_detail *ret, struct fault *reterr)
{
	struct mem_upload *upload = (struct mem_upload *)STEAL(*keep) ?: upload_new(mem);
	if (!upload)
		return -ENOMEM;
	int r = send_parts(mem, upload, source, reterr);
	if (r == 0)
		r = put_file(mem, bucket, key, upload->fd, upload->base.n_sent, if_version, ret, reterr);
	if (r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EIO || r == -EAGAIN)
		*keep = &upload->base;
	else
		mem_object_put_drop(&mem->base, &upload->base);
	return r;
}

int mem_object_put(struct backend *be, const char *bucket, const char *key,
		   const struct object_source *source, const char *if_version, struct object_upload **upload,
		   struct object_detail *ret, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int64_t n;
	bool is_all;
	int r = mem_enter(mem, MEM_OBJECT_PUT, reterr);
	if (r == 0)
		r = mem_bucket_check(mem, bucket, reterr);
	if (r == 0)
		r = object_source_await(source, MEM_PART_BYTES + 1, MEM_PART_BYTES + 1, &n, &is_all);
	if (r < 0)
		return r;
	if (n > MEM_PART_BYTES)
		r = put_in_parts(mem, bucket, key, source, if_version, upload, ret, reterr);
	else
		r = put_file(mem, bucket, key, source->fd, n, if_version, ret, reterr);
	return r < 0 ? r : mem_leave(mem, MEM_OBJECT_PUT, 0, reterr);
}
