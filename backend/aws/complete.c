/* SPDX-License-Identifier: MIT */
/* The end of an upload in parts: the object is made of them, and compared with what was sent. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "aws/parts.h"
#include "base/crc32c.h"
#include "checksum.h"

enum { AWS_COMPLETE_TRIES = 5, AWS_COMPLETE_PAUSE_MS = 250 };

static void xml_append(struct str *s, const char *text)
{
	for (; *text; text++) {
		if (strchr("&<>\"", *text))
			str_printf(s, "&#%d;", *text);
		else
			str_append_n(s, text, 1);
	}
}

static int complete_body(const struct aws_upload *upload, struct str *body)
{
	str_append(body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (unsigned i = 0; i < upload->n_parts; i++) {
		const struct aws_part *part = &upload->part[i];
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
static char *upload_crc(const struct aws_upload *upload, char ret[static AWS_CRC_MAX])
{
	uint32_t crc = 0;
	ret[0] = '\0';
	if (upload->copy)
		return ret;
	for (unsigned i = 0; i < upload->n_parts; i++)
		crc = (uint32_t)checksum_join(CHECKSUM_CRC32C, crc, upload->part[i].crc, upload->part[i].n);
	return checksum_text(CHECKSUM_CRC32C, crc, ret);
}

/* The sum of the parts' sums, as services have it that know no other: "4waSgw==-3". */
static bool upload_is_composite(const struct aws_upload *upload, const char *its)
{
	char want[AWS_CRC_MAX], text[CHECKSUM_TEXT_MAX];
	uint32_t crc = 0;
	for (unsigned i = 0; i < upload->n_parts; i++) {
		uint32_t sum = upload->part[i].crc;
		const unsigned char bytes[] = {(unsigned char)(sum >> 24), (unsigned char)(sum >> 16),
					       (unsigned char)(sum >> 8), (unsigned char)sum};
		crc = crc32c_add(crc, bytes, sizeof(bytes));
	}
	snprintf(want, sizeof(want), "%s-%u", checksum_text(CHECKSUM_CRC32C, crc, text), upload->n_parts);
	return !strcmp(its, want);
}

static int complete_check(const struct aws_upload *upload, const char *its, struct fault *reterr)
{
	char crc[AWS_CRC_MAX];
	if (!*its || upload->copy || !strcmp(its, upload_crc(upload, crc)) ||
	    upload_is_composite(upload, its))
		return 0;
	return fault_set(reterr, EIO, "write %s: S3 has bytes with the CRC32C %s, sent were some with %s",
			 upload->key, its, crc);
}

/* Is it what is there now? By its sum, or where a service keeps none by size and number of parts. */
static bool complete_is_done(struct aws_upload *upload, struct object_detail *ret)
{
	struct object_detail there = {0};
	char crc[AWS_CRC_MAX], its[AWS_CRC_MAX], suffix[16];
	if (aws_head(upload->aws, upload->bucket, upload->key, &there, its, NULL) < 0)
		return false;
	snprintf(suffix, sizeof(suffix), "-%u", upload->n_parts);
	if (there.size_bytes == upload->n_bytes &&
	    (*its && *upload_crc(upload, crc) ? !strcmp(its, crc) : str_has_suffix(there.version, suffix))) {
		*ret = there;
		return true;
	}
	object_detail_release(&there);
	return false;
}

/* Some answer a second request with success while they are still busy with the first. */
static int complete_await(struct aws_upload *upload, struct object_detail *ret, struct fault *reterr)
{
	object_detail_release(ret);
	for (int i = 0; i < AWS_COMPLETE_TRIES; i++) {
		if (i > 0)
			poll(NULL, 0, AWS_COMPLETE_PAUSE_MS << i >> 1);
		if (complete_is_done(upload, ret))
			return 0;
	}
	return fault_set(reterr, EIO, "write %s: S3 says that it is made, and has not got it", upload->key);
}

/* One try. *ret_again: another may do. */
static int complete_once(struct aws_upload *upload, struct aws_call *call, struct http_reply *reply,
			 struct object_detail *ret, bool *ret_again, struct fault *reterr)
{
	struct aws_made made;
	struct aws_error error = {0};
	int r = aws_call_perform(upload->aws, call, reply, reterr);
	*ret_again = false;
	if (r < 0)
		return r;
	r = aws_parse_made(reply->body.data, reply->body.len, "CompleteMultipartUploadResult", &made, &error,
			   reterr);
	if (r < 0) {
		const struct http_meaning *meaning = http_meaning_find(aws_meanings, error.code);
		*ret_again = *error.code && (!meaning || meaning->err == EIO || meaning->flags);
		return r;
	}
	r = complete_check(upload, made.crc32c, reterr);
	/* S3 does not tell when, but for copies */
	int64_t changed_ns = made.changed_ns ?: http_headers_time(&reply->headers, "Date");
	return r < 0 ? r : aws_made_detail(made.version, upload->n_bytes, changed_ns, ret, reterr);
}

int aws_upload_complete(struct aws_upload *upload, const char *if_version, struct object_detail *ret,
			struct fault *reterr)
{
	cleanup_str struct str body = {0};
	char crc[AWS_CRC_MAX], size[32];
	bool again = true;
	int r = complete_body(upload, &body);
	if (r < 0)
		return fault_set(reterr, -r, "write %s: %s", upload->key, strerror(-r));
	snprintf(size, sizeof(size), "%" PRId64, upload->n_bytes);
	for (int i = 0; again && i < AWS_COMPLETE_TRIES; i++) {
		cleanup_http_reply struct http_reply reply = {0};
		cleanup_call struct aws_call call = {0};
		if (i > 0)
			poll(NULL, 0, AWS_COMPLETE_PAUSE_MS << i);
		aws_call_init(&call, "POST", upload->bucket, upload->key);
		aws_call_query(&call, "uploadId", upload->id);
		aws_call_header(&call, "Content-Type", "application/xml");
		aws_call_header(&call, "x-amz-mp-object-size", size);
		if (*upload_crc(upload, crc)) {
			aws_call_header(&call, "x-amz-checksum-crc32c", crc);
			aws_call_header(&call, "x-amz-checksum-type", "FULL_OBJECT");
		}
		aws_call_condition(&call, if_version);
		call.request.body = body.data;
		call.request.body_n = (int64_t)body.len;
		call.request.total_ms = AWS_COMPLETE_MS;
		call.request.stall_ms = AWS_WORK_MS;
		r = complete_once(upload, &call, &reply, ret, &again, reterr);
		if (r == 0 && (upload->may_be_done || reply.n_sent > 1))
			return complete_await(upload, ret, reterr);
		upload->may_be_done |= i > 0 || reply.n_sent > 1 || (r < 0 && reply.status < 300);
		if (r < 0 && !again && !aws_reply_is(&reply, "NoSuchUpload"))
			r = aws_conditional(r, &reply, upload->key, if_version, reterr);
	}
	/* an overwriting that left what it was to leave is done, whoever did it */
	if (r < 0 && (upload->may_be_done || (if_version && *if_version)) && complete_is_done(upload, ret))
		return 0;
	return r;
}
