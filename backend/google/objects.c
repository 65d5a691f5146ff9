/* SPDX-License-Identifier: MIT */
/*
 * Objects in Cloud Storage: https://cloud.google.com/storage/docs/json_api/v1/objects
 *
 * A version is a generation, in decimal. A change that depends on one may be repeated by http/ after a lost answer, and
 * is then refused because of itself: who was refused after more than one attempt looks what is there (google_is_done).
 */
#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "google/google.h"
#include "http/range.h"

enum {
	GOOGLE_SINGLE_MAX = 8 << 20, /* more is sent in chunks */
	GOOGLE_BOUNDARY_BYTES = 16,
	GOOGLE_HEAD_MAX = 512,
	GOOGLE_COPY_MS = 10 * 60 * 1000,
	GOOGLE_COPY_STUCK_MAX = 10,
};
#define GOOGLE_COPY_BYTES (INT64_C(256) << 20) /* of one call between two places: it is silent for as long */

/* ---- one object ---- */

int google_look(struct google *google, const char *bucket, const char *key, struct object_detail *ret,
		char crc32c[static GOOGLE_CRC_MAX], struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	google_call_init(&call, google, "GET");
	google_call_object(&call, bucket, key);
	google_call_query(&call, "fields", GOOGLE_OBJECT_FIELDS);
	int r = google_call_perform(&call, key, &reply, reterr);
	return r < 0 ? r : google_parse_object(reply.body.data, reply.body.len, ret, crc32c, reterr);
}

int google_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		      struct fault *reterr)
{
	char crc[GOOGLE_CRC_MAX];
	return google_look(google_of(be), bucket, key, ret, crc, reterr);
}

bool google_is_done(struct google *google, const char *bucket, const char *key, int64_t n, const char *crc32c,
		    struct object_detail *ret)
{
	struct object_detail there = {0};
	char its[GOOGLE_CRC_MAX];
	if (google_look(google, bucket, key, &there, its, NULL) < 0)
		return false;
	if (there.size_bytes == n && !strcmp(its, crc32c)) {
		*ret = there;
		return true;
	}
	object_detail_release(&there);
	return false;
}

/*
 * What -ENOENT or -ESTALE of something that depended on a version of an object comes to: has it another one now
 * (-ESTALE), none (-ENOENT), or still that one (0)?
 */
static int google_compare(struct google *google, const char *bucket, const char *key, const char *version,
			  struct fault *reterr)
{
	struct object_detail now = {0};
	char crc[GOOGLE_CRC_MAX];
	int r = google_look(google, bucket, key, &now, crc, reterr);
	if (r < 0)
		return r;
	bool is_same = !strcmp(now.version, version);
	object_detail_release(&now);
	return is_same ? 0
		       : fault_set(reterr, ESTALE,
				   "%s was changed by another: generation %s is not there now", key, version);
}

/* ---- reading ---- */

/* The header may come more than once. */
static void google_find_sum(const struct http_headers *headers, struct checksum *ret)
{
	for (size_t i = 0; i < headers->n; i++) {
		const struct http_header *header = &headers->header[i];
		if (!strcasecmp(header->name, "X-Goog-Hash") && google_parse_hash(header->value, ret->text)) {
			ret->kind = CHECKSUM_CRC32C;
			return;
		}
	}
}

static int google_read(struct google *google, struct google_call *call, struct http_range *range,
		       const char *bucket, const char *key, const char *version, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	int r = google_call_perform(call, key, &reply, reterr);
	if (r < 0 && reply.status == 404) {
		r = google_compare(google, bucket, key, version, reterr);
		return r < 0 ? r
			     : fault_set(reterr, EIO, "read %s: Cloud Storage both has it and has not", key);
	}
	return http_range_finish(range, r, &reply, key, reterr);
}

int google_object_read(struct backend *be, const char *bucket, const char *key, const char *version,
		       int64_t at, int64_t n, bytes_sink sink, void *arg, struct checksum *sum,
		       struct fault *reterr)
{
	cleanup_call struct google_call call = {0};
	cleanup_http_range struct http_range range = {
		.sink = sink, .arg = arg, .find_sum = google_find_sum, .ret_sum = sum, .at = at, .n = n};
	char text[HTTP_RANGE_TEXT_MAX];
	if (n == 0)
		return 0;
	google_call_init(&call, google_of(be), "GET");
	google_call_object(&call, bucket, key);
	google_call_query(&call, "alt", "media");
	google_call_query(&call, "generation", version);
	google_call_condition(&call, version);
	http_range_prepare(&range, &call.request, text);
	google_call_header(&call, "Range", text);
	google_call_header(&call, "Accept-Encoding",
			   "gzip"); /* else gzip is undone there, and ranges with it */
	return google_read(google_of(be), &call, &range, bucket, key, version, reterr);
}

/* ---- writing ---- */

int google_conditional(int r, const char *key, const char *if_version, struct fault *reterr)
{
	if (r != -ESTALE || !if_version)
		return r;
	return *if_version ? fault_set(reterr, ESTALE,
				       "%s was changed by another: generation %s is not there now", key,
				       if_version)
			   : fault_set(reterr, EEXIST, "there is an object %s already", key);
}

int google_put_answer(const struct http_reply *reply, const char *key, int64_t n, const char *crc32c,
		      struct object_detail *ret, struct fault *reterr)
{
	struct object_detail made = {0};
	char its[GOOGLE_CRC_MAX];
	int r = google_parse_object(reply->body.data, reply->body.len, &made, its, reterr);
	if (r < 0)
		return r;
	if (made.size_bytes == n && (!*its || !strcmp(its, crc32c))) {
		*ret = made;
		return 0;
	}
	r = fault_set(reterr, EIO,
		      "write %s: Cloud Storage has %lld bytes with the CRC32C %s, sent were %lld with %s",
		      key, (long long)made.size_bytes, its, (long long)n, crc32c);
	object_detail_release(&made);
	return r;
}

/* multipart/related: the metadata with the sum, then the bytes. */
struct google_body {
	char *buffer; /* owned */
	const char *begin;
	size_t n;
	char type[100]; /* of the whole */
	char crc32c[CHECKSUM_TEXT_MAX];
};

static int google_body_read(int fd, int64_t n, char *to)
{
	for (int64_t at = 0; at < n;) {
		ssize_t got = pread(fd, to + at, (size_t)(n - at), at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		at += got;
	}
	return 0;
}

static void google_boundary(char ret[static 2 * GOOGLE_BOUNDARY_BYTES + 1])
{
	unsigned char bytes[GOOGLE_BOUNDARY_BYTES];
	arc4random_buf(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

/* The buffer is the caller's also on failure. */
static int google_body_make(int fd, int64_t n, struct google_body *ret)
{
	char boundary[2 * GOOGLE_BOUNDARY_BYTES + 1], head[GOOGLE_HEAD_MAX];
	ret->buffer = malloc(GOOGLE_HEAD_MAX + (size_t)n + GOOGLE_HEAD_MAX);
	if (!ret->buffer)
		return -ENOMEM;
	char *bytes = ret->buffer + GOOGLE_HEAD_MAX;
	int r = google_body_read(fd, n, bytes);
	if (r < 0)
		return r;
	(void)checksum_text(CHECKSUM_CRC32C, crc32c_add(0, bytes, (size_t)n), ret->crc32c);
	google_boundary(boundary);
	snprintf(ret->type, sizeof(ret->type), "multipart/related; boundary=%s", boundary);
	int n_head = snprintf(head, sizeof(head),
			      "--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
			      "{\"crc32c\":\"%s\"}\r\n--%s\r\nContent-Type: application/octet-stream\r\n\r\n",
			      boundary, ret->crc32c, boundary);
	ret->begin = memcpy(bytes - n_head, head, (size_t)n_head);
	int n_tail = snprintf(bytes + n, GOOGLE_HEAD_MAX, "\r\n--%s--\r\n", boundary);
	ret->n = (size_t)n_head + (size_t)n + (size_t)n_tail;
	return 0;
}

static int google_put_perform(struct google *google, const char *bucket, const char *key,
			      const struct google_body *body, int64_t n, const char *if_version,
			      struct object_detail *ret, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	google_call_init(&call, google, "POST");
	google_call_upload(&call, bucket);
	google_call_query(&call, "uploadType", "multipart");
	google_call_query(&call, "name", key);
	google_call_query(&call, "fields", GOOGLE_OBJECT_FIELDS);
	google_call_condition(&call, if_version);
	google_call_body(&call, body->type, body->begin, body->n);
	call.request.is_bulk = true;
	call.request.total_ms = http_transfer_ms((int64_t)body->n);
	int r = google_call_perform(&call, key, &reply, reterr);
	if (r == 0)
		return google_put_answer(&reply, key, n, body->crc32c, ret, reterr);
	r = google_conditional(r, key, if_version, reterr);
	if ((r == -EEXIST || r == -ESTALE) && reply.n_sent > 1 &&
	    google_is_done(google, bucket, key, n, body->crc32c, ret))
		return 0;
	return r;
}

static int google_put(struct google *google, const char *bucket, const char *key, int fd, int64_t n,
		      const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	struct google_body body = {0};
	int r = google_body_make(fd, n, &body);
	if (r == 0)
		r = google_put_perform(google, bucket, key, &body, n, if_version, ret, reterr);
	else
		fault_set(reterr, -r, "write %s: the bytes to send cannot be read: %s", key, strerror(-r));
	free(body.buffer);
	return r;
}

int google_object_put(struct backend *be, const char *bucket, const char *key,
		      const struct object_source *source, const char *if_version,
		      struct object_upload **upload, struct object_detail *ret, struct fault *reterr)
{
	int64_t n;
	bool is_all;
	if (!google_is_key(key)) /* it would be in no path here, but in those that read and remove it */
		return fault_set(reterr, EINVAL, "\"%s\": Cloud Storage takes no such name", key);
	int r = object_source_await(source, GOOGLE_SINGLE_MAX + 1, GOOGLE_SINGLE_MAX + 1, &n, &is_all);
	if (r < 0)
		return r;
	if (n > GOOGLE_SINGLE_MAX)
		return google_upload(google_of(be), bucket, key, source, if_version, upload, ret, reterr);
	return google_put(google_of(be), bucket, key, source->fd, n, if_version, ret, reterr);
}

/* ---- copies ---- */

struct google_copy {
	struct google *google;
	const char *bucket, *key, *version; /* of the source; version NULL: whatever is there */
	const char *to_bucket, *to_key, *if_version;
	struct google_rewrite state;
	bool is_repeated; /* a call was sent more than once */
};

/* One call of the row that makes a copy. */
static int google_copy_step(struct google_copy *copy, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	google_call_init(&call, copy->google, "POST");
	google_call_rewrite(&call, copy->bucket, copy->key, copy->to_bucket, copy->to_key);
	google_call_query(&call, "fields",
			  "done,rewriteToken,totalBytesRewritten,resource(" GOOGLE_OBJECT_FIELDS ")");
	google_call_query_int(&call, "maxBytesRewrittenPerCall", GOOGLE_COPY_BYTES);
	google_call_query(&call, "sourceGeneration", copy->version);
	google_call_query(&call, "ifSourceGenerationMatch", copy->version);
	google_call_query(&call, "rewriteToken", *copy->state.token ? copy->state.token : NULL);
	google_call_condition(&call, copy->if_version);
	google_call_body(&call, "application/json", "{}", 2);
	call.request.total_ms = GOOGLE_COPY_MS;
	int r = google_call_perform(&call, copy->key, &reply, reterr);
	copy->is_repeated |= reply.n_sent > 1;
	return r < 0 ? r : google_parse_rewrite(reply.body.data, reply.body.len, &copy->state, reterr);
}

static int google_copy_run(struct google_copy *copy, struct fault *reterr)
{
	int n_stuck = 0;
	while (n_stuck < GOOGLE_COPY_STUCK_MAX) {
		int64_t before = copy->state.n_rewritten;
		int r = google_copy_step(copy, reterr);
		if (r < 0 || copy->state.is_done)
			return r;
		n_stuck = copy->state.n_rewritten > before ? 0 : n_stuck + 1;
	}
	return fault_set(reterr, EIO, "copy %s: Cloud Storage does not get on with it", copy->key);
}

/* A refusal after a lost answer: has the target become what the source is? */
static bool google_copy_is_done(const struct google_copy *copy, struct object_detail *ret)
{
	struct object_detail source = {0};
	char crc[GOOGLE_CRC_MAX];
	if (!copy->is_repeated || google_look(copy->google, copy->bucket, copy->key, &source, crc, NULL) < 0)
		return false;
	bool is_right =
		*crc && (!copy->version || !strcmp(copy->version, source.version)) &&
		google_is_done(copy->google, copy->to_bucket, copy->to_key, source.size_bytes, crc, ret);
	object_detail_release(&source);
	return is_right;
}

int google_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
		       const char *to_bucket, const char *to_key, const char *if_version,
		       struct object_detail *ret, struct fault *reterr)
{
	struct google *google = google_of(be);
	struct google_copy copy = {
		.google = google,
		.bucket = bucket,
		.key = key,
		.version = version,
		.to_bucket = to_bucket,
		.to_key = to_key,
		.if_version = if_version,
	};
	struct fault fault;
	int r = google_copy_run(&copy, reterr);
	if (r == 0)
		*ret = copy.state.object;
	if (r != -ESTALE && r != -ENOENT)
		return r;
	/* 412 is the source's or the target's, 404 the source's or a bucket's */
	int found = version ? google_compare(google, bucket, key, version, &fault) : 0;
	if (found == -ESTALE || found == -ENOENT)
		return fault_set(reterr, -found, "copy: %s", fault.text);
	if (r == -ESTALE && google_copy_is_done(&copy, ret))
		return 0;
	return google_conditional(r, to_key, if_version, reterr);
}

/* ---- removal ---- */

int google_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
			 struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	google_call_init(&call, google_of(be), "DELETE");
	google_call_object(&call, bucket, key);
	google_call_condition(&call, if_version);
	int r = google_call_perform(&call, key, &reply, reterr);
	if (r == -ENOENT && reply.n_sent > 1)
		return 0; /* an earlier attempt removed it */
	/* without the object there is no such version of it either */
	if (r == -ENOENT && if_version && *if_version)
		r = -ESTALE;
	return google_conditional(r, key, if_version, reterr);
}
