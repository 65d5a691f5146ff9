/* SPDX-License-Identifier: MIT */
/* The way into a backend, as backend.c: of buckets and what is in them. */
#include "answer.h"

#include <assert.h>
#include <string.h>

enum { OBJECT_NAME_MAX = 200 };

int backend_bucket_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && sink);
	if (!OP(be, buckets, list))
		return backend_missing(be, "list buckets", "buckets", reterr);
	int r = be->type->buckets->list(be, sink, arg, &fault);
	return backend_answer(be, "list buckets", "", r, &fault, reterr);
}

int backend_bucket_create(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && bucket);
	if (!OP(be, buckets, create))
		return backend_missing(be, "make a bucket", bucket, reterr);
	int r = be->type->buckets->create(be, bucket, &fault);
	return backend_answer(be, "create bucket", bucket, r, &fault, reterr);
}

int backend_bucket_remove(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && bucket);
	if (!OP(be, buckets, remove))
		return backend_missing(be, "delete a bucket", bucket, reterr);
	int r = be->type->buckets->remove(be, bucket, &fault);
	return backend_answer(be, "remove bucket", bucket, r, &fault, reterr);
}

int backend_bucket_dir(struct backend *be, const char *bucket, int *ret_fd, struct fault *reterr)
{
	struct fault fault = {0};
	int fd = -1;

	assert(be && bucket && ret_fd);
	if (!OP(be, buckets, dir))
		return backend_missing(be, "open a bucket", bucket, reterr);
	int r = be->type->buckets->dir(be, bucket, &fd, &fault);
	return backend_answer_fd(be, "directory of bucket", bucket, r, fd, ret_fd, &fault, reterr);
}

bool backend_bucket_is_dir(const struct backend *be)
{
	assert(be);
	return OP(be, buckets, dir);
}

const char *backend_bucket_version_name(const struct backend *be)
{
	assert(be && be->type->buckets && be->type->buckets->version_name);
	return be->type->buckets->version_name;
}

/* "bucket/key", for messages; cut where it is too long. */
static const char *object_name(const char *bucket, const char *key, char ret[static OBJECT_NAME_MAX])
{
	(void)snprintf(ret, OBJECT_NAME_MAX, "%.99s/%.99s", bucket, key);
	return ret;
}

static void assert_key(const char *key)
{
	size_t len = strlen(key);
	assert(len > 0 && len <= OBJECT_KEY_MAX);
}

int backend_objects(struct backend *be, const char *bucket, const char *prefix, const char *cursor,
		    unsigned max_rows, object_sink sink, void *arg, struct object_page *ret,
		    struct fault *reterr)
{
	struct fault fault = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && prefix && cursor && sink && ret && cursor != ret->cursor);
	assert(max_rows >= 1 && max_rows <= 1000);
	object_name(bucket, prefix, name);
	if (!OP(be, buckets, objects))
		return backend_missing(be, "list objects", name, reterr);
	*ret = (struct object_page){0};
	int r = be->type->buckets->objects(be, bucket, prefix, false, cursor, max_rows, sink, arg, ret,
					   &fault);
	assert(r < 0 || !ret->has_more || ret->cursor[0]);
	return backend_answer(be, "list objects", name, r, &fault, reterr);
}

int backend_objects_below(struct backend *be, const char *bucket, const char *prefix, unsigned max_rows,
			  object_sink sink, void *arg, bool *ret_more, struct fault *reterr)
{
	struct fault fault = {0};
	struct object_page page = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && prefix && sink && ret_more);
	assert(prefix[0] && prefix[strlen(prefix) - 1] == '/');
	assert(max_rows >= 1 && max_rows <= 1000);
	object_name(bucket, prefix, name);
	if (!OP(be, buckets, objects))
		return backend_missing(be, "list objects", name, reterr);
	int r = be->type->buckets->objects(be, bucket, prefix, true, "", max_rows, sink, arg, &page, &fault);
	if (r == 0)
		*ret_more = page.has_more;
	return backend_answer(be, "list objects", name, r, &fault, reterr);
}

/* The detail of an operation that gives one. */
static int answer_detail(struct backend *be, const char *op, const char *what, int r,
			 struct object_detail *detail, struct object_detail *ret, struct fault *fault,
			 struct fault *reterr)
{
	assert(r < 0 || (detail->version && detail->version[0]));
	assert(r < 0 || strlen(detail->version) <= OBJECT_VERSION_MAX);
	if (r == 0)
		*ret = *detail;
	else
		object_detail_release(detail);
	return backend_answer(be, op, what, r, fault, reterr);
}

int backend_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		       struct fault *reterr)
{
	struct fault fault = {0};
	struct object_detail detail = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && ret);
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_get))
		return backend_missing(be, "look at an object", name, reterr);
	int r = be->type->buckets->object_get(be, bucket, key, &detail, &fault);
	return answer_detail(be, "get object", name, r, &detail, ret, &fault, reterr);
}

int backend_object_read(struct backend *be, const char *bucket, const char *key, const char *version,
			int64_t at, int64_t n, bytes_sink sink, void *arg, struct checksum *sum,
			struct fault *reterr)
{
	struct fault fault = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && version && version[0] && at >= 0 && n >= 0 && sink);
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_read))
		return backend_missing(be, "read an object", name, reterr);
	int r = be->type->buckets->object_read(be, bucket, key, version, at, n, sink, arg, sum, &fault);
	return backend_answer(be, "read object", name, r, &fault, reterr);
}

int backend_object_checksum(struct backend *be, const char *bucket, const char *key, const char *version,
			    struct checksum *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct checksum sum = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && version && version[0] && ret);
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_checksum))
		return backend_missing(be, "ask for a checksum", name, reterr);
	int r = be->type->buckets->object_checksum(be, bucket, key, version, &sum, &fault);
	if (r == 0)
		*ret = sum;
	return backend_answer(be, "get checksum", name, r, &fault, reterr);
}

int backend_object_put_source(struct backend *be, const char *bucket, const char *key,
			      const struct object_source *source, const char *if_version,
			      struct object_upload **upload, struct object_detail *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct object_detail detail = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && source && upload && ret && source->n >= 0);
	assert(source->fd >= 0 || (source->n == 0 && !source->wait));
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_put))
		return backend_missing(be, "write an object", name, reterr);
	int r = be->type->buckets->object_put(be, bucket, key, source, if_version, upload, &detail, &fault);
	assert(r < 0 || !*upload);
	return answer_detail(be, "put object", name, r, &detail, ret, &fault, reterr);
}

void backend_object_put_drop(struct backend *be, struct object_upload *upload)
{
	if (upload)
		be->type->buckets->object_put_drop(be, upload);
}

int backend_object_put(struct backend *be, const char *bucket, const char *key, int fd, int64_t n,
		       const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	const struct object_source source = {.fd = fd, .n = n};
	struct object_upload *upload = NULL;
	int r = backend_object_put_source(be, bucket, key, &source, if_version, &upload, ret, reterr);
	backend_object_put_drop(be, upload);
	return r;
}

int backend_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
			const char *to_bucket, const char *to_key, const char *if_version,
			struct object_detail *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct object_detail detail = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && to_bucket && to_key && ret);
	assert_key(key);
	assert_key(to_key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_copy))
		return backend_missing(be, "copy an object", name, reterr);
	int r = be->type->buckets->object_copy(be, bucket, key, version, to_bucket, to_key, if_version,
					       &detail, &fault);
	return answer_detail(be, "copy object", name, r, &detail, ret, &fault, reterr);
}

int backend_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
			  struct fault *reterr)
{
	struct fault fault = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key);
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_remove))
		return backend_missing(be, "delete an object", name, reterr);
	int r = be->type->buckets->object_remove(be, bucket, key, if_version, &fault);
	return backend_answer(be, "remove object", name, r, &fault, reterr);
}
