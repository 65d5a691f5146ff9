/* SPDX-License-Identifier: MIT */
/* What is repeated and what is not, how long it waits for that, and what it says in the end. */
#include "world.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

TestSuite(request, .init = world_open, .fini = world_close, .timeout = 60);

static void reopen(struct http_limits limits)
{
	world_close();
	world_open_with(&limits);
}

static int post(void)
{
	return ask((struct http_request){.method = "POST", .url = "/", .has_body = true});
}

/* The 5xx and others, for ever: how often it is asked. */
static void expect_asked(int status, const char *headers, size_t n_repeatable, size_t n_not)
{
	const struct server_answer answer = {.status = status, .headers = headers},
				   always[10] = {answer, answer, answer, answer, answer,
						 answer, answer, answer, answer, answer};
	size_t n = server_n_requests(world.server);

	server_script(world.server, always, 10);
	cr_expect(eq(int, get_repeatedly("/"), -http_status_errno(status)));
	cr_expect(eq(int, world.reply.status, status));
	cr_expect(eq(sz, server_n_requests(world.server) - n, n_repeatable), "%d", status);
	n = server_n_requests(world.server);
	server_script(world.server, always, 10);
	cr_expect(eq(int, post(), -http_status_errno(status)));
	cr_expect(eq(sz, server_n_requests(world.server) - n, n_not), "%d", status);
}

Test(request, is_repeated_where_that_helps_and_harms_not)
{
	expect_asked(500, NULL, 4, 1);
	expect_asked(502, NULL, 4, 1);
	expect_asked(504, NULL, 4, 1);
	expect_asked(408, NULL, 4, 1);
	expect_asked(503, NULL, 8, 1);
	expect_asked(503, "Retry-After: 0\r\n", 8, 8);
	expect_asked(429, NULL, 8, 8);
	expect_asked(400, NULL, 1, 1);
	expect_asked(401, NULL, 1, 1);
	expect_asked(403, NULL, 1, 1);
	expect_asked(404, NULL, 1, 1);
	expect_asked(409, NULL, 1, 1);
	expect_asked(412, NULL, 1, 1);
	expect_asked(501, NULL, 1, 1);
}

Test(request, succeeds_after_failures)
{
	struct http_counts counts;

	script({.deed = SERVER_CLOSES}, {.status = 500}, {.status = 503}, {.status = 429},
	       {.body = "at last"});
	cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(eq(str, world.reply.body.data, "at last"));
	http_client_counts(world.client, &counts);
	cr_expect(eq(u64, counts.n_requests, 5));
	cr_expect(eq(u64, counts.n_retries, 4));
	cr_expect(eq(u64, counts.n_throttled, 2));
	cr_expect(eq(u64, counts.n_failures, 0));
	cr_expect(eq(u64, counts.n_bytes_in, 7));
	cr_expect(eq(u64, counts.n_open, 0));
}

Test(request, tells_how_often_it_went_out)
{
	cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(eq(u32, world.reply.n_sent, 1));
	script({.deed = SERVER_CLOSES},
	       {.status = 409}); /* the connection is an old one: curl sends it again */
	cr_expect(eq(int, get_repeatedly("/"), -EEXIST));
	cr_expect(eq(u32, world.reply.n_sent, 2));
	script({.status = 500}, {.status = 200});
	cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(eq(u32, world.reply.n_sent, 2));
	cr_expect(eq(int, get("http://127.0.0.1:1/"), -EHOSTUNREACH));
	cr_expect(eq(u32, world.reply.n_sent, 0));
}

Test(request, counts)
{
	struct http_counts counts;

	script({.status = 404}, {.status = 403}, {.n_body = 1000});
	(void)get("/");
	(void)get("/");
	cr_expect(eq(int,
		     ask((struct http_request){.method = "PUT", .url = "/", .body = "12345", .body_n = 5}),
		     0));
	http_client_counts(world.client, &counts);
	cr_expect(eq(u64, counts.n_requests, 3));
	cr_expect(eq(u64, counts.n_failures, 1)); /* that something is not there is no failure */
	cr_expect(eq(u64, counts.n_bytes_out, 5));
	cr_expect(eq(u64, counts.n_bytes_in, 1000));
	cr_expect(eq(i64, counts.skew_ms, 0));
}

/* ---- waits */

Test(request, waits_as_long_as_it_is_told)
{
	script({.status = 503, .headers = "Retry-After: 1\r\n"});
	int64_t begin_ms = clock_mono_ms();
	cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(ge(i64, clock_mono_ms() - begin_ms, 1000));
}

Test(request, does_not_wait_longer_than_it_has_time)
{
	script({.status = 503, .headers = "Retry-After: 86400\r\n"});
	cr_expect(
		eq(int, ask((struct http_request){.url = "/", .total_ms = 20000, .is_repeatable = true}), 0));
	script({.status = 503, .headers = "Retry-After: 86400\r\n"});
	cr_expect(eq(int, ask((struct http_request){.url = "/", .total_ms = -1, .is_repeatable = true}), 0));
	cr_expect(eq(sz, server_n_requests(world.server), 4));
}

Test(request, waits_at_random_and_longer_each_time)
{
	reopen((struct http_limits){.backoff_ms = 60, .backoff_max_ms = 100, .pace_ms = 1, .attempts = 30});
	static struct server_answer always[30];
	int64_t longest_ms = 0, shortest_ms = INT64_MAX;

	for (int i = 0; i < 30; i++)
		always[i].status = 500;
	server_script(world.server, always, 30);
	cr_expect(eq(int, get_repeatedly("/"), -EIO));
	cr_assert(eq(sz, server_n_requests(world.server), 30));
	for (size_t i = 1; i < 30; i++) {
		int64_t wait_ms =
			server_request(world.server, i)->at_ms - server_request(world.server, i - 1)->at_ms;
		longest_ms = wait_ms > longest_ms ? wait_ms : longest_ms;
		shortest_ms = wait_ms < shortest_ms ? wait_ms : shortest_ms;
	}
	/* 29 numbers of 0 to 100: that none is over 60, or none under 40, happens once in a million runs. */
	cr_expect(gt(i64, longest_ms, 60));
	cr_expect(lt(i64, shortest_ms, 40));
}

Test(request, keeps_its_distance_from_a_host_that_asked_for_it)
{
	reopen((struct http_limits){.backoff_ms = 1, .backoff_max_ms = 1, .pace_ms = 150});
	struct http_client *other;
	const struct http_request request = {.method = "GET", .url = server_url(world.server)};
	struct http_reply reply;

	cr_assert(eq(int, http_client_new(world.http, "other", &other), 0));
	script({.status = 429});
	cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(eq(int, http_perform(other, &request, &reply, NULL), 0));
	int64_t began_ms = server_request(world.server, 0)->at_ms;
	cr_expect(ge(i64, server_request(world.server, 1)->at_ms - began_ms, 150));
	cr_expect(ge(i64, server_request(world.server, 2)->at_ms - began_ms, 300));
	http_reply_release(&reply);
	http_client_free(other);
}

static void wait_until_throttled(void)
{
	struct http_counts counts;

	do {
		(void)sched_yield();
		http_client_counts(world.client, &counts);
	} while (counts.n_throttled == 0); /* the suite's time limit bounds it */
}

Test(request, a_cancel_ends_a_wait)
{
	struct http_cancel cancel = {0};
	struct asking asking[2];

	reopen((struct http_limits){.pace_ms = 3600000}); /* both waits: the retry's and the next one's */
	script({.status = 429, .headers = "Retry-After: 3600\r\n"});
	for (int i = 0; i < 2; i++) {
		asking_begin(&asking[i], (struct http_request){.url = "/",
							       .cancel = &cancel,
							       .is_repeatable = true,
							       .total_ms = 7200000});
		wait_until_throttled();
	}
	http_cancel(world.http, &cancel);
	for (int i = 0; i < 2; i++) {
		cr_expect(eq(int, asking_end(&asking[i]), -EINTR));
		asking_release(&asking[i]);
	}
	cr_expect(eq(sz, server_n_requests(world.server), 1));
}

Test(request, tells_the_last_answer_when_its_time_is_up_in_a_wait)
{
	reopen((struct http_limits){.backoff_ms = 1, .backoff_max_ms = 1, .pace_ms = 3600000});
	script({.status = 429, .body = "<slow/>"});
	cr_expect(eq(int, ask((struct http_request){.url = "/", .is_repeatable = true, .total_ms = 100}),
		     -EAGAIN));
	cr_expect(eq(int, world.reply.status, 429));
	cr_expect(eq(str, world.reply.body.data, "<slow/>"));
}

Test(request, has_a_budget)
{
	enum { N_RETRIES = HTTP_RETRY_TOKENS / 5 };
	size_t n_calls = 0;

	reopen((struct http_limits){.backoff_ms = 1, .backoff_max_ms = 1, .attempts = 21});
	while (server_n_requests(world.server) < N_RETRIES + 10 && n_calls < 10) {
		static struct server_answer always[30];
		for (int i = 0; i < 30; i++)
			always[i].status = 500;
		server_script(world.server, always, 30);
		cr_expect(eq(int, get_repeatedly("/"), -EIO));
		n_calls++;
	}
	cr_expect(eq(sz, server_n_requests(world.server), N_RETRIES + n_calls));
	server_script(world.server, NULL, 0);
	for (int i = 0; i < 5; i++)
		cr_expect(eq(int, get("/"), 0));
	size_t n = server_n_requests(world.server);
	script({.status = 500}, {.status = 200});
	cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(eq(sz, server_n_requests(world.server) - n, 2));
}

/* ---- who asks */

struct wallet {
	int n_asked, n_refused;
	bool has_another;
	int64_t now_ns;
};

static int wallet_authorize(void *arg, const struct http_request *request, int64_t now_ns, bool is_refused,
			    struct http_headers *ret, struct fault *reterr)
{
	struct wallet *wallet = arg;
	char text[64];

	wallet->n_asked++;
	wallet->n_refused += is_refused;
	wallet->now_ns = now_ns;
	if (is_refused && !wallet->has_another)
		return -EACCES;
	(void)snprintf(text, sizeof(text), "Key %d", wallet->n_refused);
	return http_headers_add(ret, "Authorization", text);
}

static char *authorization(size_t nth)
{
	static char text[64];

	return server_request_header(server_request(world.server, nth), "authorization", text, sizeof(text));
}

Test(request, is_authorized_anew_for_each_attempt)
{
	struct wallet wallet = {0};

	script({.deed = SERVER_CLOSES}, {.status = 500});
	cr_expect(eq(int,
		     ask((struct http_request){.url = "/",
					       .authorize = wallet_authorize,
					       .authorize_arg = &wallet,
					       .is_repeatable = true}),
		     0));
	cr_expect(eq(int, wallet.n_asked, 3));
	cr_expect(eq(int, wallet.n_refused, 0));
	for (size_t i = 0; i < 3; i++)
		cr_expect(eq(str, authorization(i), "Key 0"));
}

static struct http_request authorized(struct wallet *wallet, http_judge judge)
{
	return (struct http_request){
		.url = "/", .authorize = wallet_authorize, .authorize_arg = wallet, .judge = judge};
}

Test(request, asks_for_other_credentials_once)
{
	struct wallet wallet = {.has_another = true};

	script({.status = 401}, {.status = 200}, {.status = 401}, {.status = 401, .body = "no"});
	cr_expect(eq(int, ask(authorized(&wallet, NULL)), 0));
	cr_expect(eq(str, authorization(0), "Key 0"));
	cr_expect(eq(str, authorization(1), "Key 1"));
	cr_expect(eq(int, ask(authorized(&wallet, NULL)), -EACCES));
	cr_expect(eq(str, world.reply.body.data, "no"));
	cr_expect(eq(sz, server_n_requests(world.server), 4));
}

Test(request, says_what_the_service_said_when_there_are_no_others)
{
	struct wallet wallet = {0};

	script({.status = 401, .headers = "x-amzn-RequestId: 12-34\r\n"});
	cr_expect(eq(int, ask(authorized(&wallet, NULL)), -EACCES));
	cr_expect(eq(int, world.reply.status, 401));
	cr_expect(eq(int, wallet.n_refused, 1));
	cr_expect(strstr(world.fault.text, "answered 401 (request 12-34)") != NULL, "%s", world.fault.text);
	cr_expect(strstr(world.fault.text, "Key") == NULL, "%s", world.fault.text);
}

static int refuse(void *arg, const struct http_request *request, int64_t now_ns, bool is_refused,
		  struct http_headers *ret, struct fault *reterr)
{
	return fault_set(reterr, EACCES, "log in first");
}

Test(request, is_not_sent_without_credentials)
{
	cr_expect(eq(int, ask((struct http_request){.url = "/", .authorize = refuse}), -EACCES));
	cr_expect(eq(str, world.fault.text, "log in first"));
	cr_expect(eq(sz, server_n_requests(world.server), 0));
}

/* ---- what the service says */

static void judge(int status, const struct http_headers *headers, const char *body, size_t n,
		  struct http_verdict *ret)
{
	ret->is_transient = strstr(body, "RequestTimeout") != NULL;
	ret->is_throttled = strstr(body, "SlowDown") != NULL;
	ret->is_credential_refused = strstr(body, "ExpiredToken") != NULL;
	ret->is_skewed = strstr(body, "RequestTimeTooSkewed") != NULL;
	ret->err = strstr(body, "NoSpace") ? ENOSPC : 0;
	(void)snprintf(ret->text, sizeof(ret->text), "the service said %.*s", (int)n, body);
}

Test(request, is_judged_by_the_text_of_an_error)
{
	const struct http_request once = {.url = "/", .judge = judge},
				  again = {.url = "/", .judge = judge, .is_repeatable = true};

	script({.status = 400, .body = "RequestTimeout"}, {.status = 200});
	cr_expect(eq(int, ask(again), 0));
	script({.status = 400, .body = "RequestTimeout"});
	cr_expect(eq(int, ask(once), -EINVAL));
	script({.status = 400, .body = "SlowDown"}, {.status = 200});
	cr_expect(eq(int, ask(once), 0));
	script({.status = 403, .body = "NoSpace", .headers = "x-amz-request-id: ID7\r\n"});
	cr_expect(eq(int, ask(once), -ENOSPC));
	char expected[256];
	(void)snprintf(expected, sizeof(expected),
		       "place: GET 127.0.0.1:%d/: answered 403: the service said NoSpace (request ID7)",
		       server_port(world.server));
	cr_expect(eq(str, world.fault.text, expected));
}

Test(request, gets_new_credentials_when_the_text_says_so)
{
	struct wallet wallet = {.has_another = true};

	script({.status = 400, .body = "ExpiredToken"});
	cr_expect(eq(int, ask(authorized(&wallet, judge)), 0));
	cr_expect(eq(str, authorization(1), "Key 1"));
}

static void expect_soon_after(int64_t ns, int64_t begin_ns)
{
	cr_expect(ge(i64, ns, begin_ns));
	cr_expect(lt(i64, ns, begin_ns + INT64_C(60000000000)));
}

Test(request, learns_the_clock_of_the_service)
{
	const int64_t ns_per_s = 1000000000, theirs_ns = 784111777 * ns_per_s;
	struct wallet wallet = {0};
	struct http_counts counts;

	script({.status = 403,
		.body = "RequestTimeTooSkewed",
		.headers = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"});
	cr_expect(eq(int, ask(authorized(&wallet, judge)), 0));
	cr_expect(eq(int, wallet.n_asked, 2));
	cr_expect(eq(int, wallet.n_refused, 0));
	expect_soon_after(wallet.now_ns, theirs_ns);
	http_client_counts(world.client, &counts);
	cr_expect(lt(i64, counts.skew_ms, -1000 * ns_per_s / 1000));
	wallet.now_ns = 0;
	cr_expect(eq(int, ask(authorized(&wallet, judge)), 0)); /* and keeps it */
	expect_soon_after(wallet.now_ns, theirs_ns);
}

Test(request, believes_the_clock_once)
{
	struct wallet wallet = {0};
	const struct server_answer skewed = {.status = 403,
					     .body = "RequestTimeTooSkewed",
					     .headers = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"};

	script(skewed, skewed, skewed);
	cr_expect(eq(int, ask(authorized(&wallet, judge)), -EPERM));
	cr_expect(eq(sz, server_n_requests(world.server), 2));
	script({.status = 403, .body = "RequestTimeTooSkewed"});
	cr_expect(eq(int, ask(authorized(&wallet, judge)), -EPERM));
	cr_expect(eq(sz, server_n_requests(world.server), 3));
}

Test(request, names_what_failed_but_no_secret)
{
	cleanup_http_headers struct http_headers headers = {0};
	char url[512], long_path[600];

	cr_assert(eq(int, http_headers_add(&headers, "X-Secret", "hunter2"), 0));
	script({.status = 400}, {.status = 500}, {.status = 500}, {.status = 500}, {.status = 500},
	       {.status = 404});
	cr_expect(
		eq(int, ask((struct http_request){.url = "/b/k?sig=hunter2", .headers = &headers}), -EINVAL));
	(void)snprintf(url, sizeof(url), "place: GET 127.0.0.1:%d/b/k: answered 400",
		       server_port(world.server));
	cr_expect(eq(str, world.fault.text, url));
	cr_expect(eq(int, get_repeatedly("/b/k"), -EIO));
	cr_expect(strstr(world.fault.text, "/b/k: answered 500, after 4 attempts") != NULL, "%s",
		  world.fault.text);
	memset(long_path, 'a', sizeof(long_path));
	long_path[0] = '/';
	long_path[sizeof(long_path) - 1] = '\0';
	cr_expect(eq(int, get(long_path), -ENOENT));
	cr_expect(strstr(world.fault.text, "aaa...: answered 404") != NULL, "%s", world.fault.text);
}
