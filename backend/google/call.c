/* SPDX-License-Identifier: MIT */
/* One call of Cloud Storage. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "google/google.h"
#include "http/url.h"

void google_call_init(struct google_call *call, struct google *google, const char *method)
{
	*call = (struct google_call){
		.google = google,
		.request = {.method = method, .body_fd = -1, .is_repeatable = true},
	};
}

void google_call_release(struct google_call *call)
{
	str_release(&call->url);
	http_headers_release(&call->headers);
}

static void call_did(struct google_call *call, int r)
{
	if (r < 0 && call->err == 0)
		call->err = r;
}

void google_call_bucket(struct google_call *call, const char *bucket)
{
	call_did(call, google_url_bucket(call->google->storage, bucket, &call->url));
}

void google_call_object(struct google_call *call, const char *bucket, const char *key)
{
	call_did(call, google_url_object(call->google->storage, bucket, key, &call->url));
}

void google_call_upload(struct google_call *call, const char *bucket)
{
	call_did(call, google_url_upload(call->google->storage, bucket, &call->url));
}

void google_call_rewrite(struct google_call *call, const char *bucket, const char *key, const char *to_bucket,
			 const char *to_key)
{
	call_did(call, google_url_rewrite(call->google->storage, bucket, key, to_bucket, to_key, &call->url));
}

void google_call_query(struct google_call *call, const char *name, const char *value)
{
	call_did(call, url_add_query(&call->url, name, value));
}

void google_call_query_int(struct google_call *call, const char *name, int64_t value)
{
	char text[32];
	snprintf(text, sizeof(text), "%" PRId64, value);
	google_call_query(call, name, text);
}

void google_call_header(struct google_call *call, const char *name, const char *value)
{
	call_did(call, http_headers_add(&call->headers, name, value));
}

void google_call_condition(struct google_call *call, const char *if_version)
{
	if (if_version)
		google_call_query(call, "ifGenerationMatch", *if_version ? if_version : "0");
}

void google_call_body(struct google_call *call, const char *type, const void *body, size_t n)
{
	google_call_header(call, "Content-Type", type);
	call->request.has_body = true;
	call->request.body = body;
	call->request.body_n = (int64_t)n;
}

int google_call_perform(struct google_call *call, const char *what, struct http_reply *ret,
			struct fault *reterr)
{
	struct google_bearer bearer = {.credentials = call->google->credentials, .scopes = GOOGLE_SCOPE_ALL};
	*ret = (struct http_reply){0};
	if (call->err == -ENOENT)
		return fault_set(reterr, ENOENT, "\"%s\": Cloud Storage takes no such name for a bucket",
				 what);
	if (call->err == -EINVAL)
		return fault_set(reterr, EINVAL, "\"%s\": Cloud Storage takes no such name", what);
	if (call->err < 0)
		return fault_set(reterr, -call->err, "a request for \"%s\" cannot be made: %s", what,
				 strerror(-call->err));
	call->request.url = call->url.data;
	call->request.headers = &call->headers;
	call->request.authorize = call->is_elsewhere ? NULL : google_authorize;
	call->request.authorize_arg = &bearer;
	call->request.judge = google_judge;
	return http_perform(call->google->client, &call->request, ret, reterr);
}
