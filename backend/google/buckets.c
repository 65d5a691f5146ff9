/* SPDX-License-Identifier: MIT */
/* Buckets, and what is in them page by page: https://cloud.google.com/storage/docs/json_api/v1/objects/list */
#include <errno.h>
#include <string.h>

#include "base/paging.h"
#include "google/google.h"

enum { GOOGLE_ROWS_MAX = 1000 };

static_assert(GOOGLE_TOKEN_MAX + PAGING_HEAD_MAX <= OBJECT_CURSOR_MAX, "a token fits into a cursor");

/* ---- buckets ---- */

static int google_list_page(struct google *google, const char *project, const char *token, name_sink sink,
			    void *arg, char next[static GOOGLE_TOKEN_MAX + 1], struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	google_call_init(&call, google, "GET");
	google_call_bucket(&call, NULL);
	google_call_query(&call, "fields", "nextPageToken,items(name)");
	google_call_query(&call, "maxResults", "1000");
	google_call_query(&call, "pageToken", *token ? token : NULL);
	google_call_query(&call, "project", project);
	int r = google_call_perform(&call, project, &reply, reterr);
	if (r < 0)
		return r;
	return google_parse_buckets(reply.body.data, reply.body.len, sink, arg, next, reterr);
}

static int google_list_pages(struct google *google, const char *project, name_sink sink, void *arg,
			     bool *ret_is_begun, struct fault *reterr)
{
	char token[GOOGLE_TOKEN_MAX + 1] = "", next[GOOGLE_TOKEN_MAX + 1];
	struct paging paging = {.n_until = 1, .token = token};
	do {
		int r = google_list_page(google, project, token, sink, arg, next, reterr);
		if (r == 0 && *next)
			r = paging_next(&paging, next, reterr);
		if (r < 0)
			return r;
		*ret_is_begun = true;
		memcpy(token, next, sizeof(token));
	} while (*token);
	return 0;
}

static int google_bucket_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	struct google *google = google_of(be);
	cleanup_free char *project = NULL;
	bool is_begun = false;
	int r = google_credentials_project(google->credentials, &project, reterr);
	bool has_project = r == 0;
	if (r == 0)
		r = google_list_pages(google, project, sink, arg, &is_begun, reterr);
	/* who may use its bucket need not see the others, nor name a project */
	bool is_hidden = r == -EPERM || (!has_project && r == -EINVAL);
	return is_hidden && google->bucket && !is_begun ? sink(arg, google->bucket) : r;
}

static char *google_bucket_body(const struct google *google, const char *bucket)
{
	cleanup_json json_t *body =
		json_pack("{s:s, s:s*, s:{s:{s:b}}}", "name", bucket, "location", google->region,
			  "iamConfiguration", "uniformBucketLevelAccess", "enabled", 1);
	return body ? json_dumps(body, JSON_COMPACT) : NULL;
}

static int google_bucket_create(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct google *google = google_of(be);
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	cleanup_free char *project = NULL;
	cleanup_free char *body = NULL;
	if (!google_is_bucket_name(bucket))
		return fault_set(reterr, EINVAL,
				 "bucket \"%s\": a name has 3 to 63 of a-z, 0-9, '-' and '_', and begins and "
				 "ends with a letter or digit",
				 bucket);
	int r = google_credentials_project(google->credentials, &project, reterr);
	if (r < 0)
		return r;
	body = google_bucket_body(google, bucket);
	if (!body)
		return fault_set(reterr, ENOMEM, "bucket \"%s\": %s", bucket, strerror(ENOMEM));
	google_call_init(&call, google, "POST");
	google_call_bucket(&call, NULL);
	google_call_query(&call, "fields", "name");
	google_call_query(&call, "project", project);
	google_call_body(&call, "application/json", body, strlen(body));
	return google_call_perform(&call, bucket, &reply, reterr);
}

static int google_bucket_remove(struct backend *be, const char *bucket, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	google_call_init(&call, google_of(be), "DELETE");
	google_call_bucket(&call, bucket);
	int r = google_call_perform(&call, bucket, &reply, reterr);
	if (r == -ENOENT && reply.n_sent > 1)
		return 0;                 /* an earlier attempt removed it */
	if (r == -EEXIST || r == -ESTALE) /* 409; of some emulators 412 */
		return fault_set(reterr, ENOTEMPTY, "the bucket %s is not empty", bucket);
	return r;
}

/* ---- listings ---- */

static int google_objects(struct backend *be, const char *bucket, const char *prefix, bool is_deep,
			  const char *cursor, unsigned max_rows, object_sink sink, void *arg,
			  struct object_page *ret, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	char next[GOOGLE_TOKEN_MAX + 1] = "";
	struct paging paging;
	struct paging_sink page = {.sink = sink, .arg = arg, .paging = &paging, .token = next, .ret = ret};
	int r = paging_parse(cursor, &paging, reterr);
	if (r < 0)
		return r;
	google_call_init(&call, google_of(be), "GET");
	google_call_object(&call, bucket, NULL);
	google_call_query(&call, "delimiter", is_deep ? NULL : "/");
	google_call_query(&call, "fields",
			  "nextPageToken,prefixes,items(name,size,generation,timeCreated,updated)");
	google_call_query_int(&call, "maxResults", max_rows < GOOGLE_ROWS_MAX ? max_rows : GOOGLE_ROWS_MAX);
	google_call_query(&call, "pageToken", *paging.token ? paging.token : NULL);
	google_call_query(&call, "prefix", *prefix ? prefix : NULL);
	r = google_call_perform(&call, bucket, &reply, reterr);
	if (r == 0)
		r = google_parse_objects(reply.body.data, reply.body.len, prefix, is_deep, paging_row, &page,
					 next, reterr);
	return r < 0 ? r : paging_end(&paging, next, ret, reterr);
}

const struct bucket_ops google_bucket_ops = {
	.version_name = "generation",
	.list = google_bucket_list,
	.create = google_bucket_create,
	.remove = google_bucket_remove,
	.objects = google_objects,
	.object_get = google_object_get,
	.object_read = google_object_read,
	.object_put = google_object_put,
	.object_put_drop = google_object_put_drop,
	.object_copy = google_object_copy,
	.object_remove = google_object_remove,
};
