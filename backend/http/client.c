/* SPDX-License-Identifier: MIT */
/* The engine: its threads, the way of an attempt through them, waiting, cancelling, and the end. */
#include "http/engine.h"

#include "cleanup.h"
#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

enum { CONNECTIONS_KEPT = 64 };

/* ---- the http thread */

static void lane_wake(struct http_lane *lane)
{
	(void)curl_multi_wakeup(lane->multi); /* can only fail if the multi handle has none: see lane_init */
}

static void attempt_done_locked(struct http_attempt *attempt)
{
	attempt->state = HTTP_DONE;
	pthread_cond_signal(&attempt->call->changed);
}

/* After this the attempt may be gone. */
static void lane_finish(struct http_lane *lane, struct http_attempt *attempt, CURLcode code)
{
	struct http_host *host = attempt->call->host;

	if (attempt->easy)
		(void)curl_multi_remove_handle(lane->multi, attempt->easy);
	LIST_REMOVE(attempt, in_lane);
	http_transfer_finish(attempt, code);
	LOCK_SCOPE(&lane->http->lock);
	host->n_running[lane->index]--;
	attempt_done_locked(attempt);
}

static void lane_start(struct http_lane *lane, struct http_attempt *attempt)
{
	LIST_INSERT_HEAD(&lane->running, attempt, in_lane);
	int r = http_transfer_init(attempt, lane);
	if (r == 0 && curl_multi_add_handle(lane->multi, attempt->easy) != CURLM_OK)
		r = -ENOMEM;
	if (r < 0)
		lane_finish(lane, attempt, CURLE_OUT_OF_MEMORY);
}

/* The next attempt whose host has room, now running; NULL: none. */
static struct http_attempt *lane_take(struct http_lane *lane)
{
	struct http *http = lane->http;
	struct http_host *host;

	LOCK_SCOPE(&http->lock);
	LIST_FOREACH(host, &http->hosts, in_http)
	{
		struct http_attempt *attempt = TAILQ_FIRST(&host->queue[lane->index]);
		if (!attempt || host->n_running[lane->index] >= http->limits.connections_per_host)
			continue;
		TAILQ_REMOVE(&host->queue[lane->index], attempt, in_queue);
		host->n_running[lane->index]++;
		attempt->state = HTTP_RUNNING;
		return attempt;
	}
	return NULL;
}

/* A running attempt that somebody wants ended; NULL: none. */
static struct http_attempt *lane_find_unwanted(struct http_lane *lane)
{
	struct http_attempt *attempt;

	LOCK_SCOPE(&lane->http->lock);
	LIST_FOREACH(attempt, &lane->running, in_lane)
	{
		if (attempt->unwanted == 0)
			continue;
		attempt->err = attempt->unwanted;
		return attempt;
	}
	return NULL;
}

static void lane_finish_completed(struct http_lane *lane)
{
	CURLMsg *message;
	int n_left;

	while ((message = curl_multi_info_read(lane->multi, &n_left))) {
		CURLcode code = message->data.result;
		char *attempt = NULL;
		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &attempt);
		lane_finish(lane, (struct http_attempt *)attempt, code);
	}
}

/* Ends what has stalled; returns how long the others may be left alone. */
static int lane_check_stalls(struct http_lane *lane)
{
	struct http_attempt *attempt = LIST_FIRST(&lane->running);
	int64_t now_ms = clock_mono_ms(), wait_ms = INT_MAX;

	while (attempt) {
		struct http_attempt *next = LIST_NEXT(attempt, in_lane);
		int64_t left_ms;
		if (http_transfer_is_stalled(attempt, now_ms, &left_ms)) {
			lane_finish(lane, attempt, CURLE_OPERATION_TIMEDOUT);
		} else if (left_ms < wait_ms) {
			wait_ms = left_ms;
		}
		attempt = next;
	}
	return (int)wait_ms;
}

static bool lane_is_over(struct http_lane *lane)
{
	LOCK_SCOPE(&lane->http->lock);
	return lane->http->is_over;
}

static void *lane_run(void *arg)
{
	struct http_lane *lane = arg;
	struct http_attempt *attempt;
	int n_running;

	for (int wait_ms = 0; !lane_is_over(lane);) {
		(void)curl_multi_poll(lane->multi, NULL, 0, wait_ms, NULL);
		(void)curl_multi_perform(lane->multi, &n_running); /* what fails there is told by info_read */
		lane_finish_completed(lane);
		while ((attempt = lane_find_unwanted(lane)))
			lane_finish(lane, attempt, CURLE_OK);
		wait_ms = lane_check_stalls(lane);
		while ((attempt = lane_take(lane))) /* last: curl_multi_poll returns at once for them */
			lane_start(lane, attempt);
	}
	assert(LIST_EMPTY(&lane->running));
	return NULL;
}

/* ---- calls, on their own threads */

/* Why the call must end; 0: it goes on. */
static int call_is_over_locked(const struct http_call *call)
{
	const struct http_cancel *cancel = call->request->cancel;

	if (call->client->http->is_stopped)
		return -ECANCELED;
	if (cancel && cancel->is_set)
		return -EINTR;
	return clock_mono_ms() >= call->end_ms ? -ETIMEDOUT : 0;
}

int http_call_open(struct http_call *call)
{
	struct http *http = call->client->http;

	LOCK_SCOPE(&http->lock);
	if (http->is_stopped)
		return -ECANCELED;
	call->host = http_host_ref_locked(http, &call->url);
	if (!call->host)
		return -ENOMEM;
	clock_condition_init(&call->changed);
	LIST_INSERT_HEAD(&http->calls, call, in_http);
	return 0;
}

void http_call_close(struct http_call *call)
{
	struct http *http = call->client->http;

	LOCK_SCOPE(&http->lock);
	LIST_REMOVE(call, in_http);
	http_host_unref_locked(http, call->host, clock_mono_ms());
	(void)pthread_cond_destroy(&call->changed);
	if (LIST_EMPTY(&http->calls))
		pthread_cond_broadcast(&http->emptied);
}

int http_call_wait(struct http_call *call, int64_t until_ms)
{
	struct http *http = call->client->http;
	int r;

	LOCK_SCOPE(&http->lock);
	while ((r = call_is_over_locked(call)) == 0 && clock_mono_ms() < until_ms)
		(void)clock_wait(&call->changed, &http->lock,
				 until_ms < call->end_ms ? until_ms : call->end_ms);
	return r;
}

static int64_t call_take_turn(struct http_call *call, int64_t now_ms)
{
	LOCK_SCOPE(&call->client->http->lock);
	return http_host_take_turn_locked(call->host, now_ms);
}

int http_call_wait_for_host(struct http_call *call)
{
	int r = 0;

	while (r == 0) {
		int64_t now_ms = clock_mono_ms(), wait_ms = call_take_turn(call, now_ms);
		if (wait_ms == 0)
			return 0;
		r = http_call_wait(call, now_ms + wait_ms);
	}
	return r;
}

/* Its http thread tells when it has ended; one that still waits in the queue has. */
static void attempt_end_locked(struct http_attempt *attempt, int err)
{
	struct http_call *call = attempt->call;

	if (attempt->state == HTTP_QUEUED) {
		TAILQ_REMOVE(&call->host->queue[call->lane], attempt, in_queue);
		attempt->err = err;
		attempt->state = HTTP_DONE;
		return;
	}
	attempt->unwanted = err;
	lane_wake(&call->client->http->lane[call->lane]);
}

int http_attempt_run(struct http_attempt *attempt)
{
	struct http_call *call = attempt->call;
	struct http *http = call->client->http;

	LOCK_SCOPE(&http->lock);
	TAILQ_INSERT_TAIL(&call->host->queue[call->lane], attempt, in_queue);
	attempt->state = HTTP_QUEUED;
	lane_wake(&http->lane[call->lane]);
	while (attempt->state != HTTP_DONE) {
		int r = attempt->unwanted ? 0 : call_is_over_locked(call);
		if (r < 0)
			attempt_end_locked(attempt, r);
		else
			(void)clock_wait(&call->changed, &http->lock,
					 attempt->unwanted ? INT64_MAX : call->end_ms);
	}
	return attempt->err;
}

void http_cancel(struct http *http, struct http_cancel *cancel)
{
	struct http_call *call;

	LOCK_SCOPE(&http->lock);
	cancel->is_set = true;
	LIST_FOREACH(call, &http->calls, in_http)
	{
		if (call->request->cancel == cancel)
			pthread_cond_signal(&call->changed);
	}
}

/* ---- from beginning to end */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_status;

static void curl_set_up(void)
{
	curl_status = curl_global_init(CURL_GLOBAL_ALL); /* for the life of the process */
}

static int lane_init(struct http_lane *lane, struct http *http, int index)
{
	lane->http = http;
	lane->index = index;
	LIST_INIT(&lane->running);
	lane->multi = curl_multi_init();
	lane->share = curl_share_init();
	if (!lane->multi || !lane->share ||
	    curl_share_setopt(lane->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK ||
	    curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT) != CURLM_OK)
		return -ENOMEM;
	return curl_multi_wakeup(lane->multi) == CURLM_OK ? 0 : -EMFILE;
}

static int lane_start_thread(struct http_lane *lane)
{
	sigset_t all, before;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* also SIGPIPE, which OpenSSL can raise */
	int r = pthread_create(&lane->thread, NULL, lane_run, lane);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	lane->has_thread = r == 0;
	return -r;
}

static void lane_release(struct http_lane *lane)
{
	if (lane->has_thread) {
		lane_wake(lane);
		(void)pthread_join(lane->thread, NULL);
	}
	(void)curl_multi_cleanup(lane->multi);
	(void)curl_share_cleanup(lane->share);
}

static int either(int value, int usual)
{
	return value ? value : usual;
}

static struct http_limits limits_fill(const struct http_limits *limits)
{
	return (struct http_limits){
		.connect_ms = either(limits->connect_ms, HTTP_CONNECT_MS),
		.stall_ms = either(limits->stall_ms, HTTP_STALL_MS),
		.total_ms = either(limits->total_ms, HTTP_TOTAL_MS),
		.attempts = either(limits->attempts, HTTP_ATTEMPTS),
		.attempts_throttled = either(limits->attempts_throttled, HTTP_ATTEMPTS_THROTTLED),
		.backoff_ms = either(limits->backoff_ms, HTTP_BACKOFF_MS),
		.backoff_max_ms = either(limits->backoff_max_ms, HTTP_BACKOFF_MAX_MS),
		.pace_ms = either(limits->pace_ms, HTTP_PACE_MS),
		.connections_per_host = either(limits->connections_per_host, HTTP_CONNECTIONS_PER_HOST),
	};
}

/* libcurl keeps a CA file parsed between connections, but not if there is a directory as well. */
static bool is_ca_file_enough(const struct http *http)
{
	const char *file = http->ca_file;

	if (!file)
		file = curl_version_info(CURLVERSION_NOW)->cainfo;
	return !http->ca_dir && file && (http->ca_file || access(file, R_OK) == 0);
}

static int http_set_up(struct http *http)
{
	int r = http_profile_read(&http->ca_file, &http->ca_dir);

	(void)pthread_once(&curl_once, curl_set_up);
	if (r == 0 && curl_status != CURLE_OK)
		r = -ENOMEM;
	if (r < 0)
		return r;
	http->uses_ca_file_only = is_ca_file_enough(http);
	for (int i = 0; r == 0 && i < HTTP_N_LANES; i++)
		r = lane_init(&http->lane[i], http, i);
	for (int i = 0; r == 0 && i < HTTP_N_LANES; i++)
		r = lane_start_thread(&http->lane[i]);
	return r;
}

int http_new_with_limits(const struct http_limits *limits, struct http **ret, struct fault *reterr)
{
	struct http *http = calloc(1, sizeof(*http));

	if (!http)
		return fault_set(reterr, ENOMEM, "HTTP: no memory");
	http->limits = limits_fill(limits);
	LIST_INIT(&http->calls);
	LIST_INIT(&http->hosts);
	(void)pthread_mutex_init(&http->lock, NULL);
	clock_condition_init(&http->emptied);
	int r = http_set_up(http);
	if (r < 0) {
		http_free(http);
		return fault_set(reterr, -r, "HTTP cannot be set up: %s", strerrordesc_np(-r));
	}
	*ret = http;
	return 0;
}

int http_new(struct http **ret, struct fault *reterr)
{
	return http_new_with_limits(&(struct http_limits){0}, ret, reterr);
}

void http_stop(struct http *http)
{
	struct http_call *call;

	LOCK_SCOPE(&http->lock);
	http->is_stopped = true;
	LIST_FOREACH(call, &http->calls, in_http)
	{
		pthread_cond_signal(&call->changed);
	}
}

static void http_wait_for_calls(struct http *http)
{
	LOCK_SCOPE(&http->lock);
	while (!LIST_EMPTY(&http->calls))
		(void)clock_wait(&http->emptied, &http->lock, INT64_MAX);
	http->is_over = true;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	http_stop(http);
	http_wait_for_calls(http);
	for (int i = 0; i < HTTP_N_LANES; i++)
		lane_release(&http->lane[i]);
	for (struct http_host *host; (host = LIST_FIRST(&http->hosts));) {
		LIST_REMOVE(host, in_http);
		free(host);
	}
	(void)pthread_cond_destroy(&http->emptied);
	(void)pthread_mutex_destroy(&http->lock);
	free(http->ca_file);
	free(http->ca_dir);
	free(http);
}

int http_client_new(struct http *http, const char *name, struct http_client **ret)
{
	struct http_client *client = calloc(1, sizeof(*client));

	if (client)
		client->name = strdup(name);
	if (!client || !client->name) {
		free(client);
		return -ENOMEM;
	}
	client->http = http;
	client->n_tokens = HTTP_RETRY_TOKENS;
	(void)pthread_mutex_init(&client->lock, NULL);
	*ret = client;
	return 0;
}

void http_client_free(struct http_client *client)
{
	if (!client)
		return;
	(void)pthread_mutex_destroy(&client->lock);
	free(client->ca_file);
	free(client->name);
	free(client);
}

int http_client_set_ca(struct http_client *client, const char *path)
{
	char *copy = path ? strdup(path) : NULL;

	if (path && !copy)
		return -ENOMEM;
	LOCK_SCOPE(&client->lock);
	free(client->ca_file);
	client->ca_file = copy;
	return 0;
}

void http_client_counts(struct http_client *client, struct http_counts *ret)
{
	LOCK_SCOPE(&client->lock);
	*ret = client->counts;
	ret->skew_ms = client->skew_ns / 1000000;
}

void http_client_numbers(struct http_client *client, number_sink sink, void *arg)
{
	struct http_counts counts;
	http_client_counts(client, &counts);
	sink(arg, "requests", counts.n_requests);
	sink(arg, "requests under way", counts.n_open);
	sink(arg, "retries", counts.n_retries);
	sink(arg, "throttled", counts.n_throttled);
	sink(arg, "bytes in", counts.n_bytes_in);
	sink(arg, "bytes out", counts.n_bytes_out);
}
