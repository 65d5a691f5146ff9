/* SPDX-License-Identifier: MIT */
/*
 * A range of an object, as every object store gives it: 206 and Content-Range. The bytes reach the caller once and in
 * order however often the answer breaks off, and no byte does of an answer that is another range than was asked for.
 */
#pragma once

#include "http/http.h"
#include "http/sum.h"

enum { HTTP_RANGE_KEPT_MAX = 2 << 20 };

/* The sum that an answer tells of the whole object; `ret` is zeroed. */
typedef void (*http_sum_find)(const struct http_headers *headers, struct checksum *ret);

/* As bytes_sink of backend.h. */
typedef int (*http_range_sink)(void *arg, const void *bytes, size_t n);

struct http_range {
	http_range_sink sink;
	void *arg;
	http_sum_find find_sum; /* may be NULL */
	/*
	 * May be NULL. Gets the sum of the whole where an answer tells it, before the sink gets a byte. A sum that can be
	 * joined is then the caller's to compare, also if the answer is the whole object.
	 */
	struct checksum *ret_sum;
	int64_t at, n; /* wanted; n > 0. Cut by http_range_prepare at the last offset that there can be */

	/* range.c's; of the answer under way, on the http thread */
	int64_t size_bytes;  /* of the object */
	struct http_sum sum; /* of an answer that is the whole object */
	int64_t n_given;     /* to the sink, over all attempts */
	bool is_kept; /* a small object whose sum cannot be joined: nobody gets a byte before it was compared */
	struct str kept;
	bool is_wrong;
	char came[CHECKSUM_TEXT_MAX]; /* the sum of what came */
};

enum { HTTP_RANGE_TEXT_MAX = 64 };

/* Sink, limits and time of the request; the value of its Range header, which the caller adds, goes to `ret`. */
void http_range_prepare(struct http_range *range, struct http_request *request,
			char ret[static HTTP_RANGE_TEXT_MAX]);

/*
 * What http_perform came to: -EIO too when the range was the whole object, and its sum is another than the service tells;
 * then the sink has not got its last bytes.
 * 0 too for a range that begins where the object ends. `what`: in sentences.
 */
int http_range_finish(struct http_range *range, int r, const struct http_reply *reply, const char *what,
		      struct fault *reterr);

static inline void cleanup_http_range_(struct http_range *range)
{
	http_sum_release(&range->sum);
	str_release(&range->kept);
}
#define cleanup_http_range __attribute__((cleanup(cleanup_http_range_)))

/* How long n bytes may take: http_request.total_ms. */
int http_transfer_ms(int64_t n);
