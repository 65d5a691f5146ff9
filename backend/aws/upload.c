/* SPDX-License-Identifier: MIT */
/*
 * Objects in parts, several at once: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
 *
 *   Create -> parts, each by whichever thread is free, as the source has them -> Complete
 *                 \-> the first failure: the others end, Abort; or kept for the next put, which sends what is missing
 *
 * A part that the network lost is sent again by itself, as long as some part got through lately; so an upload goes on
 * where it was. Until Complete nobody sees anything of it. Sums: one a part, and all joined for the whole.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "aws/parts.h"
#include "base/crc32c.h"
#include "clock.h"
#include "http/range.h"

enum {
	AWS_PATIENCE_MS = 60000, /* without any part getting through */
	AWS_PAUSE_MS = 1000,
	AWS_COPY_PART_MIN = 512 << 20,
};

int64_t aws_part_at(unsigned i, int64_t least)
{
	unsigned step = i / AWS_PARTS_STEP;
	int64_t size = least << step;
	return AWS_PARTS_STEP * (size - least) + i % AWS_PARTS_STEP * size;
}

static int64_t part_at(const struct aws_upload *upload, unsigned i)
{
	return aws_part_at(i, upload->least);
}

/* ---- one part ---- */

static int part_copy_answer(struct aws_part *part, const struct http_reply *reply, struct fault *reterr)
{
	struct aws_made made;
	struct aws_error error;
	int r = aws_parse_made(reply->body.data, reply->body.len, "CopyPartResult", &made, &error, reterr);
	if (r < 0)
		return r;
	memcpy(part->etag, made.version, sizeof(part->etag));
	memcpy(part->crc32c, made.crc32c, sizeof(part->crc32c));
	return 0;
}

static int part_put_answer(const struct aws_upload *upload, struct aws_part *part,
			   const struct http_reply *reply, struct fault *reterr)
{
	const char *etag = http_headers_get(&reply->headers, "ETag");
	const char *its = http_headers_get(&reply->headers, "x-amz-checksum-crc32c");
	if (its && strcmp(its, part->crc32c) != 0)
		return fault_set(reterr, EIO,
				 "write %s: S3 has a part with the CRC32C %s, sent was one with %s",
				 upload->key, its, part->crc32c);
	if (!etag || aws_parse_etag(etag, part->etag) < 0)
		return fault_set(reterr, EIO, "write %s: S3 took a part and named no ETag", upload->key);
	return 0;
}

static void part_describe(struct aws_upload *upload, struct aws_call *call, unsigned i, int64_t n)
{
	int64_t at = part_at(upload, i);
	char number[16], range[64];
	snprintf(number, sizeof(number), "%u", i + 1);
	aws_call_init(call, "PUT", upload->bucket, upload->key);
	aws_call_query(call, "partNumber", number);
	aws_call_query(call, "uploadId", upload->id);
	call->request.has_body = true;
	if (upload->copy) {
		snprintf(range, sizeof(range), "bytes=%" PRId64 "-%" PRId64, at, at + n - 1);
		aws_call_header(call, "x-amz-copy-source", upload->copy);
		aws_call_header(call, "x-amz-copy-source-if-match", upload->copy_match);
		aws_call_header(call, "x-amz-copy-source-range", range);
		call->request.total_ms = AWS_COMPLETE_MS;
		call->request.stall_ms = AWS_WORK_MS;
		return;
	}
	aws_call_header(call, "x-amz-checksum-crc32c", upload->part[i].crc32c);
	call->request.body_fd = upload->source->fd;
	call->request.body_at = at;
	call->request.body_n = n;
	call->request.is_bulk = true;
	call->request.total_ms = http_transfer_ms(n);
}

/* *ret_is_lost: S3 did not get it, or could not do it now. */
static int part_send(struct aws_upload *upload, unsigned i, int64_t n, bool *ret_is_lost,
		     struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	part_describe(upload, &call, i, n);
	int r = aws_call_perform(upload->aws, &call, &reply, reterr);
	*ret_is_lost = fault_is_passing(r);
	if (r < 0)
		return r;
	if (!upload->copy)
		return part_put_answer(upload, &upload->part[i], &reply, reterr);
	r = part_copy_answer(&upload->part[i], &reply, reterr);
	*ret_is_lost = r == -EIO;
	return r;
}

/* Waits before a part is sent again, which was begun at `begin_ms`; false: it is not. */
static bool part_has_patience(struct aws_upload *upload, int64_t begin_ms)
{
	poll(NULL, 0, AWS_PAUSE_MS);
	LOCK_SCOPE(&upload->lock);
	int64_t since_ms = upload->moved_ms > begin_ms ? upload->moved_ms : begin_ms;
	return upload->err == 0 && clock_mono_ms() - since_ms < AWS_PATIENCE_MS;
}

static int part_carry(struct aws_upload *upload, unsigned i, int64_t n, struct fault *reterr)
{
	struct aws_part *part = &upload->part[i];
	int64_t begin_ms = clock_mono_ms();
	int r = 0;
	if (!upload->copy)
		r = crc32c_file(upload->source->fd, part_at(upload, i), n, &part->crc);
	if (r < 0)
		return fault_set(reterr, -r, "write %s: the bytes to send cannot be read: %s", upload->key,
				 strerror(-r));
	if (!upload->copy)
		(void)checksum_text(CHECKSUM_CRC32C, part->crc, part->crc32c);
	bool is_lost;
	do
		r = part_send(upload, i, n, &is_lost, reterr);
	while (r < 0 && is_lost && part_has_patience(upload, begin_ms));
	return r;
}

/* ---- all of them ---- */

/* The source has ended: so many parts there are. */
static void upload_ends(struct aws_upload *upload, int64_t n_bytes)
{
	unsigned n = 0;
	while (part_at(upload, n) < n_bytes)
		n++;
	LOCK_SCOPE(&upload->lock);
	upload->n_bytes = n_bytes;
	upload->n_parts = n;
}

static bool upload_has_failed(struct aws_upload *upload)
{
	LOCK_SCOPE(&upload->lock);
	return upload->err;
}

/* Waits for the bytes of part `i`: *ret_n of them, 0 if there is no such part. */
static int upload_await(struct aws_upload *upload, unsigned i, int64_t *ret_n, struct fault *reterr)
{
	int64_t at = part_at(upload, i), end = part_at(upload, i + 1), n = 0;
	bool is_all = false;
	*ret_n = 0;
	while (!is_all && n < end) {
		if (upload_has_failed(upload))
			return 0;
		int r = object_source_wait(upload->source, end, end, &n, &is_all);
		if (r < 0)
			return fault_set(reterr, -r, "write %s: given up", upload->key);
	}
	if (is_all)
		upload_ends(upload, n);
	if (n > at && i >= AWS_PARTS_MAX)
		return fault_set(reterr, EFBIG, "write %s: it is more than S3 takes", upload->key);
	if (n > at)
		*ret_n = n - at;
	return 0;
}

static bool upload_take(struct aws_upload *upload, unsigned *ret)
{
	LOCK_SCOPE(&upload->lock);
	if (upload->err || (upload->n_bytes >= 0 && upload->n_taken >= upload->n_parts))
		return false;
	*ret = upload->n_taken++;
	return true;
}

static void upload_told(struct aws_upload *upload, int r, const struct fault *fault)
{
	LOCK_SCOPE(&upload->lock);
	if (upload->err == 0) {
		upload->err = r;
		upload->fault = *fault;
	}
}

static void upload_moved(struct aws_upload *upload, unsigned i, int64_t n)
{
	LOCK_SCOPE(&upload->lock);
	upload->base.n_sent += n - upload->part[i].n;
	upload->part[i].n = n;
	upload->moved_ms = clock_mono_ms();
	object_source_sent(upload->source, upload->base.n_sent);
}

static void *upload_work(void *arg)
{
	struct aws_upload *upload = arg;
	unsigned i;
	while (upload_take(upload, &i)) {
		struct fault fault = {0};
		int64_t n;
		int r = upload_await(upload, i, &n, &fault);
		if (r == 0 && n == 0)
			break;
		if (r == 0 && upload->part[i].n == n) /* an earlier put has brought it there */
			continue;
		if (r == 0)
			r = part_carry(upload, i, n, &fault);
		if (r == 0)
			upload_moved(upload, i, n);
		else
			upload_told(upload, r, &fault);
	}
	return NULL;
}

/* The caller is one of the threads; without memory for others it is the only one. */
static int upload_send(struct aws_upload *upload, struct fault *reterr)
{
	pthread_t thread[AWS_PARTS_AT_ONCE - 1];
	unsigned n = 0;
	upload->moved_ms = 0;
	upload->n_taken = 0;
	upload->n_bytes = -1;
	upload->err = 0;
	while (n < AWS_PARTS_AT_ONCE - 1 && pthread_create(&thread[n], NULL, upload_work, upload) == 0)
		n++;
	upload_work(upload);
	while (n > 0)
		pthread_join(thread[--n], NULL);
	return upload->err < 0 ? fault_set(reterr, -upload->err, "%s", upload->fault.text) : 0;
}

/* ---- the beginning and the end ---- */

int aws_upload_create(struct aws *aws, const char *bucket, const char *key, const struct http_headers *more,
		      char **ret_id, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	aws_call_init(&call, "POST", bucket, key);
	aws_call_query(&call, "uploads", "");
	aws_call_header(&call, "x-amz-checksum-algorithm", "CRC32C");
	aws_call_header(&call, "x-amz-checksum-type", "FULL_OBJECT");
	for (size_t i = 0; more && i < more->n; i++)
		aws_call_header(&call, more->header[i].name, more->header[i].value);
	call.request.has_body = true;
	int r = aws_call_perform(aws, &call, &reply, reterr);
	return r < 0 ? r : aws_parse_upload(reply.body.data, reply.body.len, ret_id, reterr);
}

int aws_abort(struct aws *aws, const char *bucket, const char *key, const char *upload_id,
	      struct fault *reterr)
{
	int r = 0;
	/* what was on its way when it was aborted may have landed after: it is gone when S3 knows it no more */
	for (int i = 0; i < 3; i++) {
		cleanup_http_reply struct http_reply reply = {0};
		cleanup_call struct aws_call call = {0};
		aws_call_init(&call, i % 2 ? "GET" : "DELETE", bucket, key);
		aws_call_query(&call, "uploadId", upload_id);
		r = aws_call_perform(aws, &call, &reply, reterr);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
	}
	return r;
}

static void upload_free(struct aws_upload *upload)
{
	if (!upload)
		return;
	if (upload->note_fd >= 0)
		close(upload->note_fd);
	pthread_mutex_destroy(&upload->lock);
	free(upload->bucket);
	free(upload->key);
	free(upload->id);
	free(upload->note);
	free(upload->part);
	free(upload);
}

static struct aws_upload *upload_new(struct aws *aws, const char *bucket, const char *key, int64_t least)
{
	struct aws_upload *upload = calloc(1, sizeof(*upload));
	if (!upload)
		return NULL;
	pthread_mutex_init(&upload->lock, NULL);
	upload->aws = aws;
	upload->bucket = strdup(bucket);
	upload->key = strdup(key);
	upload->note_fd = -1;
	upload->least = least;
	upload->part = calloc(AWS_PARTS_MAX, sizeof(*upload->part)); /* the kernel gives what is touched */
	if (upload->bucket && upload->key && upload->part)
		return upload;
	upload_free(upload);
	return NULL;
}

/* Noted before it gets its first byte. */
static int upload_begin(struct aws_upload *upload, const struct http_headers *headers, struct fault *reterr)
{
	int r = aws_upload_create(upload->aws, upload->bucket, upload->key, headers, &upload->id, reterr);
	return r < 0 ? r
		     : aws_leftover_note(upload->aws, upload->bucket, upload->key, upload->id,
					 &upload->note_fd, &upload->note, reterr);
}

/* Takes it: it is ended at S3, and if that is out of reach the note stays. */
static void upload_abort(struct aws_upload *upload)
{
	if (upload->id && aws_abort(upload->aws, upload->bucket, upload->key, upload->id, NULL) == 0 &&
	    upload->note)
		aws_leftover_forget(upload->aws, upload->note);
	upload_free(upload);
}

void aws_object_put_drop(struct backend *be, struct object_upload *upload)
{
	upload_abort((struct aws_upload *)upload);
}

static int upload_perform(struct aws_upload *upload, const struct object_source *source,
			  const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	upload->source = source;
	int r = upload_send(upload, reterr);
	return r < 0 ? r : aws_upload_complete(upload, if_version, ret, reterr);
}

/* After its end, whatever that was. `keep`: where it is left if it may go on, or NULL. */
static int upload_finish(struct aws_upload *upload, int r, struct object_upload **keep)
{
	if (r == 0) {
		aws_leftover_forget(upload->aws, upload->note);
		upload_free(upload);
	} else if (keep && (fault_is_passing(r) || r == -EACCES)) {
		*keep = &upload->base;
	} else {
		upload_abort(upload);
	}
	return r;
}

static int upload_run(struct aws_upload *upload, const struct object_source *source,
		      const struct http_headers *headers, const char *if_version, struct object_upload **keep,
		      struct object_detail *ret, struct fault *reterr)
{
	if (!upload)
		return fault_set(reterr, ENOMEM, "an upload: %s", strerror(ENOMEM));
	int r = upload_begin(upload, headers, reterr);
	if (r < 0)
		return upload_finish(upload, r, NULL);
	return upload_finish(upload, upload_perform(upload, source, if_version, ret, reterr), keep);
}

int aws_upload(struct aws *aws, const char *bucket, const char *key, const struct object_source *source,
	       const char *if_version, struct object_upload **upload, struct object_detail *ret,
	       struct fault *reterr)
{
	struct aws_upload *kept = (struct aws_upload *)STEAL(*upload);
	if (kept) {
		int r = upload_perform(kept, source, if_version, ret, reterr);
		r = upload_finish(kept, r, upload);
		if (r != -ENOENT) /* else S3 knows it no more: from the beginning */
			return r;
	}
	int r = aws_check_target(aws, bucket, key, if_version, reterr);
	return r < 0 ? r
		     : upload_run(upload_new(aws, bucket, key, AWS_PART_MIN), source, NULL, if_version,
				  upload, ret, reterr);
}

/* ---- copies of big objects ---- */

/* An upload in parts begins without what CopyObject takes along by itself. */
static int copy_headers(const struct http_headers *source, struct http_headers *ret)
{
	static const char *const kept[] = {"Cache-Control",
					   "Content-Disposition",
					   "Content-Encoding",
					   "Content-Language",
					   "Content-Type",
					   "Expires",
					   "x-amz-website-redirect-location"};
	for (size_t i = 0; i < source->n; i++) {
		const struct http_header *header = &source->header[i];
		bool is_kept = strncasecmp(header->name, "x-amz-meta-", strlen("x-amz-meta-")) == 0;
		for (size_t k = 0; k < sizeof(kept) / sizeof(*kept); k++)
			is_kept |= strcasecmp(header->name, kept[k]) == 0;
		int r = is_kept ? http_headers_add(ret, header->name, header->value) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int aws_upload_copy(struct aws *aws, const char *bucket, const char *key, const struct object_detail *source,
		    const char *to_bucket, const char *to_key, const char *if_version,
		    struct object_detail *ret, struct fault *reterr)
{
	const struct object_source bytes = {.fd = -1, .n = source->size_bytes};
	cleanup_http_reply struct http_reply head = {0};
	cleanup_http_headers struct http_headers headers = {0};
	cleanup_str struct str from = {0};
	cleanup_free char *match = NULL;
	int r = aws_head_headers(aws, bucket, key, false, &head, reterr);
	if (r < 0)
		return r;
	if (copy_headers(&head.headers, &headers) < 0 || aws_copy_source(bucket, key, &from) < 0 ||
	    str_format(&match, "\"%s\"", source->version) < 0)
		return fault_set(reterr, ENOMEM, "copy %s: %s", key, strerror(ENOMEM));
	struct aws_upload *upload = upload_new(aws, to_bucket, to_key, AWS_COPY_PART_MIN);
	if (upload) {
		upload->copy = from.data;
		upload->copy_match = match;
	}
	return upload_run(upload, &bytes, &headers, if_version, NULL, ret, reterr);
}
