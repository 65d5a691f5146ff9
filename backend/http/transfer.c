/* SPDX-License-Identifier: MIT */
/* One attempt as curl sees it: its options, its callbacks, and what its end means. All on the http thread. */
#include "http/engine.h"

#include "cleanup.h"
#include "clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BULK_BUFFER_BYTES = 512 << 10 }; /* the most that curl takes */

/* ---- headers of the request */

static int header_list_append(struct curl_slist **list, const char *line)
{
	struct curl_slist *grown = curl_slist_append(*list, line);
	if (!grown)
		return -ENOMEM;
	*list = grown;
	return 0;
}

int http_header_list_add(struct curl_slist **list, const struct http_headers *headers)
{
	for (size_t i = 0; headers && i < headers->n; i++) {
		const struct http_header *header = &headers->header[i];
		char *line;
		/* "Name:" would take the header away. */
		int r = str_format(&line, *header->value ? "%s: %s" : "%s;", header->name, header->value);
		if (r < 0)
			return r;
		r = header_list_append(list, line);
		explicit_bzero(line, strlen(line));
		free(line);
		if (r < 0)
			return r;
	}
	return 0;
}

void http_header_list_free(struct curl_slist *list)
{
	for (struct curl_slist *item = list; item; item = item->next)
		explicit_bzero(item->data, strlen(item->data));
	curl_slist_free_all(list);
}

/* ---- what curl calls */

static const struct http_request *request_of(const struct http_attempt *attempt)
{
	return attempt->call->request;
}

static int64_t body_max(const struct http_request *request)
{
	if (request->max_body > 0)
		return request->max_body;
	return request->sink ? INT64_MAX : HTTP_BODY_MAX;
}

static bool is_head(const struct http_request *request)
{
	return strcmp(request->method, "HEAD") == 0;
}

/* The blank line behind an answer's headers, or behind those of a 1xx, which is none. */
static int headers_end(struct http_attempt *attempt)
{
	const struct http_request *request = request_of(attempt);
	curl_off_t n_announced = -1;
	long status = 0;

	(void)curl_easy_getinfo(attempt->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(attempt->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &n_announced);
	if (status < 200) {
		http_headers_release(&attempt->reply.headers);
		return 0;
	}
	attempt->has_headers = true;
	attempt->reply.status = (int)status;
	if (status > 299)
		attempt->reply.body.max = HTTP_ERROR_BODY_MAX;
	else if (!is_head(request) && n_announced > body_max(request))
		return -EFBIG;
	else
		attempt->reply.body.max = (size_t)body_max(request);
	if (status > 299 || !request->begin)
		return 0;
	return request->begin(request->sink_arg, (int)status, &attempt->reply.headers);
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct http_attempt *attempt = arg;
	int r = 0;

	attempt->moved_ms = clock_mono_ms();
	attempt->n_header_bytes += n;
	if (attempt->n_header_bytes > HTTP_HEADERS_MAX)
		r = -EFBIG;
	else if (attempt->has_headers) /* trailers */
		return n;
	else if (n > 0 && (line[0] == '\r' || line[0] == '\n'))
		r = headers_end(attempt);
	else
		r = http_headers_add_line(&attempt->reply.headers, line, n);
	attempt->err = r;
	return r < 0 ? 0 : n;
}

/* Of an error only the beginning is kept, and nobody waits for its rest. */
static int error_body_add(struct http_attempt *attempt, const char *bytes, size_t n)
{
	size_t room = HTTP_ERROR_BODY_MAX - attempt->reply.body.len;
	int r = str_append_n(&attempt->reply.body, bytes, n < room ? n : room);

	attempt->is_cut = n > room;
	return r;
}

static int body_add(struct http_attempt *attempt, const char *bytes, size_t n)
{
	const struct http_request *request = request_of(attempt);
	int64_t at = attempt->reply.n_body;

	if ((int64_t)n > body_max(request) - at)
		return -EFBIG;
	attempt->reply.n_body += (int64_t)n;
	if (request->sink)
		return request->sink(request->sink_arg, at, bytes, n);
	return str_append_n(&attempt->reply.body, bytes, n);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct http_attempt *attempt = arg;
	int r = attempt->reply.status > 299 ? error_body_add(attempt, bytes, n) : body_add(attempt, bytes, n);

	attempt->err = r < 0 ? r : 0;
	return r < 0 || attempt->is_cut ? 0 : n;
}

static size_t on_read(char *ret, size_t size, size_t n, void *arg)
{
	struct http_attempt *attempt = arg;
	const struct http_request *request = request_of(attempt);
	int64_t left = request->body_n - attempt->n_out;

	n *= size;
	if ((int64_t)n > left)
		n = (size_t)left;
	if (n == 0)
		return 0;
	if (request->body) {
		memcpy(ret, (const char *)request->body + attempt->n_out, n);
	} else {
		ssize_t n_read = pread(request->body_fd, ret, n, request->body_at + attempt->n_out);
		attempt->err = n_read < 0 ? -errno : n_read == 0 ? -EIO : 0;
		if (n_read <= 0)
			return CURL_READFUNC_ABORT;
		n = (size_t)n_read;
	}
	attempt->n_out += (int64_t)n;
	return n;
}

static int on_sending(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	struct http_attempt *attempt = arg;

	attempt->n_sent++;
	return CURL_PREREQFUNC_OK;
}

/* curl sends once more by itself what it wrote to a connection that was closed meanwhile. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct http_attempt *attempt = arg;

	if (origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	attempt->n_out = offset;
	return CURL_SEEKFUNC_OK;
}

static int on_progress(void *arg, curl_off_t in_total, curl_off_t in, curl_off_t out_total, curl_off_t out)
{
	struct http_attempt *attempt = arg;

	if (attempt->n_moved != in + out) {
		attempt->n_moved = in + out;
		attempt->moved_ms = clock_mono_ms();
	}
	return 0;
}

/* ---- options */

static bool set_protocol(struct http_attempt *attempt, struct http_lane *lane)
{
	CURL *easy = attempt->easy;
	const struct http *http = lane->http;
	const struct http_request *request = request_of(attempt);
	const bool is_bulk = lane->index == HTTP_LANE_BULK;
	bool failed = false;

	failed |= curl_easy_setopt(easy, CURLOPT_URL, request->url);
	failed |= curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	failed |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	failed |= curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
	failed |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	failed |= curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	failed |= curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	failed |= curl_easy_setopt(easy, CURLOPT_USERAGENT, "trainfs/" TRAINFS_VERSION);
	failed |= curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* An attempt that ends while getaddrinfo runs must not wait for it: everybody else would. */
	failed |= curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	failed |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)http->limits.connect_ms);
	failed |= curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	failed |= curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (request->is_direct)
		failed |= curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* NULL would be what $http_proxy says */
	failed |= curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (is_bulk) {
		failed |= curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BULK_BUFFER_BYTES);
		failed |= curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)BULK_BUFFER_BYTES);
	} else if (attempt->call->url.n_scheme == 5) {
		/* https only: over plain TCP all would wait for the answer to the first, which may never come. */
		(void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
		failed |= curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
	}
	/* curl repeats what it sent over a connection from its pool that turns out to be closed; this may have arrived. */
	if (!request->is_repeatable)
		failed |= curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
	return !failed;
}

/* The client's own authorities, and no others. */
static bool set_own_trust(struct http_attempt *attempt, bool *ret_failed)
{
	struct http_client *client = attempt->call->client;

	LOCK_SCOPE(&client->lock);
	if (!client->ca_file)
		return false;
	*ret_failed |= curl_easy_setopt(attempt->easy, CURLOPT_CAINFO, client->ca_file);
	*ret_failed |= curl_easy_setopt(attempt->easy, CURLOPT_CAPATH, NULL);
	return true;
}

static bool set_trust(struct http_attempt *attempt, struct http_lane *lane)
{
	CURL *easy = attempt->easy;
	const struct http *http = lane->http;
	bool failed = false;

	failed |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	failed |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	failed |= curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	failed |= curl_easy_setopt(easy, CURLOPT_SHARE, lane->share);
	if (set_own_trust(attempt, &failed))
		return !failed;
	if (http->ca_file)
		failed |= curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
	if (http->ca_dir || http->uses_ca_file_only)
		failed |= curl_easy_setopt(easy, CURLOPT_CAPATH, http->ca_dir);
	return !failed;
}

static bool set_callbacks(struct http_attempt *attempt)
{
	CURL *easy = attempt->easy;
	bool failed = false;

	failed |= curl_easy_setopt(easy, CURLOPT_PRIVATE, attempt);
	failed |= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, attempt->why);
	failed |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	failed |= curl_easy_setopt(easy, CURLOPT_HEADERDATA, attempt);
	failed |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	failed |= curl_easy_setopt(easy, CURLOPT_WRITEDATA, attempt);
	failed |= curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_sending);
	failed |= curl_easy_setopt(easy, CURLOPT_PREREQDATA, attempt);
	failed |= curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	failed |= curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	failed |= curl_easy_setopt(easy, CURLOPT_XFERINFODATA, attempt);
	return !failed;
}

static bool set_request(struct http_attempt *attempt)
{
	CURL *easy = attempt->easy;
	const struct http_request *request = request_of(attempt);
	bool failed = false;

	if (request->has_body || request->body_n > 0) {
		failed |= curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		failed |= curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_n);
		failed |= curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
		failed |= curl_easy_setopt(easy, CURLOPT_READDATA, attempt);
		failed |= curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
		failed |= curl_easy_setopt(easy, CURLOPT_SEEKDATA, attempt);
		/* A second of waiting for a "100 Continue" that many servers never send. */
		failed |= header_list_append(&attempt->header_list, "Expect:") < 0;
	}
	if (is_head(request))
		failed |= curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else
		failed |= curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	failed |= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, attempt->header_list);
	return !failed;
}

int http_transfer_init(struct http_attempt *attempt, struct http_lane *lane)
{
	attempt->easy = curl_easy_init();
	if (!attempt->easy || !set_protocol(attempt, lane) || !set_trust(attempt, lane) ||
	    !set_callbacks(attempt) || !set_request(attempt))
		return -ENOMEM;
	return 0;
}

/* ---- the end */

static int transfer_errno(const struct http_attempt *attempt, CURLcode code, bool *ret_is_transient)
{
	*ret_is_transient = false;
	switch (code) {
	case CURLE_OUT_OF_MEMORY: /* libcurl 7.88 says the same of a header of over 100 KiB */
		return attempt->is_sent && !attempt->has_headers ? -EFBIG : -ENOMEM;
	case CURLE_URL_MALFORMAT:
		return -EINVAL;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ISSUER_ERROR:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
		*ret_is_transient = true;
		return -EHOSTUNREACH;
	case CURLE_OPERATION_TIMEDOUT:
		*ret_is_transient = true;
		return -ETIMEDOUT;
	default:
		*ret_is_transient = true;
		return -EIO;
	}
}

void http_transfer_finish(struct http_attempt *attempt, CURLcode code)
{
	const bool is_error_answer = attempt->has_headers && attempt->reply.status > 299;
	long n_sent = 0;

	if (attempt->easy)
		(void)curl_easy_getinfo(attempt->easy, CURLINFO_REQUEST_SIZE, &n_sent);
	attempt->is_sent = n_sent > 0;
	if (code == CURLE_OK && !attempt->has_headers) /* it ended amid them: libcurl does not mind */
		code = CURLE_WEIRD_SERVER_REPLY;
	if (attempt->err < 0) {
		attempt->why[0] = '\0'; /* curl only knows that a callback of ours did not go on */
	} else if (code != CURLE_OK && !is_error_answer) { /* of an error the status says enough */
		attempt->err = transfer_errno(attempt, code, &attempt->is_transient);
		if (!*attempt->why)
			(void)snprintf(attempt->why, sizeof(attempt->why), "%s", curl_easy_strerror(code));
	}
	if (attempt->err < 0)
		http_reply_release(&attempt->reply);
	curl_easy_cleanup(attempt->easy);
	attempt->easy = NULL;
}

bool http_transfer_is_stalled(struct http_attempt *attempt, int64_t now_ms, int64_t *ret_left_ms)
{
	const int stall_ms = request_of(attempt)->stall_ms ?: attempt->call->client->http->limits.stall_ms;

	*ret_left_ms = INT64_MAX;
	if (attempt->moved_ms == 0) { /* connecting: curl has a limit for that */
		curl_off_t ready_us = 0;
		(void)curl_easy_getinfo(attempt->easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us);
		if (ready_us == 0)
			return false;
		attempt->moved_ms = now_ms;
	}
	*ret_left_ms = attempt->moved_ms + stall_ms - now_ms;
	if (*ret_left_ms <= 0)
		(void)snprintf(attempt->why, sizeof(attempt->why), "no byte for %g s", stall_ms / 1000.0);
	return *ret_left_ms <= 0;
}
