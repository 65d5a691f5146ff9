/* SPDX-License-Identifier: MIT */
/* What Cloud Storage and the way to it can do wrong, by a server that does it; and what is asked of it, word for word. */
#include "cloud.h"

#include <errno.h>
#include <string.h>

enum { MIB = 1 << 20 };

static void open_backend(json_t *options)
{
	cr_assert(zero(int, cloud_open("google", options)), "%s", fault.text);
}

static void set_up(void)
{
	static const char *const unset[] = {"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_QUOTA_PROJECT",
					    "http_proxy"};

	cloud_start();
	for (size_t i = 0; i < sizeof(unset) / sizeof(*unset); i++)
		unsetenv(unset[i]);
	setenv("CLOUDSDK_CONFIG", "/nonexistent/gcloud", 1);
	setenv("NO_GCE_CHECK", "true", 1);
	setenv("STORAGE_EMULATOR_HOST", server_url(server), 1);
	open_backend(json_pack("{s:s, s:s}", "project", "p", "bucket", "mine"));
}

TestSuite(google_faults, .init = set_up, .fini = cloud_stop, .timeout = 60);

#define ERROR(reason) "{\"error\":{\"message\":\"it is so\",\"errors\":[{\"reason\":\"" reason "\"}]}}"
#define OBJECT(generation, size, crc) \
	"{\"generation\":\"" generation "\",\"size\":\"" size "\",\"crc32c\":\"" crc "\"}"

/* ---- reading ---- */

static int read_object(int64_t at, int64_t n, struct str *ret)
{
	fault = (struct fault){0};
	return backend_object_read(be, "data", "a/k", "17", at, n, take_bytes, ret, NULL, &fault);
}

#define SLOW_DOWN                                            \
	{                                                    \
		.status = 503, .body = ERROR("backendError") \
	}

Test(google_faults, a_storm_is_sat_out)
{
	cleanup_str struct str got = {0};

	script(SLOW_DOWN, {.status = 429, .body = ERROR("rateLimitExceeded")}, SLOW_DOWN,
	       {.status = 206, .headers = "Content-Range: bytes 5-9/10\r\n", .body = "56789"});
	cr_assert(zero(int, read_object(5, 100, &got)), "%s", fault.text);
	cr_expect(eq(str, got.data, "56789"));
	cr_expect(eq(sz, server_n_requests(server), 4));
	cr_expect(eq(str, (char *)header(3, "Range"), "bytes=5-104"));
	cr_expect(eq(str, (char *)header(3, "Accept-Encoding"), "gzip"));
	cr_expect(eq(str, server_request(server, 3)->target,
		     "/storage/v1/b/data/o/a%2Fk?alt=media&generation=17&ifGenerationMatch=17"));
}

/* The first bytes are not given twice, and no others come between. */
Test(google_faults, a_body_that_ends_early_goes_on)
{
	cleanup_str struct str got = {0};

	script({.status = 206,
		.headers = "Content-Range: bytes 0-3999999/4000000\r\n",
		.n_body = 4000000,
		.cut_at = 1500000},
	       {.status = 206,
		.headers = "Content-Range: bytes 0-3999999/4000000\r\n",
		.n_body = 4000000,
		.cut_at = 700000},
	       {.status = 206, .headers = "Content-Range: bytes 0-3999999/4000000\r\n", .n_body = 4000000});
	cr_assert(zero(int, read_object(0, 4000000, &got)), "%s", fault.text);
	cr_expect(eq(sz, got.len, 4000000));
	cr_expect(is_served(&got, 0));
}

/* Without a range, as of an object that was unpacked on its way. */
Test(google_faults, an_answer_that_is_not_the_range_gives_no_byte)
{
	cleanup_str struct str got = {0};

	script({.status = 200, .n_body = 5000000},
	       {.status = 206, .headers = "Content-Range: bytes 0-1999999/5000000\r\n", .n_body = 2000000},
	       {.status = 206, .n_body = 2000000});
	for (int i = 0; i < 3; i++)
		cr_expect(eq(int, read_object(7, 2000000, &got), -EIO), "%d: %s", i, fault.text);
	cr_expect(eq(sz, got.len, 0));
}

Test(google_faults, bytes_with_another_sum_are_not_given)
{
	cleanup_str struct str got = {0};

	script({.status = 206,
		.headers = "Content-Range: bytes 0-8/9\r\nX-Goog-Hash: md5=x\r\nX-Goog-Hash: "
			   "crc32c=AAAAAA==\r\n",
		.body = "123456789"},
	       {.status = 206,
		.headers = "Content-Range: bytes 0-8/9\r\nX-Goog-Hash: crc32c=4waSgw==,md5=x\r\n",
		.body = "123456789"},
	       {.status = 206,
		.headers = "Content-Range: bytes 0-1/9\r\nX-Goog-Hash: crc32c=4waSgw==,md5=x\r\n",
		.body = "12"});
	cr_expect(eq(int, read_object(0, 100, &got), -EIO));
	cr_expect(ne(ptr, strstr(fault.text, "4waSgw=="), NULL), "%s", fault.text);
	cr_expect(eq(sz, got.len, 0));
	cr_expect(zero(int, read_object(0, 100, &got)), "%s", fault.text);
	cr_expect(zero(int, read_object(0, 2, &got)), "of a part no sum is known: %s", fault.text);
	cr_expect(eq(str, got.data, "12345678912"));
}

Test(google_faults, answers_of_parts_tell_the_checksum_of_the_whole)
{
	cleanup_str struct str got = {0};
	struct checksum sum = {0};

	script({.status = 206,
		.headers = "Content-Range: bytes 2-3/9\r\nX-Goog-Hash: crc32c=4waSgw==,md5=x\r\n",
		.body = "34"});
	cr_expect(zero(int,
		       backend_object_read(be, "data", "a/k", "17", 2, 2, take_bytes, &got, &sum, &fault)));
	cr_expect(eq(int, sum.kind, CHECKSUM_CRC32C));
	cr_expect(eq(str, sum.text, "4waSgw=="));
}

Test(google_faults, a_long_read_with_another_sum_fails)
{
	cleanup_str struct str got = {0};

	script({.status = 206,
		.headers = "Content-Range: bytes 0-1999999/2000000\r\nX-Goog-Hash: crc32c=AAAAAA==\r\n",
		.n_body = 2000000});
	cr_expect(eq(int, read_object(0, 2000000, &got), -EIO));
	cr_expect(lt(sz, got.len, 2000000), "its end is not given");
}

Test(google_faults, a_generation_that_has_gone)
{
	cleanup_str struct str got = {0};

	script({.status = 404, .body = "No such object: data/a/k"}, {.body = OBJECT("18", "9", "AAAAAA==")},
	       {.status = 404, .body = "No such object: data/a/k"},
	       {.status = 404, .body = ERROR("notFound")}, {.status = 412, .body = "Precondition Failed"},
	       {.status = 416, .body = "Request range not satisfiable"});
	cr_expect(eq(int, read_object(0, 9, &got), -ESTALE), "it has another one: %s", fault.text);
	cr_expect(eq(int, read_object(0, 9, &got), -ENOENT), "it has none: %s", fault.text);
	cr_expect(eq(int, read_object(0, 9, &got), -ESTALE));
	cr_expect(zero(int, read_object(9, 9, &got)), "behind the end");
	cr_expect(eq(sz, got.len, 0));
	cr_expect(eq(sz, server_n_requests(server), 6));
}

/* ---- who asks ---- */

static void write_login(void)
{
	static const char login[] =
		"{\"type\":\"authorized_user\",\"client_id\":\"id\",\"client_secret\":\"s\","
		"\"refresh_token\":\"veryhidden\",\"quota_project_id\":\"payer\"}";
	cleanup_free char *path = NULL;

	cr_assert(zero(int, file_write_atomic(scratch_fd, "login.json", login, strlen(login), 0600)));
	cr_assert(str_format(&path, "%s/login.json", scratch_path) == 0);
	setenv("GOOGLE_APPLICATION_CREDENTIALS", path, 1);
	backend_close(be);
	open_backend(json_pack("{s:s, s:s, s:{s:s}}", "project", "p", "endpoint", server_url(server),
			       "endpoints", "oauth2", server_url(server)));
}

static void serve_tokens(void *arg, const struct server_request *request, struct server_answer *ret)
{
	const char *refused = arg;
	static atomic_uint n_tokens;

	if (is(request, "POST", "/token"))
		*ret = (struct server_answer){.body = keep("{\"access_token\":\"token-%u\",\"expires_in\":"
							   "3600,\"token_type\":\"Bearer\"}",
							   atomic_fetch_add(&n_tokens, 1))};
	else if (strstr(header_of(request, "Authorization"), refused))
		*ret = (struct server_answer){.status = 401, .body = ERROR("authError")};
	else
		*ret = (struct server_answer){
			.status = 206, .headers = "Content-Range: bytes 0-0/1\r\n", .body = "x"};
}

Test(google_faults, a_refused_token_is_renewed)
{
	cleanup_str struct str got = {0};

	write_login();
	server_answer_with(server, serve_tokens, (char *)"token-0");
	cr_assert(zero(int, read_object(0, 1, &got)), "%s", fault.text);
	cr_expect(eq(uint, count("POST", "/token"), 2));
	cr_expect(eq(sz, server_n_requests(server), 4));
	cr_expect(eq(str, (char *)header(3, "Authorization"), "Bearer token-1"));
	cr_expect(eq(str, (char *)header(3, "x-goog-user-project"), "payer"));
}

Test(google_faults, tokens_that_are_always_refused_are_said_so)
{
	cleanup_str struct str got = {0};

	write_login();
	server_answer_with(server, serve_tokens, (char *)"token-");
	cr_expect(eq(int, read_object(0, 1, &got), -EACCES));
	cr_expect(ne(ptr, strstr(fault.text, "gcloud auth application-default login"), NULL), "%s",
		  fault.text);
	cr_expect(eq(ptr, strstr(fault.text, "token-"), NULL), "%s", fault.text);
}

/* ---- listings ---- */

static unsigned cycle;

static void list_for_ever(void *arg, const struct server_request *request, struct server_answer *ret)
{
	static atomic_uint n;
	*ret = (struct server_answer){
		.body = keep(
			"{\"items\":[{\"name\":\"k\",\"size\":\"1\",\"generation\":\"1\"}],\"nextPageToken\":"
			"\"token %u\"}",
			atomic_fetch_add(&n, 1) % cycle)};
}

Test(google_faults, the_same_token_for_ever_ends)
{
	server_answer_with(server, list_for_ever, NULL);
	cycle = 1;
	cr_expect(eq(int, list_all(10), -EIO));
	cr_expect(was_asked(1, "pageToken=token%200"));
}

Test(google_faults, tokens_in_a_circle_end)
{
	server_answer_with(server, list_for_ever, NULL);
	cycle = 7;
	cr_expect(eq(int, list_all(40), -EIO));
}

Test(google_faults, a_page_that_is_none)
{
	static const int want[] = {-EIO, -EIO, -EPERM, -ENOENT};
	unsigned n_rows = 0;
	struct object_page page;

	script({.body = "<html>please log in</html>"}, {.body = ""},
	       {.status = 403, .body = ERROR("forbidden")}, {.status = 404, .body = ERROR("notFound")});
	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++)
		cr_expect(eq(int,
			     backend_objects(be, "data", "d/", "", 10, count_row, &n_rows, &page, &fault),
			     want[i]));
	cr_expect(was_asked(0, "/storage/v1/b/data/o?delimiter=%2F&fields="));
	cr_expect(was_asked(0, "&maxResults=10&prefix=d%2F"));
	cr_expect(eq(int, backend_objects(be, "data", "", "no cursor", 10, count_row, &n_rows, &page, &fault),
		     -EINVAL));
	cr_expect(eq(int, backend_objects(be, "No Bucket", "", "", 10, count_row, &n_rows, &page, &fault),
		     -ENOENT));
	cr_expect(eq(uint, n_rows, 0));
}

Test(google_faults, who_may_not_list_buckets_sees_the_own_one)
{
	cleanup_str struct str names = {0};

	script({.status = 403, .body = ERROR("forbidden")});
	cr_assert(zero(int, backend_bucket_list(be, take_name, &names, &fault)), "%s", fault.text);
	cr_expect(eq(str, names.data, "mine "));
}

Test(google_faults, lists_of_buckets_have_pages)
{
	cleanup_str struct str names = {0};

	script({.body = "{\"items\":[{\"name\":\"one\"}],\"nextPageToken\":\"a b\"}"},
	       {.body = "{\"items\":[{\"name\":\"two\"}]}"});
	cr_assert(zero(int, backend_bucket_list(be, take_name, &names, &fault)), "%s", fault.text);
	cr_expect(eq(str, names.data, "one two "));
	cr_expect(was_asked(1, "pageToken=a%20b"));
}

Test(google_faults, a_bucket_s_removal)
{
	script({.status = 409, .body = ERROR("conflict")}, {.deed = SERVER_RESETS},
	       {.status = 404, .body = ERROR("notFound")});
	cr_expect(eq(int, backend_bucket_remove(be, "data", &fault), -ENOTEMPTY));
	cr_expect(zero(int, backend_bucket_remove(be, "data", &fault)), "the lost attempt did it");
}

/* ---- writing ---- */

static const char *told_of(size_t n, const char *crc)
{
	return keep("{\"generation\":\"18\",\"size\":\"%zu\",\"crc32c\":\"%s\"}", n, crc);
}

static int put_object(size_t n, const char *if_version)
{
	cleanup_close int fd = object_of(n);
	struct object_detail detail = {0};

	fault = (struct fault){0};
	int r = backend_object_put(be, "data", "a/k", fd, (int64_t)n, if_version, &detail, &fault);
	if (r == 0) {
		cr_expect(eq(i64, detail.size_bytes, (int64_t)n));
		cr_expect(eq(str, detail.version, "18"));
	}
	object_detail_release(&detail);
	return r;
}

static void answer_put(void *arg, const struct server_request *request, struct server_answer *ret)
{
	ret->body = arg;
}

Test(google_faults, a_put_is_what_was_meant)
{
	server_answer_with(server, answer_put, (char *)told_of(1000, crc_of(1000)));
	cr_assert(zero(int, put_object(1000, "17")), "%s", fault.text);
	const struct server_request *request = server_request(server, 0);
	cr_expect(is(request, "POST", "/upload/storage/v1/b/data/o?uploadType=multipart&name=a%2Fk&"));
	cr_expect(was_asked(0, "&ifGenerationMatch=17"));
	const char *type = keep("%s", header(0, "Content-Type"));
	cr_assert(str_has_prefix(type, "multipart/related; boundary="));
	const char *boundary = strchr(type, '=') + 1;
	const char *head =
		keep("--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
		     "{\"crc32c\":\"%s\"}\r\n--%s\r\nContent-Type: application/octet-stream\r\n\r\n",
		     boundary, crc_of(1000), boundary);
	const char *tail = keep("\r\n--%s--\r\n", boundary);
	cr_assert(eq(sz, request->n_body, strlen(head) + 1000 + strlen(tail)));
	cr_expect(zero(int, memcmp(request->body, head, strlen(head))));
	cr_expect(zero(int, memcmp(request->body + strlen(head) + 1000, tail, strlen(tail))));
	struct str sent = {.data = request->body + strlen(head), .len = 1000};
	cr_expect(is_served(&sent, 0));
}

Test(google_faults, a_put_that_came_out_otherwise)
{
	script({.body = OBJECT("18", "1000", "AAAAAA==")}, {.body = OBJECT("18", "999", "")}, {.body = "{}"});
	for (int i = 0; i < 3; i++)
		cr_expect(eq(int, put_object(1000, NULL), -EIO), "%d", i);
	script({.status = 400,
		.body = "{\"error\":{\"message\":\"Provided CRC32C doesn't match calculated "
			"CRC32C.\",\"errors\":[{\"reason\":\"invalid\"}]}}"},
	       {.body = OBJECT("18", "1000", "")});
	cr_expect(zero(int, put_object(1000, NULL)), "bytes that changed on their way are sent again");
}

/* What an attempt whose answer was lost has done is not taken for another's deed. */
static void lose_first_put(void *arg, const struct server_request *request, struct server_answer *ret)
{
	static atomic_uint n_puts;

	if (is(request, "GET", "/o/a%2Fk?"))
		*ret = (struct server_answer){.body = arg};
	else if (atomic_fetch_add(&n_puts, 1) == 0)
		*ret = (struct server_answer){.deed = SERVER_RESETS};
	else
		*ret = (struct server_answer){.status = 412, .body = ERROR("conditionNotMet")};
}

Test(google_faults, a_lost_answer_is_looked_for)
{
	server_answer_with(server, lose_first_put, (char *)told_of(1000, crc_of(1000)));
	cr_expect(zero(int, put_object(1000, "")), "%s", fault.text);
	cr_expect(eq(uint, count("POST", "&ifGenerationMatch=0"), 2));
	cr_expect(eq(uint, count("GET", "/o/a%2Fk?"), 1));
}

Test(google_faults, a_lost_answer_may_have_been_a_no)
{
	server_answer_with(server, lose_first_put, (char *)told_of(1000, "AAAAAA=="));
	cr_expect(eq(int, put_object(1000, ""), -EEXIST));
}

/* Two that make the same lock file with the same content: only one of them has it. */
Test(google_faults, the_same_bytes_of_another_are_another_s)
{
	script({.status = 412, .body = ERROR("conditionNotMet")},
	       {.status = 412, .body = ERROR("conditionNotMet")});
	cr_expect(eq(int, put_object(1000, ""), -EEXIST));
	cr_expect(eq(int, put_object(1000, "17"), -ESTALE));
	cr_expect(eq(uint, count("GET", ""), 0));
}

/* ---- uploads in chunks ---- */

enum { CHUNK = 64 * MIB, BIG = 2 * CHUNK + 3 * MIB, GRAIN = 256 << 10 };

/* A service of one upload at a time; what goes wrong is told by the switches. */
static struct {
	pthread_mutex_t lock;
	unsigned n_sessions, n_chunks, n_questions;
	int64_t stored;
	bool is_made, is_wrong;

	unsigned loses;        /* of so many chunks nothing comes, or what `keeps` says, and no answer goes */
	int64_t keeps;         /* of the first chunk */
	bool is_soft;          /* 200 that says 308 */
	unsigned storms;       /* so many chunks are answered 503 */
	int gone;              /* the first session ends with that, at its second chunk */
	bool loses_end;        /* the object is made, and nobody told */
	bool forgets;          /* and then the session as well */
	int refuses;           /* status of the second chunk */
	const char *reason;    /* with it */
	const char *crc;       /* of the object */
	const char *elsewhere; /* where the session is */
} service = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void answer_more(struct server_answer *ret)
{
	const char *range =
		service.stored > 0 ? keep("Range: bytes=0-%lld\r\n", (long long)service.stored - 1) : "";
	ret->status = service.is_soft ? 200 : 308;
	ret->headers = service.is_soft ? keep("%sX-Http-Status-Code-Override: 308\r\n", range) : range;
}

static void answer_state(struct server_answer *ret)
{
	if (service.stored < BIG)
		answer_more(ret);
	else
		ret->body = told_of(BIG, service.crc);
}

static void store(const struct server_request *request, int64_t at, int64_t n)
{
	struct str bytes = {.data = request->body, .len = (size_t)n};

	if (at != service.stored || !is_served(&bytes, at))
		service.is_wrong = true;
	service.stored = at + n;
	service.is_made |= service.stored == BIG;
}

static void serve_chunk(const struct server_request *request, int64_t at, int64_t n,
			struct server_answer *ret)
{
	unsigned nth = ++service.n_chunks;
	bool is_last = at + n == BIG;

	if ((int64_t)request->n_body != n || (!is_last && n % GRAIN != 0))
		service.is_wrong = true;
	if (nth == 2 && service.gone && service.n_sessions == 1) {
		*ret = (struct server_answer){.status = service.gone, .body = ERROR("notFound")};
	} else if (nth == 2 && service.refuses) {
		*ret = (struct server_answer){.status = service.refuses, .body = service.reason};
	} else if (nth <= service.storms) {
		*ret = (struct server_answer){.status = 503, .body = ERROR("backendError")};
	} else if (nth <= service.loses) {
		store(request, at, service.keeps < n ? service.keeps : n);
		ret->deed = SERVER_RESETS;
	} else if (nth == 1 && service.keeps) {
		store(request, at, service.keeps);
		answer_more(ret);
	} else {
		store(request, at, n);
		answer_state(ret);
		if (is_last && service.loses_end)
			*ret = (struct server_answer){.deed = SERVER_RESETS};
	}
}

static void serve_session(const struct server_request *request, struct server_answer *ret)
{
	long long first, last, total;

	if (sscanf(header_of(request, "Content-Range"), "bytes %lld-%lld/%lld", &first, &last, &total) == 3) {
		serve_chunk(request, first, last - first + 1, ret);
		service.is_wrong |= total != BIG;
		return;
	}
	service.n_questions++;
	service.is_wrong |= strcmp(header_of(request, "Content-Range"), keep("bytes */%d", BIG)) != 0;
	if (service.forgets)
		*ret = (struct server_answer){.status = 410, .body = ERROR("gone")};
	else
		answer_state(ret);
}

static void serve_locked(const struct server_request *request, struct server_answer *ret)
{
	if (is(request, "POST", "uploadType=resumable") && service.is_made) {
		*ret = (struct server_answer){.status = 412, .body = ERROR("conditionNotMet")};
	} else if (is(request, "POST", "uploadType=resumable")) {
		service.stored = 0;
		ret->headers = keep("Location: %s/upload/x?upload_id=session%u\r\n",
				    service.elsewhere ?: server_url(server), ++service.n_sessions);
	} else if (is(request, "PUT", keep("upload_id=session%u", service.n_sessions))) {
		serve_session(request, ret);
	} else if (is(request, "DELETE", "upload_id=")) {
		ret->status = 499;
	} else if (is(request, "GET", "/o/a%2Fk?")) {
		ret->body = told_of(BIG, service.crc);
	} else {
		service.is_wrong = true;
	}
}

static void serve_upload(void *arg, const struct server_request *request, struct server_answer *ret)
{
	LOCK_SCOPE(&service.lock);
	serve_locked(request, ret);
}

static int upload(const char *if_version)
{
	service.crc = service.crc ?: crc_of(BIG);
	server_answer_with(server, serve_upload, NULL);
	int r = put_object(BIG, if_version);
	cr_expect(not(service.is_wrong));
	cr_expect(eq(ptr, strstr(fault.text, "upload_id"), NULL), "%s", fault.text);
	return r;
}

Test(google_faults, an_upload_in_chunks)
{
	cr_assert(zero(int, upload("17")), "%s", fault.text);
	cr_expect(eq(uint, service.n_chunks, 3));
	cr_expect(eq(uint, service.n_questions, 0));
	cr_expect(eq(sz, server_n_requests(server), 4));
	const struct server_request *begin = server_request(server, 0);
	cr_expect(is(begin, "POST", "/upload/storage/v1/b/data/o?uploadType=resumable&name=a%2Fk&"));
	cr_expect(was_asked(0, "&ifGenerationMatch=17"));
	cr_expect(eq(str, begin->body, (char *)keep("{\"crc32c\":\"%s\"}", service.crc)));
	cr_expect(eq(str, (char *)header(0, "X-Upload-Content-Length"), (char *)keep("%d", BIG)));
	cr_expect(eq(str, (char *)header(3, "Content-Range"),
		     (char *)keep("bytes %d-%d/%d", 2 * CHUNK, BIG - 1, BIG)));
}

Test(google_faults, a_308_may_come_as_a_200)
{
	service.is_soft = true;
	cr_assert(zero(int, upload(NULL)), "%s", fault.text);
	cr_expect(eq(uint, service.n_chunks, 3));
}

/* It goes on behind what is there. */
Test(google_faults, a_308_with_less_than_was_sent)
{
	service.keeps = 5 * GRAIN;
	cr_assert(zero(int, upload(NULL)), "%s", fault.text);
	cr_expect(eq(uint, service.n_questions, 0));
	cr_expect(eq(uint, service.n_chunks, 4));
}

Test(google_faults, a_chunk_that_the_network_loses_is_asked_for)
{
	service.loses = 1;
	cr_assert(zero(int, upload(NULL)), "%s", fault.text);
	cr_expect(eq(uint, service.n_questions, 1));
	cr_expect(eq(uint, service.n_chunks, 4));
	cr_expect(eq(uint, service.n_sessions, 1));
}

Test(google_faults, of_a_lost_chunk_a_part_may_be_there)
{
	service.loses = 2;
	service.keeps = 3 * GRAIN;
	cr_assert(zero(int, upload(NULL)), "%s", fault.text);
	cr_expect(eq(uint, service.n_questions, 2));
	cr_expect(eq(uint, service.n_sessions, 1));
}

static int put_on(struct object_upload **upload)
{
	cleanup_close int fd = object_of(BIG);
	const struct object_source source = {.fd = fd, .n = BIG};
	struct object_detail detail = {0};

	fault = (struct fault){0};
	int r = backend_object_put_source(be, "data", "a/k", &source, NULL, upload, &detail, &fault);
	object_detail_release(&detail);
	return r;
}

/* The session is asked how much it has. */
Test(google_faults, a_put_goes_on_where_the_one_before_it_failed)
{
	struct object_upload *upload = NULL;

	service.crc = crc_of(BIG);
	service.refuses = 401;
	service.reason = ERROR("authError");
	server_answer_with(server, serve_upload, NULL);
	cr_assert(eq(int, put_on(&upload), -EACCES), "%s", fault.text);
	cr_assert(ne(ptr, upload, NULL));
	cr_expect(eq(i64, upload->n_sent, CHUNK));
	cr_expect(eq(uint, count("DELETE", ""), 0));
	service.refuses = 0;
	unsigned n_before = service.n_chunks;
	cr_assert(zero(int, put_on(&upload)), "%s", fault.text);
	cr_expect(eq(ptr, upload, NULL));
	cr_expect(eq(uint, service.n_sessions, 1));
	cr_expect(eq(uint, service.n_questions, 1));
	cr_expect(eq(uint, service.n_chunks - n_before, 2));
	cr_expect(not(service.is_wrong));
}

Test(google_faults, what_a_put_has_left_can_be_dropped)
{
	struct object_upload *upload = NULL;

	service.crc = crc_of(BIG);
	service.refuses = 401;
	service.reason = ERROR("authError");
	server_answer_with(server, serve_upload, NULL);
	cr_assert(eq(int, put_on(&upload), -EACCES), "%s", fault.text);
	backend_object_put_drop(be, upload);
	cr_expect(eq(uint, count("DELETE", "upload_id="), 1));
}

/* How much will come is not known until the last chunk, which tells it, with the sum of all. */
static int grow_wait(void *arg, int64_t least, int64_t most, int64_t *ret_n, bool *ret_is_all)
{
	*ret_is_all = BIG <= most;
	*ret_n = BIG < most ? BIG : most;
	return 0;
}

static void serve_growing(void *arg, const struct server_request *request, struct server_answer *ret)
{
	const char *range = header_of(request, "Content-Range");

	LOCK_SCOPE(&service.lock);
	if (!is(request, "PUT", "upload_id=")) {
		serve_locked(request, ret);
	} else if (++service.n_chunks < 3) {
		service.stored = service.n_chunks * (int64_t)CHUNK;
		service.is_wrong |= strcmp(range, keep("bytes %lld-%lld/*", (long long)service.stored - CHUNK,
						       (long long)service.stored - 1)) != 0;
		answer_more(ret);
	} else {
		service.is_wrong |= strcmp(range, keep("bytes %d-%d/%d", 2 * CHUNK, BIG - 1, BIG)) != 0;
		service.is_wrong |=
			strcmp(header_of(request, "X-Goog-Hash"), keep("crc32c=%s", service.crc)) != 0;
		ret->body = told_of(BIG, arg);
	}
}

static int put_growing(const char *made)
{
	cleanup_close int fd = object_of(BIG);
	const struct object_source source = {.fd = fd, .wait = grow_wait};
	struct object_upload *upload = NULL;
	struct object_detail detail = {0};

	service.crc = crc_of(BIG);
	server_answer_with(server, serve_growing, (char *)made);
	fault = (struct fault){0};
	int r = backend_object_put_source(be, "data", "a/k", &source, NULL, &upload, &detail, &fault);
	cr_expect(eq(ptr, upload, NULL));
	cr_expect(not(service.is_wrong));
	object_detail_release(&detail);
	return r;
}

Test(google_faults, what_still_grows_tells_its_sum_at_the_end)
{
	cr_assert(zero(int, put_growing(crc_of(BIG))), "%s", fault.text);
	cr_expect(eq(uint, count("POST", "uploadType=resumable"), 1));
	cr_expect(eq(uint, service.n_chunks, 3));
}

Test(google_faults, what_still_grows_and_came_out_otherwise)
{
	cr_expect(eq(int, put_growing("AAAAAA=="), -EIO));
}

Test(google_faults, a_storm_over_an_upload)
{
	service.storms = 2;
	cr_assert(zero(int, upload("")), "%s", fault.text);
	cr_expect(eq(uint, service.n_sessions, 1));
	cr_expect(eq(uint, service.n_chunks, 5));
}

Test(google_faults, a_session_that_is_not_found_begins_again)
{
	service.gone = 404;
	cr_assert(zero(int, upload("")), "%s", fault.text);
	cr_expect(eq(uint, service.n_sessions, 2));
	cr_expect(eq(uint, service.n_chunks, 5));
	cr_expect(eq(uint, count("DELETE", ""), 0));
}

Test(google_faults, a_session_that_is_gone_begins_again)
{
	service.gone = 410;
	cr_assert(zero(int, upload(NULL)), "%s", fault.text);
	cr_expect(eq(uint, service.n_sessions, 2));
}

Test(google_faults, an_end_whose_answer_was_lost_is_asked_for)
{
	service.loses_end = true;
	cr_assert(zero(int, upload("")), "%s", fault.text);
	cr_expect(eq(uint, service.n_chunks, 3));
	cr_expect(eq(uint, service.n_questions, 1));
	cr_expect(eq(uint, count("GET", ""), 0));
}

Test(google_faults, an_end_that_nobody_remembers_is_looked_for)
{
	service.loses_end = service.forgets = true;
	cr_assert(zero(int, upload("")), "%s", fault.text);
	cr_expect(eq(uint, count("GET", "/o/a%2Fk?"), 1));
}

Test(google_faults, an_upload_with_another_sum)
{
	service.crc = "AAAAAA==";
	cr_expect(eq(int, upload(NULL), -EIO));
	cr_expect(ne(ptr, strstr(fault.text, "AAAAAA=="), NULL), "%s", fault.text);
}

Test(google_faults, a_refused_chunk_ends_the_session)
{
	service.refuses = 403;
	service.reason = ERROR("forbidden");
	cr_expect(eq(int, upload(NULL), -EPERM));
	cr_expect(eq(uint, count("DELETE", "upload_id=session1"), 1));
	cr_expect(eq(uint, service.n_sessions, 1));
}

Test(google_faults, a_conflict_during_an_upload)
{
	service.refuses = 412;
	service.reason = ERROR("conditionNotMet");
	cr_expect(eq(int, upload("17"), -ESTALE));
	cr_expect(eq(uint, count("DELETE", "upload_id=session1"), 1));
	cr_expect(eq(uint, count("GET", ""), 0), "nothing was lost, so nothing is one's own");
}

Test(google_faults, a_conflict_before_an_upload_sends_nothing)
{
	service.is_made = true;
	cr_expect(eq(int, upload(""), -EEXIST));
	cr_expect(eq(sz, server_n_requests(server), 1));
}

Test(google_faults, an_upload_sent_to_nowhere)
{
	service.elsewhere = "ftp://127.0.0.1:1";
	cr_expect(eq(int, upload(NULL), -EIO));
	service.elsewhere = "http://127.0.0.2:1";
	cr_expect(eq(int, upload(NULL), -EIO));
	cr_expect(eq(sz, server_n_requests(server), 2));
}

static void store_too_much(void *arg, const struct server_request *request, struct server_answer *ret)
{
	if (is(request, "POST", "resumable"))
		ret->headers = keep("Location: %s/x?upload_id=1\r\n", server_url(server));
	else
		*ret = (struct server_answer){.status = strcmp(request->method, "PUT") == 0 ? 308 : 499,
					      .headers = arg};
}

Test(google_faults, a_session_that_counts_wrongly)
{
	server_answer_with(server, store_too_much, "Range: bytes=0-99999999999\r\n");
	cr_expect(eq(int, put_object(BIG, NULL), -EIO));
	server_answer_with(server, store_too_much, "Range: bytes=7-9\r\n");
	cr_expect(eq(int, put_object(BIG, NULL), -EIO));
	cr_expect(eq(uint, count("PUT", ""), 2));
	cr_expect(eq(uint, count("DELETE", ""), 2));
}

/* ---- copies and removals ---- */

static int copy_object(const char *version, const char *if_version)
{
	struct object_detail detail = {0};

	fault = (struct fault){0};
	int r = backend_object_copy(be, "data", "a/k", version, "other", "to", if_version, &detail, &fault);
	if (r == 0)
		cr_expect(eq(str, detail.version, "18"));
	object_detail_release(&detail);
	return r;
}

#define COPYING(n) "{\"done\":false,\"totalBytesRewritten\":\"" n "\",\"rewriteToken\":\"to/ken\"}"
#define COPIED     "{\"done\":true,\"resource\":" OBJECT("18", "9", "4waSgw==") "}"

Test(google_faults, a_copy_goes_on_until_it_is_done)
{
	script({.body = COPYING("5")}, {.body = COPYING("7")}, SLOW_DOWN, {.body = COPIED});
	cr_assert(zero(int, copy_object("17", "")), "%s", fault.text);
	cr_expect(was_asked(0, "/storage/v1/b/data/o/a%2Fk/rewriteTo/b/other/o/to?"));
	cr_expect(was_asked(0, "&sourceGeneration=17&ifSourceGenerationMatch=17&ifGenerationMatch=0"));
	cr_expect(not(was_asked(0, "rewriteToken=")));
	for (size_t i = 1; i < 4; i++)
		cr_expect(was_asked(i, "&rewriteToken=to%2Fken&ifGenerationMatch=0"));
}

static void copy_for_ever(void *arg, const struct server_request *request, struct server_answer *ret)
{
	ret->body = COPYING("5");
}

Test(google_faults, a_copy_that_does_not_get_on_ends)
{
	server_answer_with(server, copy_for_ever, NULL);
	cr_expect(eq(int, copy_object(NULL, NULL), -EIO));
	cr_expect(lt(sz, server_n_requests(server), 30));
}

Test(google_faults, a_copy_s_refusal_is_the_source_s_or_the_target_s)
{
	script({.status = 412, .body = ERROR("conditionNotMet")}, {.body = OBJECT("17", "9", "4waSgw==")},
	       {.status = 412, .body = ERROR("conditionNotMet")}, {.body = OBJECT("19", "9", "4waSgw==")},
	       {.status = 404, .body = ERROR("notFound")}, {.body = OBJECT("19", "9", "4waSgw==")},
	       {.status = 404, .body = ERROR("notFound")}, {.status = 404, .body = ERROR("notFound")},
	       {.status = 404, .body = ERROR("notFound")}, {.body = OBJECT("17", "9", "4waSgw==")});
	cr_expect(eq(int, copy_object("17", ""), -EEXIST), "the target is there: %s", fault.text);
	cr_expect(eq(int, copy_object("17", ""), -ESTALE), "the source has changed: %s", fault.text);
	cr_expect(eq(int, copy_object("17", NULL), -ESTALE), "the same without a condition: %s", fault.text);
	cr_expect(eq(int, copy_object("17", NULL), -ENOENT), "the source has gone: %s", fault.text);
	cr_expect(eq(int, copy_object("17", NULL), -ENOENT), "the bucket has: %s", fault.text);
	cr_expect(eq(sz, server_n_requests(server), 10));
}

static void lose_first_copy(void *arg, const struct server_request *request, struct server_answer *ret)
{
	static atomic_uint n;

	if (is(request, "GET", "/o/"))
		ret->body = is(request, "GET", "/data/") ? OBJECT("17", "9", "4waSgw==") : arg;
	else if (atomic_fetch_add(&n, 1) == 0)
		ret->deed = SERVER_RESETS;
	else
		*ret = (struct server_answer){.status = 412, .body = ERROR("conditionNotMet")};
}

Test(google_faults, a_copy_whose_answer_was_lost_is_looked_for)
{
	server_answer_with(server, lose_first_copy, OBJECT("18", "9", "4waSgw=="));
	cr_expect(zero(int, copy_object("17", "")), "%s", fault.text);
}

Test(google_faults, a_lost_copy_may_have_been_another_s)
{
	server_answer_with(server, lose_first_copy, OBJECT("18", "9", "AAAAAA=="));
	cr_expect(eq(int, copy_object("17", ""), -EEXIST));
}

Test(google_faults, removals)
{
	script({.status = 204}, {.status = 412, .body = ERROR("conditionNotMet")},
	       {.status = 404, .body = ERROR("notFound")}, {.status = 404, .body = ERROR("notFound")},
	       {.deed = SERVER_RESETS}, {.status = 404, .body = ERROR("notFound")});
	cr_expect(zero(int, backend_object_remove(be, "data", "a/k", "17", &fault)));
	cr_expect(eq(str, server_request(server, 0)->target,
		     "/storage/v1/b/data/o/a%2Fk?ifGenerationMatch=17"));
	cr_expect(eq(int, backend_object_remove(be, "data", "a/k", "17", &fault), -ESTALE));
	cr_expect(eq(int, backend_object_remove(be, "data", "a/k", "17", &fault), -ESTALE));
	cr_expect(eq(int, backend_object_remove(be, "data", "a/k", NULL, &fault), -ENOENT));
	cr_expect(zero(int, backend_object_remove(be, "data", "a/k", "17", &fault)),
		  "the lost attempt did it");
}
