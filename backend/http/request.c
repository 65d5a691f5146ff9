/* SPDX-License-Identifier: MIT */
/* A call: attempts until one is answered for good, the waits between them, and the sentence if it fails. */
#include "http/engine.h"

#include "cleanup.h"
#include "clock.h"
#include "log.h"

#include <errno.h>
#include <string.h>

enum { RETRY_COST = 5, PATH_SHOWN_MAX = 300, ID_SHOWN_MAX = 128 };

/* What is made of an attempt. */
struct decision {
	int err;         /* positive; 0: the call has its answer */
	bool is_again;   /* another attempt may do better, `delay_ms` from now */
	bool is_refused; /* and needs other credentials */
	int64_t delay_ms;
	struct http_verdict verdict; /* on the answer */
	char why[CURL_ERROR_SIZE];   /* there was none; "": curl had nothing to do with it */
};

/* ---- the sentence */

static const char *request_id(const struct http_headers *headers)
{
	static const char *const name[] = {"x-amzn-requestid", "x-amz-request-id", "x-guploader-uploadid",
					   "x-request-id"};

	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
		const char *id = http_headers_get(headers, name[i]);
		if (id && *id)
			return id;
	}
	return NULL;
}

/* `what` has happened to the call. */
static int call_fault(const struct http_call *call, int err, const char *what, struct fault *reterr)
{
	const struct url *url = &call->url;
	const bool is_long = url->n_path > PATH_SHOWN_MAX;
	char attempts[32] = "";

	if (call->n_attempts > 1)
		(void)snprintf(attempts, sizeof(attempts), ", after %d attempts", call->n_attempts);
	return fault_set(reterr, err, "%s: %s %.*s%.*s%s: %s%s", call->client->name, call->request->method,
			 url->n_host, url->host, is_long ? PATH_SHOWN_MAX : url->n_path, url->path,
			 is_long ? "..." : "", what, attempts);
}

static const char *what_of(int err)
{
	switch (err) {
	case EINTR:
		return "interrupted";
	case ECANCELED:
		return "given up, trainfs ends";
	case ETIMEDOUT:
		return "no answer in time";
	case EFBIG:
		return "the answer is larger than it may be";
	default:
		return strerrordesc_np(err) ?: "failed";
	}
}

static int call_fault_of(const struct http_call *call, const struct decision *decision,
			 const struct http_reply *reply, struct fault *reterr)
{
	const char *id = request_id(&reply->headers), *text = decision->verdict.text;
	char what[sizeof(decision->verdict.text) + ID_SHOWN_MAX + 64];

	if (reply->status == 0)
		return call_fault(call, decision->err,
				  *decision->why ? decision->why : what_of(decision->err), reterr);
	(void)snprintf(what, sizeof(what), "answered %d%s%s%s%.*s%s", reply->status, *text ? ": " : "", text,
		       id ? " (request " : "", ID_SHOWN_MAX, id ?: "", id ? ")" : "");
	return call_fault(call, decision->err, what, reterr);
}

/* ---- the headers of an attempt */

static int64_t client_now_ns(struct http_client *client)
{
	LOCK_SCOPE(&client->lock);
	return clock_wall_ns() + client->skew_ns;
}

static int call_make_headers(const struct http_call *call, bool is_refused, struct curl_slist **ret,
			     struct fault *reterr)
{
	const struct http_request *request = call->request;
	cleanup_http_headers struct http_headers proof = {0};
	int r = 0;

	if (request->authorize)
		r = request->authorize(request->authorize_arg, request, client_now_ns(call->client),
				       is_refused, &proof, reterr);
	if (r < 0)
		return r;
	r = http_header_list_add(ret, request->headers);
	if (r == 0)
		r = http_header_list_add(ret, &proof);
	return r < 0 ? call_fault(call, -r, what_of(-r), reterr) : 0;
}

/* ---- one attempt */

static void call_count(struct http_call *call, const struct http_attempt *attempt)
{
	struct http_client *client = call->client;

	LOCK_SCOPE(&client->lock);
	client->counts.n_requests += attempt->is_sent;
	client->counts.n_bytes_in += (uint64_t)attempt->reply.n_body;
	client->counts.n_bytes_out += (uint64_t)attempt->n_out;
}

/*
 * 0: it was made, and what came of it is in *ret. An error is the call's: nothing was sent. The wait for the host comes
 * first, so that a signature is young when it is sent.
 */
static int call_attempt(struct http_call *call, bool is_refused, struct http_attempt *ret,
			struct fault *reterr)
{
	int r = http_call_wait_for_host(call);
	if (r < 0)
		return call_fault(call, -r, what_of(-r), reterr);
	*ret = (struct http_attempt){.call = call};
	r = call_make_headers(call, is_refused, &ret->header_list, reterr);
	if (r == 0) {
		int64_t begin_ms = clock_mono_ms();
		call->n_attempts++;
		(void)http_attempt_run(ret);
		call->n_sent += ret->n_sent;
		call_count(call, ret);
		log_debug("%s: %s %.*s%.*s: %d %s, %lld ms", call->client->name, call->request->method,
			  call->url.n_host, call->url.host, call->url.n_path, call->url.path,
			  ret->reply.status, ret->err ? fault_name(-ret->err) : "",
			  (long long)(clock_mono_ms() - begin_ms));
	}
	http_header_list_free(ret->header_list);
	return r;
}

/* ---- whether there is another one */

static bool client_take_tokens(struct http_client *client)
{
	LOCK_SCOPE(&client->lock);
	if (client->n_tokens < RETRY_COST)
		return false;
	client->n_tokens -= RETRY_COST;
	return true;
}

static void client_succeeded(struct http_client *client)
{
	LOCK_SCOPE(&client->lock);
	if (client->n_tokens < HTTP_RETRY_TOKENS)
		client->n_tokens++;
}

/* The service's clock, as its answer tells it. */
static bool client_take_skew(struct http_client *client, const struct http_reply *reply)
{
	int64_t theirs_ns = http_headers_time(&reply->headers, "Date");

	if (!theirs_ns)
		return false;
	LOCK_SCOPE(&client->lock);
	client->skew_ns = theirs_ns - clock_wall_ns();
	return true;
}

static void call_slow_host_down(struct http_call *call)
{
	struct http *http = call->client->http;

	LOCK_SCOPE(&http->lock);
	http_host_slow_down_locked(call->host, &http->limits, clock_mono_ms());
}

static void call_speed_host_up(struct http_call *call)
{
	LOCK_SCOPE(&call->client->http->lock);
	http_host_speed_up_locked(call->host);
}

/* Counted after it has effect. */
static void call_set_pace(struct http_call *call, bool is_throttled)
{
	if (!is_throttled) {
		call_speed_host_up(call);
		return;
	}
	call_slow_host_down(call);
	LOCK_SCOPE(&call->client->lock);
	call->client->counts.n_throttled++;
}

/* How long to wait: "full jitter", upon what the service asks for if the call has that time. */
static int64_t call_delay_ms(const struct http_call *call, const struct http_reply *reply)
{
	const struct http_limits *limits = &call->client->http->limits;
	int64_t most_ms = limits->backoff_ms, now_ms = clock_mono_ms();
	int64_t patience_ms = call->end_ms == INT64_MAX ? limits->total_ms : call->end_ms - now_ms;

	for (int i = 0; i < call->n_retries && most_ms < limits->backoff_max_ms; i++)
		most_ms *= 2;
	if (most_ms > limits->backoff_max_ms)
		most_ms = limits->backoff_max_ms;
	int64_t delay_ms = arc4random_uniform((uint32_t)most_ms + 1);
	int64_t asked_ms = http_retry_after_ms(&reply->headers, client_now_ns(call->client));
	return asked_ms < patience_ms - delay_ms ? asked_ms + delay_ms : delay_ms;
}

/* Another attempt of the kind that costs: bounded by number, time and budget. */
static void call_retry(struct http_call *call, const struct http_reply *reply, int n_max,
		       struct decision *ret)
{
	ret->delay_ms = call_delay_ms(call, reply);
	ret->is_again = call->n_retries + 1 < n_max &&
			(call->end_ms == INT64_MAX || clock_mono_ms() + ret->delay_ms < call->end_ms) &&
			client_take_tokens(call->client);
	call->n_retries += ret->is_again;
}

static bool is_status_transient(int status)
{
	return status == 408 || status == 500 || status == 502 || status == 503 || status == 504;
}

/* Once each, and at once: the service has done nothing, and knows what is missing. */
static bool call_can_mend(struct http_call *call, const struct http_reply *reply, struct decision *ret)
{
	const bool is_refused = ret->verdict.is_credential_refused || reply->status == 401;

	if (ret->verdict.is_skewed && !call->was_skewed && client_take_skew(call->client, reply)) {
		call->was_skewed = true;
		return true;
	}
	if (is_refused && !ret->verdict.is_skewed && call->request->authorize && !call->was_refused) {
		call->was_refused = true;
		ret->is_refused = true;
		return true;
	}
	return false;
}

static void call_decide_on_answer(struct http_call *call, const struct http_reply *reply,
				  struct decision *ret)
{
	const struct http_request *request = call->request;
	const struct http_limits *limits = &call->client->http->limits;
	struct http_verdict *verdict = &ret->verdict;

	ret->err = http_status_errno(reply->status);
	if (ret->err != 0 && request->judge)
		request->judge(reply->status, &reply->headers, reply->body.data ?: "", reply->body.len,
			       verdict);
	if (ret->err != 0 && verdict->err != 0)
		ret->err = verdict->err;
	bool is_throttled = reply->status == 429 || reply->status == 503 || verdict->is_throttled;
	call_set_pace(call, is_throttled);
	if (ret->err == 0)
		return;
	/* Then it did nothing; a 503 alone may come from something in front of it that lost its answer. */
	bool is_untouched = reply->status == 429 || verdict->is_throttled ||
			    (reply->status == 503 && http_headers_get(&reply->headers, "Retry-After"));
	if (call_can_mend(call, reply, ret))
		ret->is_again = true;
	else if (is_throttled && (request->is_repeatable || is_untouched))
		call_retry(call, reply, limits->attempts_throttled, ret);
	else if ((is_status_transient(reply->status) || verdict->is_transient) && request->is_repeatable)
		call_retry(call, reply, limits->attempts, ret);
}

static struct decision call_decide(struct http_call *call, const struct http_attempt *attempt)
{
	struct decision decision = {.err = -attempt->err};

	if (attempt->err == 0)
		call_decide_on_answer(call, &attempt->reply, &decision);
	else if (attempt->is_transient && (call->request->is_repeatable || !attempt->is_sent))
		call_retry(call, &attempt->reply, call->client->http->limits.attempts, &decision);
	return decision;
}

/* ---- the call */

/* Waits before another attempt; an error ends the call. */
static int call_pause(struct http_call *call, const struct decision *decision, struct fault *reterr)
{
	{
		LOCK_SCOPE(&call->client->lock);
		call->client->counts.n_retries++;
	}
	int r = http_call_wait(call, clock_mono_ms() + decision->delay_ms);
	return r < 0 ? call_fault(call, -r, what_of(-r), reterr) : 0;
}

static int call_run(struct http_call *call, struct http_reply *ret, struct fault *reterr)
{
	struct decision decision = {0};

	do {
		struct http_attempt attempt;
		struct fault fault = {0};
		int r = call_attempt(call, decision.is_refused, &attempt, &fault);
		if (r < 0 && decision.err != 0 &&
		    (r == -ETIMEDOUT || fault.err == 0)) /* the answer says more */
			return call_fault_of(call, &decision, ret, reterr);
		if (r < 0)
			return fault.err ? fault_set(reterr, -r, "%s", fault.text)
					 : call_fault(call, -r, what_of(-r), reterr);
		http_reply_release(ret);
		*ret = attempt.reply;
		decision = call_decide(call, &attempt);
		if (decision.err == 0)
			return 0;
		memcpy(decision.why, attempt.why, sizeof(decision.why));
		if (!decision.is_again)
			return call_fault_of(call, &decision, ret, reterr);
		r = call_pause(call, &decision, reterr);
		if (r < 0)
			return r;
	} while (true);
}

/* What the service says of a thing (it is not there, it is there already) is no failure of the call. */
static bool is_failure(int r)
{
	return r < 0 && r != -ENOENT && r != -EEXIST && r != -ESTALE && r != -EINTR && r != -ECANCELED;
}

static void call_begun(const struct http_call *call)
{
	LOCK_SCOPE(&call->client->lock);
	call->client->counts.n_open++;
}

static void call_ended(const struct http_call *call, int r)
{
	LOCK_SCOPE(&call->client->lock);
	call->client->counts.n_open--;
	call->client->counts.n_failures += is_failure(r);
}

static bool is_http(const struct url *url)
{
	return (url->n_scheme == 4 && memcmp(url->scheme, "http", 4) == 0) ||
	       (url->n_scheme == 5 && memcmp(url->scheme, "https", 5) == 0);
}

static int64_t end_of(const struct http_client *client, const struct http_request *request)
{
	if (request->total_ms < 0)
		return INT64_MAX;
	return clock_mono_ms() + (request->total_ms ? request->total_ms : client->http->limits.total_ms);
}

int http_perform(struct http_client *client, const struct http_request *request, struct http_reply *ret,
		 struct fault *reterr)
{
	struct http_call call = {
		.client = client,
		.request = request,
		.lane = request->is_bulk ? HTTP_LANE_BULK : HTTP_LANE_API,
		.end_ms = end_of(client, request),
	};

	*ret = (struct http_reply){0};
	if (url_parse(request->url, &call.url) < 0 || !is_http(&call.url))
		return fault_set(reterr, EINVAL, "%s: %s of something that is no http URL", client->name,
				 request->method);
	call_begun(&call);
	int r = http_call_open(&call);
	if (r == 0) {
		r = call_run(&call, ret, reterr);
		http_call_close(&call);
	} else {
		(void)call_fault(&call, -r, what_of(-r), reterr);
	}
	ret->n_sent = call.n_sent;
	if (r == 0)
		client_succeeded(client);
	call_ended(&call, r);
	return r;
}
