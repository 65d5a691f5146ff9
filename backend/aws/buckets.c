/* SPDX-License-Identifier: MIT */
/* Buckets, and what is in them page by page: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html */
#include <errno.h>
#include <string.h>

#include "aws/aws.h"
#include "base/paging.h"

enum { AWS_ROWS_MAX = 1000 };

static_assert(AWS_TOKEN_MAX + PAGING_HEAD_MAX <= OBJECT_CURSOR_MAX, "a token fits into a cursor");

/* ---- buckets ---- */

struct aws_list {
	struct aws *aws;
	name_sink sink;
	void *arg;
};

static int aws_list_bucket(void *arg, const char *name, const char *region)
{
	struct aws_list *list = arg;
	if (*region && aws_is_region(region)) {
		int r = aws_remember(list->aws, name, region);
		if (r < 0)
			return r;
	}
	return list->sink(list->arg, name);
}

static int aws_list_page(struct aws *aws, struct aws_list *list, const char *token,
			 char next[static AWS_TOKEN_MAX + 1], struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	aws_call_init(&call, "GET", NULL, NULL);
	aws_call_query(&call, "max-buckets", "1000");
	aws_call_query(&call, "continuation-token", *token ? token : NULL);
	int r = aws_call_perform(aws, &call, &reply, reterr);
	if (r < 0)
		return r;
	return aws_parse_buckets(reply.body.data, reply.body.len, aws_list_bucket, list, next, reterr);
}

static int aws_bucket_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	struct aws *aws = aws_of(be);
	struct aws_list list = {.aws = aws, .sink = sink, .arg = arg};
	char token[AWS_TOKEN_MAX + 1] = "", next[AWS_TOKEN_MAX + 1];
	struct paging paging = {.n_until = 1, .token = token};
	aws_leftover_sweep(aws);
	do {
		int r = aws_list_page(aws, &list, token, next, reterr);
		if (r == -EPERM && aws->bucket && !*token) /* may use its bucket, and not see the others */
			return sink(arg, aws->bucket);
		if (r == 0 && *next)
			r = paging_next(&paging, next, reterr);
		if (r < 0)
			return r;
		memcpy(token, next, sizeof(token));
	} while (*token);
	return 0;
}

static int aws_bucket_is_there(struct aws *aws, const char *bucket, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	aws_call_init(&call, "HEAD", bucket, NULL);
	return aws_call_perform(aws, &call, &reply, reterr);
}

static int aws_bucket_create(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct aws *aws = aws_of(be);
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	cleanup_free char *region = NULL;
	cleanup_free char *base = NULL;
	cleanup_free char *body = NULL;
	bool is_own;
	if (!aws_is_bucket_name(bucket))
		return fault_set(reterr, EINVAL,
				 "bucket \"%s\": a name has 3 to 63 of a-z, 0-9, '.' and '-', and begins and "
				 "ends with a letter or digit",
				 bucket);
	int r = aws_locate(aws, NULL, &region, &base, &is_own, reterr);
	if (r < 0)
		return r;
	aws_call_init(&call, "PUT", bucket, NULL);
	if (strcmp(region, "us-east-1") != 0) {
		if (str_format(&body,
			       "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
			       "<LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>",
			       region) < 0)
			return fault_set(reterr, ENOMEM, "bucket \"%s\": %s", bucket, strerror(ENOMEM));
		call.request.body = body;
		call.request.body_n = (int64_t)strlen(body);
	} else if (aws_bucket_is_there(aws, bucket, NULL) == 0) {
		/* in that region S3 says yes to making one's own bucket once more */
		return fault_set(reterr, EEXIST, "there is a bucket %s already", bucket);
	}
	call.request.has_body = true;
	return aws_call_perform(aws, &call, &reply, reterr);
}

static int aws_bucket_remove(struct backend *be, const char *bucket, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	aws_call_init(&call, "DELETE", bucket, NULL);
	int r = aws_call_perform(aws_of(be), &call, &reply, reterr);
	return r == -ENOENT && reply.n_sent > 1 ? 0 : r; /* an earlier attempt removed it */
}

/* ---- listings ---- */

static int aws_objects(struct backend *be, const char *bucket, const char *prefix, bool is_deep,
		       const char *cursor, unsigned max_rows, object_sink sink, void *arg,
		       struct object_page *ret, struct fault *reterr)
{
	struct aws *aws = aws_of(be);
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	char rows[16], next[AWS_TOKEN_MAX + 1] = "";
	struct paging paging;
	struct paging_sink page = {.sink = sink, .arg = arg, .paging = &paging, .token = next, .ret = ret};
	int r = paging_parse(cursor, &paging, reterr);
	if (r < 0)
		return r;
	aws_leftover_sweep(aws);
	snprintf(rows, sizeof(rows), "%u", max_rows < AWS_ROWS_MAX ? max_rows : AWS_ROWS_MAX);
	aws_call_init(&call, "GET", bucket, NULL);
	aws_call_query(&call, "continuation-token", *paging.token ? paging.token : NULL);
	aws_call_query(&call, "delimiter", is_deep ? NULL : "/");
	aws_call_query(&call, "encoding-type", "url");
	aws_call_query(&call, "list-type", "2");
	aws_call_query(&call, "max-keys", rows);
	aws_call_query(&call, "prefix", prefix);
	r = aws_call_perform(aws, &call, &reply, reterr);
	if (r == 0)
		r = aws_parse_objects(reply.body.data, reply.body.len, prefix, is_deep, paging_row, &page,
				      next, reterr);
	return r < 0 ? r : paging_end(&paging, next, ret, reterr);
}

const struct bucket_ops aws_bucket_ops = {
	.version_name = "etag",
	.list = aws_bucket_list,
	.create = aws_bucket_create,
	.remove = aws_bucket_remove,
	.objects = aws_objects,
	.object_get = aws_object_get,
	.object_read = aws_object_read,
	.object_checksum = aws_object_checksum,
	.object_put = aws_object_put,
	.object_put_drop = aws_object_put_drop,
	.object_copy = aws_object_copy,
	.object_remove = aws_object_remove,
};
