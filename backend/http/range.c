/* SPDX-License-Identifier: MIT */
/* Reads of objects; see range.h. */
#include "http/range.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SLOWEST_BYTES_PER_MS = 64 };

int http_transfer_ms(int64_t n)
{
	int64_t ms = HTTP_TOTAL_MS + n / SLOWEST_BYTES_PER_MS;
	return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

/* "bytes 0-9/100", and no other range than the one that was asked for, cut at the end of the object. */
static bool is_wanted(struct http_range *range, const char *text)
{
	int64_t first = -1, last = -1, size = -1;
	int end = 0;
	if (!text ||
	    sscanf(text, "bytes %" SCNd64 "-%" SCNd64 "/%" SCNd64 "%n", &first, &last, &size, &end) != 3 ||
	    end == 0 || text[end] || first != range->at || last < first || last >= size)
		return false;
	range->size_bytes = size;
	return last - first + 1 == (size - first < range->n ? size - first : range->n);
}

/* A server that knows no ranges answers 200 and begins at the beginning: no byte of that is taken. */
static int on_begin(void *arg, int status, const struct http_headers *headers)
{
	struct http_range *range = arg;
	struct checksum told = {0};
	if (status != 206 || !is_wanted(range, http_headers_get(headers, "Content-Range")))
		return -EIO;
	bool is_whole = range->at == 0 && range->size_bytes <= range->n;
	if (range->find_sum && (is_whole || range->ret_sum))
		range->find_sum(headers, &told);
	if (range->ret_sum)
		*range->ret_sum = told;
	bool is_joinable = told.kind != CHECKSUM_SHA256;
	range->is_kept = is_whole && !is_joinable && range->size_bytes <= HTTP_RANGE_KEPT_MAX;
	str_clear(&range->kept);
	bool is_ours = is_whole && !(range->ret_sum && is_joinable);
	return http_sum_begin(&range->sum, is_ours ? &told : &(struct checksum){0});
}

static int on_bytes(void *arg, int64_t at, const void *bytes, size_t n)
{
	struct http_range *range = arg;
	http_sum_add(&range->sum, bytes, n);
	range->is_wrong =
		at + (int64_t)n == range->size_bytes && !http_sum_is_right(&range->sum, range->came);
	if (range->is_wrong)
		return -EIO;
	if (range->is_kept) {
		int r = str_append_n(&range->kept, bytes, n);
		if (r < 0 || at + (int64_t)n < range->size_bytes)
			return r;
		at = 0;
		bytes = range->kept.data;
		n = range->kept.len;
	}
	if (at + (int64_t)n <= range->n_given)
		return 0;
	int64_t n_known = range->n_given > at ? range->n_given - at : 0; /* of an attempt before this one */
	int r = range->sink(range->arg, (const char *)bytes + n_known, n - (size_t)n_known);
	if (r == 0)
		range->n_given = at + (int64_t)n;
	return r;
}

void http_range_prepare(struct http_range *range, struct http_request *request,
			char ret[static HTTP_RANGE_TEXT_MAX])
{
	if (range->n > INT64_MAX - range->at)
		range->n = INT64_MAX - range->at;
	request->begin = on_begin;
	request->sink = on_bytes;
	request->sink_arg = range;
	request->max_body = range->n;
	request->is_bulk = true;
	request->total_ms = http_transfer_ms(range->n);
	snprintf(ret, HTTP_RANGE_TEXT_MAX, "bytes=%" PRId64 "-%" PRId64, range->at, range->at + range->n - 1);
}

int http_range_finish(struct http_range *range, int r, const struct http_reply *reply, const char *what,
		      struct fault *reterr)
{
	if (reply->status == 416)
		return 0;
	if (range->is_wrong)
		return fault_set(reterr, EIO,
				 "read %s: the bytes that came have the %s %s, the object has %s", what,
				 checksum_name(range->sum.told.kind), range->came, range->sum.told.text);
	if (r == -EFBIG)
		return fault_set(reterr, EIO, "read %s: the service answered with more than was asked for",
				 what);
	return r;
}
