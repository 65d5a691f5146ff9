/* SPDX-License-Identifier: MIT */
/*
 * Objects in parts, several at once: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
 *
 *   Create -> parts, each by whichever thread is free -> Complete
 *                 \-> the first failure: the others end, Abort
 *
 * A part that the network lost is sent again by itself, as long as some part got through lately; so an upload goes on
 * where it was. Until Complete nobody sees anything of it. Sums: one a part, and all joined for the whole.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "aws/aws.h"
#include "base/crc32c.h"
#include "clock.h"
#include "http/range.h"

enum {
	AWS_PATIENCE_MS = 60000, /* without any part getting through */
	AWS_PAUSE_MS = 1000,
	AWS_COPY_PART_MIN = 512 << 20,
	AWS_COMPLETE_TRIES = 5,
	AWS_COMPLETE_MS = 10 * 60 * 1000,
};

struct aws_part {
	char etag[OBJECT_VERSION_MAX + 1];
	char crc32c[AWS_CRC_MAX]; /* "" of a copied part that S3 told no sum of */
	uint32_t crc;
};

struct aws_parts {
	/* immutable while threads work on it */
	struct aws *aws;
	const char *bucket, *key, *id;
	int fd;             /* what is sent; -1: a copy */
	const char *source; /* x-amz-copy-source of a copy */
	const char *source_match;
	int64_t n_bytes, part_bytes;
	unsigned n_parts;

	struct aws_part *part; /* each is its sender's until all are there */

	pthread_mutex_t lock;
	/* protected by lock */
	unsigned n_taken;
	int64_t moved_ms;   /* when a part last got through */
	int err;            /* of the first that failed: 0 or -errno */
	struct fault fault; /* with it */
};

int64_t aws_part_size(int64_t n, int64_t least)
{
	const int64_t mib = 1 << 20;
	int64_t size = (n / AWS_PARTS_MAX / mib + 1) * mib;
	return size < least ? least : size;
}

/* ---- one part ---- */

static int64_t parts_length(const struct aws_parts *parts, unsigned i)
{
	int64_t at = i * parts->part_bytes;
	return parts->n_bytes - at < parts->part_bytes ? parts->n_bytes - at : parts->part_bytes;
}

static int parts_copy_answer(struct aws_part *part, const struct http_reply *reply, struct fault *reterr)
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

static int parts_put_answer(const struct aws_parts *parts, struct aws_part *part,
			    const struct http_reply *reply, struct fault *reterr)
{
	const char *etag = http_headers_get(&reply->headers, "ETag");
	const char *its = http_headers_get(&reply->headers, "x-amz-checksum-crc32c");
	if (its && strcmp(its, part->crc32c) != 0)
		return fault_set(reterr, EIO,
				 "write %s: S3 has a part with the CRC32C %s, sent was one with %s",
				 parts->key, its, part->crc32c);
	if (!etag || aws_parse_etag(etag, part->etag) < 0)
		return fault_set(reterr, EIO, "write %s: S3 took a part and named no ETag", parts->key);
	return 0;
}

static void parts_describe(struct aws_parts *parts, struct aws_call *call, unsigned i)
{
	int64_t at = i * parts->part_bytes, n = parts_length(parts, i);
	char number[16], range[64];
	snprintf(number, sizeof(number), "%u", i + 1);
	aws_call_init(call, "PUT", parts->bucket, parts->key);
	aws_call_query(call, "partNumber", number);
	aws_call_query(call, "uploadId", parts->id);
	call->request.has_body = true;
	if (parts->source) {
		snprintf(range, sizeof(range), "bytes=%" PRId64 "-%" PRId64, at, at + n - 1);
		aws_call_header(call, "x-amz-copy-source", parts->source);
		aws_call_header(call, "x-amz-copy-source-if-match", parts->source_match);
		aws_call_header(call, "x-amz-copy-source-range", range);
		call->request.total_ms = AWS_COMPLETE_MS;
		return;
	}
	aws_call_header(call, "x-amz-checksum-crc32c", parts->part[i].crc32c);
	call->request.body_fd = parts->fd;
	call->request.body_at = at;
	call->request.body_n = n;
	call->request.is_bulk = true;
	call->request.total_ms = http_transfer_ms(n);
}

/* *ret_is_lost: S3 did not get it, or could not do it now. */
static int parts_send(struct aws_parts *parts, unsigned i, bool *ret_is_lost, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct aws_call call = {0};
	parts_describe(parts, &call, i);
	int r = aws_call_perform(parts->aws, &call, &reply, reterr);
	*ret_is_lost = r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EIO || r == -EAGAIN;
	if (r < 0)
		return r;
	if (!parts->source)
		return parts_put_answer(parts, &parts->part[i], &reply, reterr);
	r = parts_copy_answer(&parts->part[i], &reply, reterr);
	*ret_is_lost = r == -EIO;
	return r;
}

/* ---- all of them ---- */

/* Waits before a part is sent again; false: it is not. */
static bool parts_has_patience(struct aws_parts *parts)
{
	poll(NULL, 0, AWS_PAUSE_MS);
	LOCK_SCOPE(&parts->lock);
	return parts->err == 0 && clock_mono_ms() - parts->moved_ms < AWS_PATIENCE_MS;
}

static int parts_carry(struct aws_parts *parts, unsigned i, struct fault *reterr)
{
	struct aws_part *part = &parts->part[i];
	int r = 0;
	if (!parts->source)
		r = crc32c_file(parts->fd, i * parts->part_bytes, parts_length(parts, i), &part->crc);
	if (r < 0)
		return fault_set(reterr, -r, "write %s: the bytes to send cannot be read: %s", parts->key,
				 strerror(-r));
	if (!parts->source)
		crc32c_text(part->crc, part->crc32c);
	bool is_lost;
	do
		r = parts_send(parts, i, &is_lost, reterr);
	while (r < 0 && is_lost && parts_has_patience(parts));
	return r;
}

static bool parts_take(struct aws_parts *parts, unsigned *ret)
{
	LOCK_SCOPE(&parts->lock);
	if (parts->err || parts->n_taken == parts->n_parts)
		return false;
	*ret = parts->n_taken++;
	return true;
}

static void parts_told(struct aws_parts *parts, int r, const struct fault *fault)
{
	LOCK_SCOPE(&parts->lock);
	if (r == 0) {
		parts->moved_ms = clock_mono_ms();
	} else if (parts->err == 0) {
		parts->err = r;
		parts->fault = *fault;
	}
}

static void *parts_work(void *arg)
{
	struct aws_parts *parts = arg;
	unsigned i;
	while (parts_take(parts, &i)) {
		struct fault fault = {0};
		int r = parts_carry(parts, i, &fault);
		parts_told(parts, r, &fault);
	}
	return NULL;
}

/* The caller is one of the threads; without memory for others it is the only one. */
static int parts_perform(struct aws_parts *parts, struct fault *reterr)
{
	pthread_t thread[AWS_PARTS_AT_ONCE - 1];
	unsigned n = 0;
	parts->moved_ms = clock_mono_ms();
	while (n < AWS_PARTS_AT_ONCE - 1 && n + 1 < parts->n_parts &&
	       pthread_create(&thread[n], NULL, parts_work, parts) == 0)
		n++;
	parts_work(parts);
	while (n > 0)
		pthread_join(thread[--n], NULL);
	return parts->err < 0 ? fault_set(reterr, -parts->err, "%s", parts->fault.text) : 0;
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

static void xml_append(struct str *s, const char *text)
{
	for (; *text; text++) {
		if (strchr("&<>\"", *text))
			str_printf(s, "&#%d;", *text);
		else
			str_append_n(s, text, 1);
	}
}

static int complete_body(const struct aws_parts *parts, struct str *body)
{
	str_append(body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (unsigned i = 0; i < parts->n_parts; i++) {
		const struct aws_part *part = &parts->part[i];
		str_printf(body, "<Part><PartNumber>%u</PartNumber><ETag>&#34;", i + 1);
		xml_append(body, part->etag);
		str_append(body, "&#34;</ETag>");
		if (*part->crc32c) {
			str_append(body, "<ChecksumCRC32C>");
			xml_append(body, part->crc32c);
			str_append(body, "</ChecksumCRC32C>");
		}
		str_append(body, "</Part>");
	}
	return str_append(body, "</CompleteMultipartUpload>");
}

/* Of the whole: "" of a copy. */
static char *parts_crc(const struct aws_parts *parts, char ret[static AWS_CRC_MAX])
{
	uint32_t crc = 0;
	ret[0] = '\0';
	if (parts->source)
		return ret;
	for (unsigned i = 0; i < parts->n_parts; i++)
		crc = crc32c_join(crc, parts->part[i].crc, parts_length(parts, i));
	return crc32c_text(crc, ret);
}

/* The sum of the parts' sums, as services have it that know no other: "4waSgw==-3". */
static bool parts_is_composite(const struct aws_parts *parts, const char *its)
{
	char want[AWS_CRC_MAX], text[CRC32C_TEXT_MAX];
	uint32_t crc = 0;
	for (unsigned i = 0; i < parts->n_parts; i++) {
		uint32_t sum = parts->part[i].crc;
		const unsigned char bytes[] = {(unsigned char)(sum >> 24), (unsigned char)(sum >> 16),
					       (unsigned char)(sum >> 8), (unsigned char)sum};
		crc = crc32c_add(crc, bytes, sizeof(bytes));
	}
	snprintf(want, sizeof(want), "%s-%u", crc32c_text(crc, text), parts->n_parts);
	return !strcmp(its, want);
}

static int complete_check(const struct aws_parts *parts, const char *its, struct fault *reterr)
{
	char crc[AWS_CRC_MAX];
	if (!*its || parts->source || !strcmp(its, parts_crc(parts, crc)) || parts_is_composite(parts, its))
		return 0;
	return fault_set(reterr, EIO, "write %s: S3 has bytes with the CRC32C %s, sent were some with %s",
			 parts->key, its, crc);
}

/* Is it what is there now? By its sum, or where a service keeps none by size and number of parts. */
static bool complete_is_done(struct aws_parts *parts, struct object_detail *ret)
{
	struct object_detail there = {0};
	char crc[AWS_CRC_MAX], its[AWS_CRC_MAX], suffix[16];
	if (aws_head(parts->aws, parts->bucket, parts->key, &there, its, NULL) < 0)
		return false;
	snprintf(suffix, sizeof(suffix), "-%u", parts->n_parts);
	if (there.size_bytes == parts->n_bytes &&
	    (*its && *parts_crc(parts, crc) ? !strcmp(its, crc) : str_has_suffix(there.version, suffix))) {
		*ret = there;
		return true;
	}
	object_detail_release(&there);
	return false;
}

/* One try. *ret_again: another may do. */
static int complete_once(struct aws_parts *parts, struct aws_call *call, struct http_reply *reply,
			 struct object_detail *ret, bool *ret_again, struct fault *reterr)
{
	struct aws_made made;
	struct aws_error error = {0};
	int r = aws_call_perform(parts->aws, call, reply, reterr);
	*ret_again = false;
	if (r < 0)
		return r;
	r = aws_parse_made(reply->body.data, reply->body.len, "CompleteMultipartUploadResult", &made, &error,
			   reterr);
	if (r < 0) {
		const struct aws_error_meaning *meaning = aws_error_find(error.code);
		*ret_again = *error.code && (!meaning || meaning->err == EIO || meaning->flags);
		return r;
	}
	r = complete_check(parts, made.crc32c, reterr);
	return r < 0 ? r : aws_made_detail(made.version, parts->n_bytes, made.changed_ns, ret, reterr);
}

static int upload_complete(struct aws_parts *parts, const char *if_version, struct object_detail *ret,
			   struct fault *reterr)
{
	cleanup_str struct str body = {0};
	char crc[AWS_CRC_MAX], size[32];
	bool again = true, is_repeated = false;
	int r = complete_body(parts, &body);
	if (r < 0)
		return fault_set(reterr, -r, "write %s: %s", parts->key, strerror(-r));
	snprintf(size, sizeof(size), "%" PRId64, parts->n_bytes);
	for (int i = 0; again && i < AWS_COMPLETE_TRIES; i++) {
		cleanup_http_reply struct http_reply reply = {0};
		cleanup_call struct aws_call call = {0};
		if (i > 0)
			poll(NULL, 0, AWS_PAUSE_MS / 4 << i);
		aws_call_init(&call, "POST", parts->bucket, parts->key);
		aws_call_query(&call, "uploadId", parts->id);
		aws_call_header(&call, "Content-Type", "application/xml");
		aws_call_header(&call, "x-amz-mp-object-size", size);
		if (*parts_crc(parts, crc)) {
			aws_call_header(&call, "x-amz-checksum-crc32c", crc);
			aws_call_header(&call, "x-amz-checksum-type", "FULL_OBJECT");
		}
		aws_call_condition(&call, if_version);
		call.request.body = body.data;
		call.request.body_n = (int64_t)body.len;
		call.request.total_ms = AWS_COMPLETE_MS;
		r = complete_once(parts, &call, &reply, ret, &again, reterr);
		is_repeated |= i > 0 || reply.n_sent > 1 || (r < 0 && reply.status < 300);
		if (r < 0 && !again && !aws_reply_is(&reply, "NoSuchUpload"))
			r = aws_conditional(r, &reply, parts->key, if_version, reterr);
	}
	/* an overwriting that left what it was to leave is done, whoever did it */
	if (r < 0 && (is_repeated || (if_version && *if_version)) && complete_is_done(parts, ret))
		return 0;
	return r;
}

/* Parts, and what is between Create and the end of all. */
static int upload_perform(struct aws_parts *parts, const char *if_version, struct object_detail *ret,
			  struct fault *reterr)
{
	cleanup_close int note_fd = -1;
	cleanup_free char *note = NULL;
	int r = aws_leftover_note(parts->aws, parts->bucket, parts->key, parts->id, &note_fd, &note, reterr);
	if (r == 0)
		r = parts_perform(parts, reterr);
	if (r == 0)
		r = upload_complete(parts, if_version, ret, reterr);
	if (r < 0 && aws_abort(parts->aws, parts->bucket, parts->key, parts->id, NULL) < 0)
		return r; /* the note stays */
	if (note)
		aws_leftover_forget(parts->aws, note);
	return r;
}

static int upload_run(struct aws_parts *parts, const struct http_headers *headers, const char *if_version,
		      struct object_detail *ret, struct fault *reterr)
{
	cleanup_free char *id = NULL;
	parts->n_parts = (unsigned)((parts->n_bytes + parts->part_bytes - 1) / parts->part_bytes);
	if (parts->n_parts > AWS_PARTS_MAX)
		return fault_set(reterr, EFBIG, "write %s: %" PRId64 " bytes are more than S3 takes",
				 parts->key, parts->n_bytes);
	cleanup_free struct aws_part *part = calloc(parts->n_parts, sizeof(*part));
	if (!part)
		return fault_set(reterr, ENOMEM, "write %s: %s", parts->key, strerror(ENOMEM));
	parts->part = part;
	int r = aws_upload_create(parts->aws, parts->bucket, parts->key, headers, &id, reterr);
	if (r < 0)
		return r;
	parts->id = id;
	pthread_mutex_init(&parts->lock, NULL);
	r = upload_perform(parts, if_version, ret, reterr);
	pthread_mutex_destroy(&parts->lock);
	return r;
}

int aws_upload(struct aws *aws, const char *bucket, const char *key, int fd, int64_t n,
	       const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	struct aws_parts parts = {
		.aws = aws,
		.bucket = bucket,
		.key = key,
		.fd = fd,
		.n_bytes = n,
		.part_bytes = aws_part_size(n, AWS_PART_MIN),
	};
	int r = aws_check_target(aws, bucket, key, if_version, reterr);
	return r < 0 ? r : upload_run(&parts, NULL, if_version, ret, reterr);
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
	struct aws_parts parts = {
		.aws = aws,
		.bucket = to_bucket,
		.key = to_key,
		.fd = -1,
		.source = from.data,
		.source_match = match,
		.n_bytes = source->size_bytes,
		.part_bytes = aws_part_size(source->size_bytes, AWS_COPY_PART_MIN),
	};
	return upload_run(&parts, &headers, if_version, ret, reterr);
}
