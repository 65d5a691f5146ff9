/* SPDX-License-Identifier: MIT */
/* Many threads on one engine: answers good and bad, retries, cancels at any moment, and the end amid all of it. */
#include "http/http.h"
#include "http/tuning.h"
#include "server.h"
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { N_WORKERS = 16, N_REQUESTS = 120, N_BYTES = 100000 };

static struct {
	/* immutable once threads run */
	struct server *server;
	struct http *http;
	struct http_client *client;
	char url[128];

	pthread_mutex_t lock;
	/* protected by lock */
	struct http_cancel *cancel[N_WORKERS]; /* of what a worker does now */
	int n_over;
} test = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* By the path: what it is to be. */
static void answer(void *arg, const struct server_request *request, struct server_answer *ret)
{
	const int kind = request->target[1] - '0';

	*ret = (struct server_answer){.n_body = N_BYTES};
	if (kind == 1 && request->nth_on_connection % 2 == 0)
		ret->status = 503;
	else if (kind == 2)
		*ret = (struct server_answer){.deed = SERVER_IS_SILENT};
	else if (kind == 3)
		ret->cut_at = N_BYTES / 2;
	else if (kind == 4)
		ret->is_chunked = true;
}

static int count(void *arg, int64_t at, const void *bytes, size_t n)
{
	*(int64_t *)arg = at + (int64_t)n; /* the http thread's, until http_perform returns */
	return 0;
}

static int authorize(void *arg, const struct http_request *request, int64_t now_ns, bool is_refused,
		     struct http_headers *ret, struct fault *reterr)
{
	return http_headers_add(ret, "Authorization", "Nobody");
}

static void begin(size_t worker, struct http_cancel *cancel)
{
	pthread_mutex_lock(&test.lock);
	test.cancel[worker] = cancel;
	pthread_mutex_unlock(&test.lock);
}

static void ask(size_t worker, int i)
{
	const int kind = i % 5;
	struct http_cancel cancel = {0};
	struct http_reply reply;
	struct fault fault;
	char url[sizeof(test.url) + 8];
	int64_t n = 0;

	(void)snprintf(url, sizeof(url), "%s/%d", test.url, kind);
	const struct http_request request = {.method = "GET",
					     .url = url,
					     .authorize = authorize,
					     .sink = i % 2 ? count : NULL,
					     .sink_arg = &n,
					     .is_repeatable = true,
					     .is_bulk = i % 3 == 0,
					     .cancel = &cancel};
	begin(worker, &cancel);
	int r = http_perform(test.client, &request, &reply, &fault);
	begin(worker, NULL);
	if (r == 0 && kind != 2)
		must(reply.n_body == N_BYTES && (!request.sink || n == N_BYTES));
	else
		must(r == -EINTR || r == -ECANCELED || (kind == 1 && r == -EAGAIN) ||
		     (kind == 3 && r == -EIO) || (kind == 2 && r == -ETIMEDOUT));
	http_reply_release(&reply);
}

static void *work(void *arg)
{
	for (int i = 0; i < N_REQUESTS; i++)
		ask((size_t)arg, i);
	pthread_mutex_lock(&test.lock);
	test.n_over++;
	pthread_mutex_unlock(&test.lock);
	return NULL;
}

/* Cancels whatever is under way, one worker after the other, until all have ended. */
static void *disturb(void *arg)
{
	for (size_t worker = 0;; worker = (worker + 1) % N_WORKERS) {
		struct http_counts counts;
		pthread_mutex_lock(&test.lock);
		if (test.cancel[worker])
			http_cancel(test.http, test.cancel[worker]);
		bool is_over = test.n_over == N_WORKERS;
		pthread_mutex_unlock(&test.lock);
		http_client_counts(test.client, &counts);
		if (is_over)
			return NULL;
		(void)usleep(3000); /* lets some of them end by themselves */
	}
}

int main(int argc, char **argv)
{
	static const struct http_limits limits = {
		.stall_ms = 500, .backoff_ms = 2, .backoff_max_ms = 4, .pace_ms = 1, .attempts_throttled = 3};
	const bool is_stopped = argc > 1 && strcmp(argv[1], "stop") == 0; /* the end comes amid all of it */
	pthread_t worker[N_WORKERS], disturber;

	must(server_new(&test.server) == 0);
	server_answer_with(test.server, answer, NULL);
	(void)snprintf(test.url, sizeof(test.url), "%s", server_url(test.server));
	must(http_new_with_limits(&limits, &test.http, NULL) == 0);
	must(http_client_new(test.http, "threads", &test.client) == 0);
	for (size_t i = 0; i < N_WORKERS; i++)
		must(pthread_create(&worker[i], NULL, work, (void *)i) == 0);
	must(pthread_create(&disturber, NULL, disturb, NULL) == 0);
	if (is_stopped) {
		must(server_wait(test.server, 100));
		http_stop(test.http);
	}
	for (size_t i = 0; i < N_WORKERS; i++)
		pthread_join(worker[i], NULL);
	pthread_join(disturber, NULL);
	http_free(test.http);
	http_client_free(test.client);
	server_free(test.server);
	return 0;
}
