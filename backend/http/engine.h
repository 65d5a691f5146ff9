/* SPDX-License-Identifier: MIT */
/*
 * The inside of http/, shared by its files only.
 *
 * A call (http_perform) lives on its caller's stack. It makes attempts, one after the other. An attempt waits in the
 * queue of its host until that has room, runs in a curl multi handle, and is done:
 *
 *   QUEUED --(http thread: host has room)--> RUNNING --(http thread)--> DONE
 *   QUEUED --(caller: cancelled, too late)--> DONE
 *
 * There are two lanes, each a thread with a multi handle of its own. libcurl 7.88 marks a host as "no multiplexing" as
 * soon as one answer from it came by HTTP/1.1, so object data and API requests cannot share one.
 */
#pragma once

#include "http/http.h"
#include "http/tuning.h"
#include "http/url.h"

#include <curl/curl.h>
#include <pthread.h>
#include <sys/queue.h>

enum { HTTP_LANE_API, HTTP_LANE_BULK, HTTP_N_LANES };
enum { HTTP_ERROR_BODY_MAX = 64 << 10, HTTP_N_HEADERS_MAX = 100 };

enum http_attempt_state { HTTP_QUEUED, HTTP_RUNNING, HTTP_DONE };

struct http_attempt {
	/* immutable once queued */
	struct http_call *call;
	struct curl_slist *header_list; /* owned; holds secrets */

	/* protected by http->lock */
	enum http_attempt_state state;
	int unwanted; /* -errno: somebody waits for it to end */
	TAILQ_ENTRY(http_attempt) in_queue;

	/* http thread only, until it is done; then the caller's */
	LIST_ENTRY(http_attempt) in_lane;
	CURL *easy;
	struct http_reply reply;
	unsigned n_sent;       /* times that curl began to send it */
	int64_t n_out;         /* bytes of the request's body that curl took; goes back when it rewinds */
	size_t n_header_bytes; /* of the answer, informational ones included */
	int64_t moved_ms; /* clock_mono_ms when a byte last moved; 0: the request is not on its way yet */
	int64_t n_moved;  /* as curl counts, both directions */
	bool has_headers; /* the answer's are complete: what comes now are trailers */
	bool is_cut;      /* the error's body was long enough */

	/* what came of it: 0 is an answer, with any status */
	int err;           /* -errno */
	bool is_transient; /* of an err: another attempt may do */
	bool is_sent;      /* a part of the request may have arrived */
	char why[CURL_ERROR_SIZE];
};

TAILQ_HEAD(http_attempt_queue, http_attempt);
LIST_HEAD(http_attempt_list, http_attempt);

/* One a scheme, name and port, for as long as calls use it or it wants to be left alone. */
struct http_host {
	/* protected by http->lock */
	LIST_ENTRY(http_host) in_http;
	int n_refs;
	struct http_attempt_queue queue[HTTP_N_LANES];
	int n_running[HTTP_N_LANES];
	int64_t pace_ms;   /* between two requests; 0: as fast as they come */
	int64_t next_ms;   /* no request before */
	int64_t slowed_ms; /* when pace_ms last grew */

	/* immutable */
	size_t n_name;
	char name[]; /* "https://host:port" */
};

struct http_lane {
	/* immutable after init */
	struct http *http;
	int index;
	CURLM *multi;
	CURLSH *share; /* TLS sessions: the multi handle keeps everything else */
	pthread_t thread;
	bool has_thread;

	/* http thread only */
	struct http_attempt_list running;
};

struct http {
	/* immutable after init */
	struct http_limits limits;
	char *ca_file, *ca_dir; /* NULL: libcurl's */
	bool uses_ca_file_only; /* which libcurl keeps parsed, for the next connection */
	struct http_lane lane[HTTP_N_LANES];

	pthread_mutex_t
		lock; /* may be taken under a client's; never held over a call of curl's but the wake-up */
	/* protected by lock */
	LIST_HEAD(, http_call) calls;
	LIST_HEAD(, http_host) hosts;
	pthread_cond_t emptied; /* calls */
	bool is_stopped;        /* calls end */
	bool is_over;           /* threads end */
};

struct http_client {
	/* immutable after init */
	struct http *http;
	char *name;

	pthread_mutex_t lock;
	/* protected by lock */
	struct http_counts counts;
	int n_tokens; /* of the retry budget */
	int64_t skew_ns;
	char *ca_file; /* NULL: the engine's */
};

struct http_call {
	/* immutable once it is open */
	struct http_client *client;
	const struct http_request *request;
	struct url url;
	struct http_host *host;
	int64_t end_ms; /* of clock_mono_ms; INT64_MAX: none */
	int lane;

	/* protected by http->lock */
	LIST_ENTRY(http_call) in_http;
	pthread_cond_t changed;

	/* the caller's thread only */
	unsigned n_sent;
	int n_attempts, n_retries;
	bool was_refused, was_skewed;
};

/* ---- client.c: calls and their waits */

/* Needs client, request and url filled. -ECANCELED, -ENOMEM. */
int http_call_open(struct http_call *call);
void http_call_close(struct http_call *call);
/* Waits until `until_ms`; 0 then. -EINTR, -ECANCELED, -ETIMEDOUT (the call's time is up). */
int http_call_wait(struct http_call *call, int64_t until_ms);
/* Waits for the host's next free moment, and takes it. Errors as http_call_wait. */
int http_call_wait_for_host(struct http_call *call);
/* Runs one; blocks until it is done. What came of it is in `attempt`, the error also returned. */
int http_attempt_run(struct http_attempt *attempt);

/* ---- host.c: who may send now; all under http->lock */

struct http_host *http_host_ref_locked(struct http *http, const struct url *url); /* NULL: no memory */
void http_host_unref_locked(struct http *http, struct http_host *host, int64_t now_ms);
/* Milliseconds until a request may go out; 0: now, and the next one has to wait. */
int64_t http_host_take_turn_locked(struct http_host *host, int64_t now_ms);
/* The service has said "slow down". */
void http_host_slow_down_locked(struct http_host *host, const struct http_limits *limits, int64_t now_ms);
void http_host_speed_up_locked(struct http_host *host);

/* ---- transfer.c: an attempt as curl sees it; http thread only */

int http_transfer_init(struct http_attempt *attempt, struct http_lane *lane);
void http_transfer_finish(struct http_attempt *attempt, CURLcode code);
/* No byte moved for too long, which attempt->why says then; *ret_left_ms: otherwise, how long that may still last (INT64_MAX: not known). */
bool http_transfer_is_stalled(struct http_attempt *attempt, int64_t now_ms, int64_t *ret_left_ms);

/* Any thread. Adds "Name: value" as curl wants it. */
int http_header_list_add(struct curl_slist **list, const struct http_headers *headers);
void http_header_list_free(struct curl_slist *list); /* takes NULL; wipes it */

/* ---- headers.c */

/* One line of an answer, with or without its end. 0 as well when it is no header; -ENOMEM, -EFBIG. */
int http_headers_add_line(struct http_headers *headers, const char *line, size_t n);
/* "Sun, 06 Nov 1994 08:49:37 GMT"; -EINVAL. */
int http_date_parse(const char *text, int64_t *ret_wall_ns);
/* Retry-After, as seconds or as a date (from the answer's Date, else `now_ns`); 0: none, or none that can be read. */
int64_t http_retry_after_ms(const struct http_headers *headers, int64_t now_ns);

/* ---- profile.c */

/* $SSL_CERT_FILE and $SSL_CERT_DIR, if set; the caller's. -ENOMEM. */
int http_profile_read(char **ret_ca_file, char **ret_ca_dir);
