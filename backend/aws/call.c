/* SPDX-License-Identifier: MIT */
/*
 * One call of S3, sent to the region that its bucket is in. A region is learned from the answer of the wrong one, once a
 * bucket; https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
 */
#include "aws/aws.h"

#include <errno.h>
#include <string.h>

#include "http/url.h"

enum { AWS_CALL_PLACES_MAX = 3, AWS_REGIONS_MAX = 100000 };

void aws_call_init(struct aws_call *call, const char *method, const char *bucket, const char *key)
{
	*call = (struct aws_call){
		.bucket = bucket,
		.key = key,
		.request = {.method = method, .body_fd = -1, .is_repeatable = true},
	};
}

void aws_call_release(struct aws_call *call)
{
	str_release(&call->query);
	http_headers_release(&call->headers);
}

void aws_call_query(struct aws_call *call, const char *name, const char *value)
{
	(void)url_add_query(&call->query, name, value); /* sticky in the text */
}

void aws_call_header(struct aws_call *call, const char *name, const char *value)
{
	int r = value ? http_headers_add(&call->headers, name, value) : 0;
	if (r < 0 && call->err == 0)
		call->err = r;
}

void aws_call_condition(struct aws_call *call, const char *if_version)
{
	cleanup_free char *quoted = NULL;
	if (!if_version)
		return;
	if (!*if_version) {
		aws_call_header(call, "If-None-Match", "*");
		return;
	}
	bool is_bare = !str_has_suffix(if_version, "\"");
	int r = str_format(&quoted, is_bare ? "\"%s\"" : "%s", if_version);
	if (r < 0)
		call->err = r;
	aws_call_header(call, "If-Match", quoted);
}

/* ---- where ---- */

static int aws_find_region_locked(struct aws *aws, const char *bucket, char **ret)
{
	const char *region = json_string_value(json_object_get(aws->regions, bucket ? bucket : ""));
	if (!region)
		region = aws->region;
	if (!region)
		return -ENOENT;
	*ret = strdup(region);
	return *ret ? 0 : -ENOMEM;
}

static int aws_find_place_locked(struct aws *aws, const char *region, char **ret_base, bool *ret_is_own)
{
	json_t *place = json_object_get(aws->places, region);
	if (!place)
		return -ENOENT;
	*ret_is_own = json_is_true(json_array_get(place, 1));
	*ret_base = strdup(json_string_value(json_array_get(place, 0)));
	return *ret_base ? 0 : -ENOMEM;
}

/* Asks the settings, and perhaps the instance's metadata, which blocks: no lock is held. */
static int aws_ask_place(struct aws *aws, const char *region, char **ret_base, bool *ret_is_own,
			 struct fault *reterr)
{
	{
		LOCK_SCOPE(&aws->lock);
		int r = aws_find_place_locked(aws, region, ret_base, ret_is_own);
		if (r != -ENOENT)
			return r;
	}
	int r = aws_credentials_endpoint(aws->credentials, "s3", region, ret_base, ret_is_own, reterr);
	if (r < 0)
		return r;
	LOCK_SCOPE(&aws->lock);
	if (json_object_size(aws->places) < AWS_REGIONS_MAX)
		/* only a saving */
		(void)json_object_set_new(aws->places, region, json_pack("[s, b]", *ret_base, *ret_is_own));
	return 0;
}

/* Services of others do not care, and many people name none: then the oldest region stands for it. */
static int aws_ask_region(struct aws *aws, char **ret, struct fault *reterr)
{
	static const char oldest[] = "us-east-1";
	cleanup_free char *base = NULL;
	bool is_own = false;
	int r = aws_credentials_region(aws->credentials, ret, reterr);
	if (r == -EINVAL && aws_ask_place(aws, oldest, &base, &is_own, NULL) == 0 && is_own) {
		*ret = strdup(oldest);
		r = *ret ? 0 : -ENOMEM;
	}
	if (r < 0)
		return r;
	LOCK_SCOPE(&aws->lock);
	if (!aws->region)
		aws->region = strdup(*ret);
	return aws->region ? 0 : -ENOMEM;
}

int aws_locate(struct aws *aws, const char *bucket, char **ret_region, char **ret_base, bool *ret_is_own,
	       struct fault *reterr)
{
	cleanup_free char *region = NULL;
	int r;
	{
		LOCK_SCOPE(&aws->lock);
		r = aws_find_region_locked(aws, bucket, &region);
	}
	if (r == -ENOENT)
		r = aws_ask_region(aws, &region, reterr);
	if (r == 0)
		r = aws_ask_place(aws, region, ret_base, ret_is_own, reterr);
	if (r == 0)
		*ret_region = STEAL(region);
	return r;
}

int aws_remember(struct aws *aws, const char *bucket, const char *region)
{
	LOCK_SCOPE(&aws->lock);
	if (json_object_size(aws->regions) >= AWS_REGIONS_MAX)
		json_object_clear(aws->regions);
	return json_object_set_new(aws->regions, bucket ? bucket : "", json_string(region)) < 0 ? -ENOMEM : 0;
}

/* ---- the call ---- */

/* Sends it to one region. */
static int aws_call_send(struct aws *aws, struct aws_call *call, const char *region, const char *url,
			 struct http_reply *ret, struct fault *reterr)
{
	struct aws_signing signing = {.credentials = aws->credentials, .service = "s3", .region = region};
	call->request.url = url;
	call->request.headers = &call->headers;
	call->request.authorize = aws_authorize;
	call->request.authorize_arg = &signing;
	call->request.judge = aws_judge;
	return http_perform(aws->client, &call->request, ret, reterr);
}

static int aws_call_url(const struct aws_call *call, const struct aws_place *place, struct str *url,
			struct fault *reterr)
{
	int r = aws_url(place, call->bucket, call->key, url);
	if (r == 0 && call->query.len > 0)
		r = str_append_n(url, call->query.data, call->query.len);
	if (r == 0)
		r = call->query.err ? call->query.err : call->err;
	if (r == -EINVAL && call->bucket && url->len == 0)
		return fault_set(reterr, ENOENT, "there is no bucket \"%s\": S3 takes no such name",
				 call->bucket);
	return r < 0 ? fault_set(reterr, -r, "a request for \"%s\" cannot be made: %s",
				 call->key ? call->key : "", strerror(-r))
		     : 0;
}

int aws_call_perform(struct aws *aws, struct aws_call *call, struct http_reply *ret, struct fault *reterr)
{
	if (call->bucket && str_has_suffix(call->bucket, "--x-s3"))
		return fault_set(
			reterr, EOPNOTSUPP,
			"%s is a directory bucket (S3 Express One Zone), which trainfs cannot talk to: "
			"take a general purpose bucket",
			call->bucket);
	for (int i = 0;; i++) {
		cleanup_free char *region = NULL;
		cleanup_free char *base = NULL;
		cleanup_str struct str url = {0};
		char other[AWS_REGION_MAX];
		struct aws_place place = {0};
		int r = aws_locate(aws, call->bucket, &region, &base, &place.is_own, reterr);
		if (r < 0)
			return r;
		place.base = base;
		r = aws_call_url(call, &place, &url, reterr);
		if (r == 0)
			r = aws_call_send(aws, call, region, url.data, ret, reterr);
		if (r == 0 || ret->status == 0 || i + 1 == AWS_CALL_PLACES_MAX ||
		    !aws_error_region(ret, other) || !strcmp(other, region) ||
		    aws_remember(aws, call->bucket, other) < 0)
			return r;
		http_reply_release(ret);
	}
}

void aws_reply_error(const struct http_reply *reply, struct aws_error *ret)
{
	*ret = (struct aws_error){0};
	if (reply->body.data)
		(void)aws_parse_error(reply->body.data, reply->body.len, ret); /* zeroed: none */
}

bool aws_reply_is(const struct http_reply *reply, const char *code)
{
	struct aws_error error;
	aws_reply_error(reply, &error);
	return !strcmp(error.code, code);
}
