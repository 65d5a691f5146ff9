/* SPDX-License-Identifier: MIT */
/*
 * HTTP for every cloud: an http thread owns a curl multi handle (there is one for object data, one for everything else);
 * everybody else hands it transfers and waits.
 *
 * A `struct http` is the engine, one a process; a `struct http_client` is one remote's use of it: its retry budget, its
 * clock skew, its counters. http_perform() is blocking and may be called from any number of threads.
 *
 * TLS is always verified, against the system's CA store or $SSL_CERT_FILE, $SSL_CERT_DIR; $https_proxy, $http_proxy,
 * $no_proxy are honoured as curl does. Redirects are not followed: they are answers. Bodies are never decompressed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"
#include "fault.h"
#include "str.h"

struct http;
struct http_client;

/* -ENOMEM, -EMFILE. The thread runs until http_free, which ends what is under way with -ECANCELED. */
int http_new(struct http **ret, struct fault *reterr);
/* From now on calls end with -ECANCELED, also those under way. Their threads may be joined then. */
void http_stop(struct http *http);
/* Takes NULL; stops, and waits for the calls. Clients are freed before or after. */
void http_free(struct http *http);

/* `name` (of the remote) is for log and fault texts; copied. */
int http_client_new(struct http *http, const char *name, struct http_client **ret);
void http_client_free(struct http_client *client); /* takes NULL; no call is under way */
/*
 * The attempts that begin from now on trust the authorities of this PEM file, and no others. NULL: those of the engine.
 * Copied. -ENOMEM. From any thread; a file that is not there fails the calls, which name it.
 */
int http_client_set_ca(struct http_client *client, const char *path);

/* ---- headers: names are compared without case ---- */

struct http_header {
	char *name, *value;
};

struct http_headers {
	struct http_header *header;
	size_t n;
};

/* Copies both. -EINVAL: a byte that would split the header (CR, LF, NUL) or no token for a name. -EFBIG: over 100. */
int http_headers_add(struct http_headers *headers, const char *name, const char *value);
const char *http_headers_get(const struct http_headers *headers,
			     const char *name); /* the first, or NULL; borrowed */
/* Of one that is a date ("Sun, 06 Nov 1994 08:49:37 GMT"): ns since 1970; 0: there is none, or no date. */
int64_t http_headers_time(const struct http_headers *headers, const char *name);
/* Wipes the values before they are freed: some are secrets. */
void http_headers_release(struct http_headers *headers);

static inline void cleanup_http_headers_(struct http_headers *headers)
{
	http_headers_release(headers);
}
#define cleanup_http_headers __attribute__((cleanup(cleanup_http_headers_)))

/* ---- ending a call early ---- */

/*
 * A wish of somebody else that calls end: Ctrl-C, a reader that has gone. Zeroed is ready; may be given to several
 * calls. Once set it stays set.
 */
struct http_cancel {
	_Atomic bool is_set; /* read it, but set it by http_cancel() */
};
/* From any thread: calls that carry `cancel` end with -EINTR, soon. */
void http_cancel(struct http *http, struct http_cancel *cancel);

/* ---- a request ---- */

/*
 * Adds what proves who asks (Authorization, x-amz-date ...) to `ret`. Called before each attempt, on the thread of
 * http_perform; may block, may itself call http_perform (for a token). `now_ns`: wall time, corrected by the skew of the
 * service's clock. `is_refused`: the attempt before this one was answered as told by `is_credential_refused`; get new
 * credentials if there are any, else return -EACCES.
 */
struct http_request;
typedef int (*http_authorize)(void *arg, const struct http_request *request, int64_t now_ns, bool is_refused,
			      struct http_headers *ret, struct fault *reterr);

/*
 * Gets the bytes of a 2xx body in order, on the http thread: copy and return, never wait. A negative return ends the
 * transfer with that error. `at` is the offset in the body; after a retry it starts at 0 again.
 */
typedef int (*http_sink)(void *arg, int64_t at, const void *bytes, size_t n);

/*
 * Sees status and headers of a 2xx before the sink sees its body, once an attempt, on the http thread: is it the range
 * that was asked for, or all of it? A negative return ends the transfer with that error, and the sink gets nothing.
 */
typedef int (*http_begin)(void *arg, int status, const struct http_headers *headers);

/* What the service's own error text says of an answer that is not 2xx: each cloud has one (its error format). */
struct http_verdict {
	bool is_transient; /* worth repeating although the status alone would not say so (S3's 400 RequestTimeout) */
	bool is_throttled;
	bool is_credential_refused; /* new credentials may help: asks authorize once more */
	bool is_skewed; /* the clock is off: the skew is taken from `Date`, and it is tried once more */
	int err;        /* positive errno instead of http_status_errno's; 0: that */
	char text[512]; /* the service's sentence; "" */
};
typedef void (*http_judge)(int status, const struct http_headers *headers, const char *body, size_t n,
			   struct http_verdict *ret);

enum {
	HTTP_CONNECT_MS = 5000, /* to connect */
	HTTP_STALL_MS = 15000,  /* no byte in either direction: the attempt has failed */
	HTTP_TOTAL_MS = 30000,  /* the call, retries and waits between them included, when total_ms is 0 */
	HTTP_ATTEMPTS = 4,      /* the first included */
	HTTP_ATTEMPTS_THROTTLED = 8, /* while the service answers "slow down" */
	HTTP_BACKOFF_MS = 250,
	HTTP_BACKOFF_MAX_MS = 8000,
	HTTP_PACE_MS = 20, /* between two requests to a host that asked for it the first time; doubles */
	HTTP_RETRY_TOKENS = 500,
	HTTP_BODY_MAX = 16 << 20, /* of an answer kept in memory, when max_body is 0 */
	HTTP_HEADERS_MAX = 256 << 10,
	HTTP_CONNECTIONS_PER_HOST = 16 /* requests at once: 16 for object data, 16 others */
};

/* Borrowed for the call. Zero is a good default for everything but method and url. */
struct http_request {
	const char *method;
	const char *url;                    /* absolute, percent-encoded: sent byte for byte */
	const struct http_headers *headers; /* may be NULL */

	/* Body: `body`, or body_n bytes of `body_fd` from body_at on (pread; for spools). NULL and -1/0: none. */
	const void *body;
	int body_fd; /* used when body is NULL and body_n > 0 */
	int64_t body_at, body_n;
	bool has_body; /* a body of 0 bytes is sent as one: Content-Length: 0 */

	http_authorize authorize;
	void *authorize_arg;
	http_judge judge; /* NULL: the status decides */

	http_begin begin; /* may be NULL; gets sink_arg */
	http_sink sink;   /* NULL: a 2xx body goes to reply->body. Others go to reply->body, cut at 64 KiB */
	void *sink_arg;
	int64_t max_body; /* more is -EFBIG */

	bool is_repeatable; /* sending it twice does what sending it once does: retried after a lost answer, 5xx, 429 */
	bool is_direct; /* never through a proxy: what is asked is this machine's own */
	bool is_bulk; /* object data: HTTP/1.1 over a pool of connections. Else HTTP/2 is used where offered */
	int total_ms;               /* 0: HTTP_TOTAL_MS; -1: no limit but that of silence */
	int stall_ms;               /* 0: HTTP_STALL_MS; more for a service that is silent while it works */
	struct http_cancel *cancel; /* may be NULL */
};

struct http_reply {
	int status;
	struct http_headers headers;
	struct str body;
	int64_t n_body; /* bytes of the 2xx body, whether kept or given to sink */
	/*
	 * How often the request went out: over 1, this answer may be a refusal of what an earlier one has done. More than
	 * the attempts: curl itself sends again what a connection of its pool took and closed over. Set on failure too.
	 */
	unsigned n_sent;
};
void http_reply_release(struct http_reply *reply); /* takes a zeroed one; leaves it zeroed */

static inline void cleanup_http_reply_(struct http_reply *reply)
{
	http_reply_release(reply);
}
#define cleanup_http_reply __attribute__((cleanup(cleanup_http_reply_)))

/*
 * Sends, waits, repeats where that is safe: transient failures (no connection, 408, 429, 500, 502, 503, 504, what
 * `judge` says) after a random time of at most 0.25 s * 2^n, 8 s at most, or Retry-After if that fits into the time. A
 * request that is not repeatable is repeated only when no byte of it can have been answered to (no connection made) or
 * the service says that it did nothing (429, 503 with Retry-After). Each client has a budget of retries, 500 tokens of
 * which one costs 5 and each success gives 1 back; a 429 or 503 slows every request to that host down.
 *
 * 0: the status is 2xx or 304; *ret is the caller's. Else -errno, with a sentence that names method, host and path
 * (never query or headers), what was answered, and the request id; *ret is then filled when an answer came (look at
 * ret->status, 0: none), and is the caller's too. A body shorter than Content-Length is -EIO after retries.
 *   -EHOSTUNREACH, -ETIMEDOUT, -EACCES (401), -EPERM (403), -ENOENT (404, 410), -EEXIST (409), -ESTALE (412), -EAGAIN
 *   (429, 503 throttled), -EIO, -EINVAL (400 and other 4xx), -EFBIG, -EINTR (cancelled), -ECANCELED (the engine ends)
 */
int http_perform(struct http_client *client, const struct http_request *request, struct http_reply *ret,
		 struct fault *reterr);

/* HTTP status -> positive errno; 0 for 2xx and 304. The only place (status.c). */
int http_status_errno(int status);

/* ---- numbers for stats.tsv ---- */

struct http_counts {
	uint64_t n_requests; /* attempts sent */
	uint64_t n_retries, n_throttled, n_failures;
	uint64_t n_bytes_in, n_bytes_out; /* of bodies */
	uint64_t n_open;                  /* under way now */
	int64_t skew_ms;                  /* the service's clock minus ours, as last seen to matter; 0 */
};
void http_client_counts(struct http_client *client, struct http_counts *ret);
void http_client_numbers(struct http_client *client, number_sink sink, void *arg);
