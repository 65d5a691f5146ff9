/* SPDX-License-Identifier: MIT */
/*
 * Objects on S3: https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html
 *
 * A version is an ETag, opaque. A change that depends on one may be repeated by http/ after a lost answer, and is then
 * refused because of itself: who was refused after more than one attempt looks what is there (aws_is_done).
 */
#include <errno.h>
#include <string.h>

#include "aws/aws.h"
#include "base/crc32c.h"
#include "http/range.h"

enum { AWS_COPY_MS = 10 * 60 * 1000 };
#define AWS_COPY_MAX (INT64_C(5) << 30) /* of one CopyObject */

/* ---- one object ---- */

/* x-amz-meta-NAME: VALUE -> {"NAME": "VALUE"}; NULL in *ret: none. */
static int aws_metadata(const struct http_headers *headers, char **ret)
{
	static const char prefix[] = "x-amz-meta-";
	const size_t n = sizeof(prefix) - 1;
	cleanup_json json_t *all = json_object();
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < headers->n; i++) {
		const struct http_header *header = &headers->header[i];
		if (strncasecmp(header->name, prefix, n) != 0)
			continue;
		json_t *value = json_string(header->value); /* NULL: no UTF-8, which no header should be */
		if (value && json_object_set_new(all, header->name + n, value) < 0)
			return -ENOMEM;
	}
	if (json_object_size(all) == 0)
		return 0;
	*ret = json_dumps(all, JSON_SORT_KEYS | JSON_COMPACT);
	return *ret ? 0 : -ENOMEM;
}

static int aws_detail(const struct http_headers *headers, struct object_detail *ret, struct fault *reterr)
{
	char version[OBJECT_VERSION_MAX + 1];
	const char *etag = http_headers_get(headers, "ETag");
	const char *length = http_headers_get(headers, "Content-Length");
	struct object_detail detail = {0};
	if (!etag || aws_parse_etag(etag, version) < 0 || !length ||
	    str_to_int(length, 0, INT64_MAX, &detail.size_bytes) < 0)
		return fault_set(reterr, EIO, "S3 told of an object without its size or version");
	detail.changed_ns = http_headers_time(headers, "Last-Modified");
	detail.version = strdup(version);
	if (!detail.version || str_dup(http_headers_get(headers, "Content-Type"), &detail.content_type) < 0 ||
	    str_dup(http_headers_get(headers, "x-amz-storage-class") ?: "STANDARD", &detail.storage_class) <
		    0 ||
	    aws_metadata(headers, &detail.metadata) < 0) {
		object_detail_release(&detail);
		return fault_set(reterr, ENOMEM, "an object's facts: %s", strerror(ENOMEM));
	}
	*ret = detail;
	return 0;
}

int aws_made_detail(const char *version, int64_t size_bytes, int64_t changed_ns, struct object_detail *ret,
		    struct fault *reterr)
{
	char *copy = strdup(version);
	if (!copy)
		return fault_set(reterr, ENOMEM, "an object's facts: %s", strerror(ENOMEM));
	*ret = (struct object_detail){.version = copy, .size_bytes = size_bytes, .changed_ns = changed_ns};
	return 0;
}

/* Answers to HEAD have no body, and so no code: the same as GET of one byte has, and renews credentials on the way. */
static int aws_head_explain(struct aws *aws, const char *bucket, const char *key, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	aws_call_init(&call, "GET", bucket, key);
	aws_call_header(&call, "Range", "bytes=0-0");
	int r = aws_call_perform(aws, &call, &reply, reterr);
	return reply.status == 416 ? 0 : r; /* an empty object has no byte */
}

int aws_head_headers(struct aws *aws, const char *bucket, const char *key, bool with_sum,
		     struct http_reply *ret, struct fault *reterr)
{
	cleanup_call struct aws_call call = {0};
	aws_call_init(&call, "HEAD", bucket, key);
	aws_call_header(&call, "x-amz-checksum-mode", with_sum ? "ENABLED" : NULL);
	return aws_call_perform(aws, &call, ret, reterr);
}

/* The checksum of the whole object; one of parts' sums ("...-3") is none. */
static const char *aws_whole_crc(const struct http_headers *headers)
{
	const char *crc = http_headers_get(headers, "x-amz-checksum-crc32c");
	return crc && !strchr(crc, '-') ? crc : NULL;
}

int aws_head(struct aws *aws, const char *bucket, const char *key, struct object_detail *ret, char *crc32c,
	     struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	int r = aws_head_headers(aws, bucket, key, crc32c, &reply, reterr);
	if (r < 0 && (reply.status == 400 || reply.status == 403)) {
		http_reply_release(&reply);
		r = aws_head_explain(aws, bucket, key, reterr);
		if (r == 0)
			r = aws_head_headers(aws, bucket, key, crc32c, &reply, reterr);
	}
	if (r < 0)
		return r;
	if (crc32c) {
		const char *crc = aws_whole_crc(&reply.headers);
		snprintf(crc32c, AWS_CRC_MAX, "%s", crc ? crc : "");
	}
	return aws_detail(&reply.headers, ret, reterr);
}

int aws_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		   struct fault *reterr)
{
	return aws_head(aws_of(be), bucket, key, ret, NULL, reterr);
}

/* ---- reading ---- */

/* The one that costs the least. A sum of parts' sums ("...-3", COMPOSITE) is none of the bytes. */
static void aws_find_sum(const struct http_headers *headers, struct checksum *ret)
{
	static const char *const header[CHECKSUM_MAX] = {
		[CHECKSUM_CRC32C] = "x-amz-checksum-crc32c",
		[CHECKSUM_CRC32] = "x-amz-checksum-crc32",
		[CHECKSUM_CRC64NVME] = "x-amz-checksum-crc64nvme",
		[CHECKSUM_SHA256] = "x-amz-checksum-sha256",
	};
	const char *type = http_headers_get(headers, "x-amz-checksum-type");
	if (type && strcmp(type, "COMPOSITE") == 0)
		return;
	for (int kind = CHECKSUM_NONE + 1; kind < CHECKSUM_MAX; kind++) {
		const char *text = http_headers_get(headers, header[kind]);
		if (text && !strchr(text, '-') && strlen(text) < CHECKSUM_TEXT_MAX) {
			ret->kind = (enum checksum_kind)kind;
			(void)snprintf(ret->text, CHECKSUM_TEXT_MAX, "%s", text);
			return;
		}
	}
}

int aws_object_read(struct backend *be, const char *bucket, const char *key, const char *version, int64_t at,
		    int64_t n, bytes_sink sink, void *arg, struct checksum *sum, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	cleanup_http_range struct http_range range = {
		.sink = sink, .arg = arg, .find_sum = aws_find_sum, .ret_sum = sum, .at = at, .n = n};
	char text[HTTP_RANGE_TEXT_MAX];
	if (n == 0)
		return 0;
	aws_call_init(&call, "GET", bucket, key);
	http_range_prepare(&range, &call.request, text);
	aws_call_header(&call, "Range", text);
	aws_call_header(&call, "x-amz-checksum-mode", "ENABLED");
	aws_call_condition(&call, version);
	int r = aws_call_perform(aws_of(be), &call, &reply, reterr);
	return http_range_finish(&range, r, &reply, key, reterr);
}

/* Answers of parts tell nothing of the whole. Without its type, a sum may be one of parts' sums. */
int aws_object_checksum(struct backend *be, const char *bucket, const char *key, const char *version,
			struct checksum *ret, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	aws_call_init(&call, "HEAD", bucket, key);
	aws_call_header(&call, "x-amz-checksum-mode", "ENABLED");
	aws_call_condition(&call, version);
	int r = aws_call_perform(aws_of(be), &call, &reply, reterr);
	const char *type = http_headers_get(&reply.headers, "x-amz-checksum-type");
	if (r == 0 && type && !strcmp(type, "FULL_OBJECT"))
		aws_find_sum(&reply.headers, ret);
	return r;
}

/* ---- writing ---- */

int aws_conditional(int r, const struct http_reply *reply, const char *key, const char *if_version,
		    struct fault *reterr)
{
	if (!if_version || r == 0)
		return r;
	/* without the object there is no such version of it either */
	bool is_refused =
		r == -ESTALE || (*if_version && r == -ENOENT && !aws_reply_is(reply, "NoSuchBucket"));
	if (!is_refused)
		return r;
	return *if_version
		       ? fault_set(reterr, ESTALE, "%s was changed by another: version %s is not there now",
				   key, if_version)
		       : fault_set(reterr, EEXIST, "there is an object %s already", key);
}

int aws_check_target(struct aws *aws, const char *bucket, const char *key, const char *if_version,
		     struct fault *reterr)
{
	struct object_detail there = {0};
	struct fault fault;
	if (!if_version)
		return 0;
	int r = aws_head(aws, bucket, key, &there, NULL, &fault);
	bool is_right = *if_version ? r == 0 && !strcmp(there.version, if_version) : r == -ENOENT;
	object_detail_release(&there);
	if (r < 0 && r != -ENOENT)
		return fault_set(reterr, -r, "%s", fault.text);
	return is_right ? 0 : aws_conditional(-ESTALE, NULL, key, if_version, reterr);
}

/* Is what a lost attempt was to make there? */
static bool aws_is_done(struct aws *aws, const char *bucket, const char *key, int64_t n, const char *crc,
			struct object_detail *ret)
{
	struct object_detail there = {0};
	char its[AWS_CRC_MAX];
	if (aws_head(aws, bucket, key, &there, its, NULL) < 0)
		return false;
	if (there.size_bytes == n && !strcmp(its, crc)) {
		*ret = there;
		return true;
	}
	object_detail_release(&there);
	return false;
}

/* What S3 has, by its own sum. A service that knows none has had to take the bytes as they came. */
static int aws_put_check(const struct http_reply *reply, const char *key, const char *crc,
			 struct fault *reterr)
{
	const char *its = http_headers_get(&reply->headers, "x-amz-checksum-crc32c");
	if (!its || !strcmp(its, crc))
		return 0;
	return fault_set(reterr, EIO, "write %s: S3 has bytes with the CRC32C %s, sent were some with %s",
			 key, its, crc);
}

static int aws_put_detail(struct aws *aws, const char *bucket, const char *key, int64_t n,
			  const struct http_reply *reply, struct object_detail *ret, struct fault *reterr)
{
	char version[OBJECT_VERSION_MAX + 1];
	const char *etag = http_headers_get(&reply->headers, "ETag");
	int64_t changed_ns = http_headers_time(&reply->headers, "Date");
	if (!etag || aws_parse_etag(etag, version) < 0)
		return aws_head(aws, bucket, key, ret, NULL, reterr);
	return aws_made_detail(version, n, changed_ns, ret, reterr);
}

static int aws_put(struct aws *aws, const char *bucket, const char *key, int fd, int64_t n,
		   const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	char crc[CHECKSUM_TEXT_MAX];
	uint32_t sum = 0;
	int r = crc32c_file(fd, 0, n, &sum);
	if (r < 0)
		return fault_set(reterr, -r, "write %s: the bytes to send cannot be read: %s", key,
				 strerror(-r));
	aws_call_init(&call, "PUT", bucket, key);
	aws_call_header(&call, "x-amz-checksum-crc32c", checksum_text(CHECKSUM_CRC32C, sum, crc));
	aws_call_condition(&call, if_version);
	call.request.has_body = true;
	call.request.body_fd = fd;
	call.request.body_n = n;
	call.request.is_bulk = true;
	call.request.total_ms = http_transfer_ms(n);
	r = aws_call_perform(aws, &call, &reply, reterr);
	if (r == 0)
		r = aws_put_check(&reply, key, crc, reterr);
	if (r == 0)
		return aws_put_detail(aws, bucket, key, n, &reply, ret, reterr);
	r = aws_conditional(r, &reply, key, if_version, reterr);
	if ((r == -EEXIST || r == -ESTALE) && reply.n_sent > 1 && aws_is_done(aws, bucket, key, n, crc, ret))
		return 0;
	return r;
}

int aws_object_put(struct backend *be, const char *bucket, const char *key,
		   const struct object_source *source, const char *if_version, struct object_upload **upload,
		   struct object_detail *ret, struct fault *reterr)
{
	struct aws *aws = aws_of(be);
	int64_t n;
	bool is_all;
	aws_leftover_sweep(aws);
	int r = object_source_await(source, AWS_PART_MIN + 1, AWS_PART_MIN + 1, &n, &is_all);
	if (r < 0)
		return r;
	if (n > AWS_PART_MIN)
		return aws_upload(aws, bucket, key, source, if_version, upload, ret, reterr);
	return aws_put(aws, bucket, key, source->fd, n, if_version, ret, reterr);
}

/* ---- copies ---- */

/* CopyObject of `source`; a 200 is only its beginning. */
static int aws_copy_once(struct aws *aws, struct aws_call *call, const struct object_detail *source,
			 struct http_reply *reply, struct object_detail *ret, struct fault *reterr)
{
	struct aws_made made;
	struct aws_error error = {0};
	int r = aws_call_perform(aws, call, reply, reterr);
	if (r == 0)
		r = aws_parse_made(reply->body.data, reply->body.len, "CopyObjectResult", &made, &error,
				   reterr);
	return r < 0 ? r : aws_made_detail(made.version, source->size_bytes, made.changed_ns, ret, reterr);
}

/*
 * 412 is the source's or the target's: S3 does not tell which. The source was looked at before, so it is looked at
 * again.
 */
static int aws_copy_refused(struct aws *aws, const char *bucket, const char *key,
			    const struct object_detail *source, int r, const struct http_reply *reply,
			    const char *to_key, const char *if_version, struct fault *reterr)
{
	struct object_detail now = {0};
	struct fault fault;
	if (r != -ESTALE && r != -ENOENT)
		return r;
	int found = aws_head(aws, bucket, key, &now, NULL, &fault);
	bool is_same = found == 0 && !strcmp(now.version, source->version);
	object_detail_release(&now);
	if (is_same)
		return aws_conditional(r, reply, to_key, if_version, reterr);
	return found == -ENOENT ? fault_set(reterr, ENOENT, "copy %s: it has gone", key)
				: fault_set(reterr, ESTALE, "copy %s: it was changed by another", key);
}

static int aws_copy(struct aws *aws, const char *bucket, const char *key, const struct object_detail *source,
		    const char *crc, const char *to_bucket, const char *to_key, const char *if_version,
		    struct object_detail *ret, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	cleanup_str struct str from = {0};
	cleanup_free char *match = NULL;
	if (aws_copy_source(bucket, key, &from) < 0 || str_format(&match, "\"%s\"", source->version) < 0)
		return fault_set(reterr, ENOMEM, "copy %s: %s", key, strerror(ENOMEM));
	aws_call_init(&call, "PUT", to_bucket, to_key);
	aws_call_header(&call, "x-amz-copy-source", from.data);
	aws_call_header(&call, "x-amz-copy-source-if-match", match);
	if (!strcmp(bucket, to_bucket) && !strcmp(key, to_key)) /* S3 wants to see a change */
		aws_call_header(&call, "x-amz-metadata-directive", "REPLACE");
	aws_call_condition(&call, if_version);
	call.request.has_body = true;
	call.request.total_ms = AWS_COPY_MS;
	call.request.stall_ms = AWS_WORK_MS;
	int r = aws_copy_once(aws, &call, source, &reply, ret, reterr);
	if (r == -ESTALE && reply.n_sent > 1 && *crc &&
	    aws_is_done(aws, to_bucket, to_key, source->size_bytes, crc, ret))
		return 0;
	return aws_copy_refused(aws, bucket, key, source, r, &reply, to_key, if_version, reterr);
}

int aws_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
		    const char *to_bucket, const char *to_key, const char *if_version,
		    struct object_detail *ret, struct fault *reterr)
{
	struct aws *aws = aws_of(be);
	struct object_detail source = {0};
	char crc[AWS_CRC_MAX];
	int r = aws_head(aws, bucket, key, &source, crc, reterr);
	if (r < 0)
		return r;
	if (version && strcmp(version, source.version) != 0)
		r = fault_set(reterr, ESTALE, "copy %s: it was changed by another", key);
	if (r == 0)
		r = aws_check_target(aws, to_bucket, to_key, if_version, reterr);
	if (r == 0 && source.size_bytes > AWS_COPY_MAX)
		r = aws_upload_copy(aws, bucket, key, &source, to_bucket, to_key, if_version, ret, reterr);
	else if (r == 0)
		r = aws_copy(aws, bucket, key, &source, crc, to_bucket, to_key, if_version, ret, reterr);
	object_detail_release(&source);
	return r;
}

/* ---- removal ---- */

int aws_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
		      struct fault *reterr)
{
	struct aws *aws = aws_of(be);
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	struct object_detail there = {0};
	aws_call_init(&call, "DELETE", bucket, key);
	aws_call_condition(&call, if_version);
	int r = aws_call_perform(aws, &call, &reply, reterr);
	if (r == 0 || !if_version)
		return r;
	if (reply.n_sent > 1 && aws_head(aws, bucket, key, &there, NULL, NULL) == -ENOENT)
		return 0; /* an earlier attempt removed it */
	object_detail_release(&there);
	return aws_conditional(r, &reply, key, if_version, reterr);
}
