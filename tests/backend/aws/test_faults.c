/* SPDX-License-Identifier: MIT */
/* What S3 and the way to it can do wrong, by a server that does it; and what is asked of it, word for word. */
#include "cloud.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>

enum { MIB = 1 << 20 };

static void open_backend(void)
{
	json_t *options = json_pack("{s:s, s:s}", "endpoint", server_url(server), "bucket", "mine");

	cr_assert(zero(int, cloud_open("aws", options)), "%s", fault.text);
}

static void write_keys(const char *id)
{
	cleanup_free char *text = NULL;

	cr_assert(str_format(&text, "[default]\naws_access_key_id = %s\naws_secret_access_key = x\n", id) ==
		  0);
	cr_assert(zero(int, file_write_atomic(scratch_fd, "credentials", text, strlen(text), 0600)));
}

static void set_up(void)
{
	static const char *const unset[] = {"AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_PROFILE",
					    "http_proxy"};
	cleanup_free char *path = NULL;

	cloud_start();
	for (size_t i = 0; i < sizeof(unset) / sizeof(*unset); i++)
		unsetenv(unset[i]);
	cr_assert(str_format(&path, "%s/credentials", scratch_path) == 0);
	setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
	setenv("AWS_CONFIG_FILE", "/nonexistent/config", 1);
	setenv("AWS_REGION", "us-east-1", 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	write_keys("FIRSTKEY");
	open_backend();
}

TestSuite(aws_faults, .init = set_up, .fini = cloud_stop, .timeout = 60);

#define ERROR(code) "<Error><Code>" code "</Code><Message>it is so</Message></Error>"

/* ---- reading ---- */

static int read_object(int64_t at, int64_t n, struct str *ret)
{
	fault = (struct fault){0};
	return backend_object_read(be, "data", "k", "v1", at, n, take_bytes, ret, NULL, &fault);
}

#define SLOW_DOWN                                        \
	{                                                \
		.status = 503, .body = ERROR("SlowDown") \
	}

Test(aws_faults, a_storm_is_sat_out)
{
	cleanup_str struct str got = {0};

	script(SLOW_DOWN, SLOW_DOWN, SLOW_DOWN,
	       {.status = 206, .headers = "Content-Range: bytes 5-9/10\r\n", .body = "56789"});
	cr_assert(zero(int, read_object(5, 100, &got)), "%s", fault.text);
	cr_expect(eq(str, got.data, "56789"));
	cr_expect(eq(sz, server_n_requests(server), 4));
	cr_expect(eq(str, (char *)header(3, "Range"), "bytes=5-104"));
	cr_expect(eq(str, (char *)header(3, "If-Match"), "\"v1\""));
}

/* The first bytes are not given twice, and no others come between. */
Test(aws_faults, a_body_that_ends_early_goes_on)
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

Test(aws_faults, an_answer_that_is_not_the_range_gives_no_byte)
{
	cleanup_str struct str got = {0};

	script({.status = 200, .n_body = 5000000},
	       {.status = 206, .headers = "Content-Range: bytes 0-1999999/5000000\r\n", .n_body = 2000000},
	       {.status = 206, .headers = "Content-Range: bytes 7-11/5000000\r\n", .body = "short"},
	       {.status = 206, .n_body = 2000000});
	for (int i = 0; i < 4; i++)
		cr_expect(eq(int, read_object(7, 2000000, &got), -EIO), "%d: %s", i, fault.text);
	cr_expect(eq(sz, got.len, 0));
	cr_expect(eq(sz, server_n_requests(server), 4));
}

Test(aws_faults, bytes_with_another_sum_are_not_given)
{
	cleanup_str struct str got = {0};

	script({.status = 206,
		.headers = "Content-Range: bytes 0-8/9\r\nx-amz-checksum-crc32c: AAAAAA==\r\n",
		.body = "123456789"},
	       {.status = 206,
		.headers = "Content-Range: bytes 0-8/9\r\nx-amz-checksum-crc32c: 4waSgw==\r\n",
		.body = "123456789"});
	cr_expect(eq(int, read_object(0, 100, &got), -EIO));
	cr_expect(ne(ptr, strstr(fault.text, "4waSgw=="), NULL), "%s", fault.text);
	cr_expect(eq(sz, got.len, 0));
	cr_expect(zero(int, read_object(0, 100, &got)), "%s", fault.text);
	cr_expect(eq(str, got.data, "123456789"));
}

Test(aws_faults, every_sum_of_the_whole_is_compared_and_none_of_parts)
{
	static const struct {
		const char *header;
		int result;
	} sums[] = {
		{"x-amz-checksum-crc64nvme: rosUhgp5mIk=\r\n", -EIO},
		{"x-amz-checksum-crc64nvme: rosUhgp5mIg=\r\n", 0},
		{"x-amz-checksum-sha256: FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiA=\r\n", -EIO},
		{"x-amz-checksum-sha256: FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=\r\n", 0},
		{"x-amz-checksum-sha256: FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiA=-3\r\n", 0},
		{"x-amz-checksum-crc64nvme: rosUhgp5mIk=\r\nx-amz-checksum-type: FULL_OBJECT\r\n", -EIO},
		{"x-amz-checksum-crc32c: AAAAAA==\r\nx-amz-checksum-type: COMPOSITE\r\n", 0},
	};

	for (size_t i = 0; i < sizeof(sums) / sizeof(*sums); i++) {
		cleanup_str struct str got = {0};
		char headers[200];
		snprintf(headers, sizeof(headers), "Content-Range: bytes 0-8/9\r\n%s", sums[i].header);
		const struct server_answer answer = {.status = 206, .headers = headers, .body = "123456789"};
		server_script(server, &answer, 1);
		cr_expect(eq(int, read_object(0, 100, &got), sums[i].result), "%s", sums[i].header);
		cr_expect(eq(sz, got.len, sums[i].result ? 0 : 9));
	}
}

/* Only what says of itself that it is of all the bytes. */
Test(aws_faults, the_checksum_of_a_whole)
{
	static const struct {
		const char *headers;
		enum checksum_kind kind;
	} told[] = {
		{"x-amz-checksum-type: FULL_OBJECT\r\nx-amz-checksum-crc32: y/Q5Jg==\r\n", CHECKSUM_CRC32},
		{"x-amz-checksum-type: FULL_OBJECT\r\nx-amz-checksum-crc64nvme: rosUhgp5mIg=\r\n"
		 "x-amz-checksum-crc32c: 4waSgw==\r\n",
		 CHECKSUM_CRC32C},
		{"x-amz-checksum-type: COMPOSITE\r\nx-amz-checksum-crc32: y/Q5Jg==-3\r\n", CHECKSUM_NONE},
		{"x-amz-checksum-type: COMPOSITE\r\nx-amz-checksum-crc32: y/Q5Jg==\r\n", CHECKSUM_NONE},
		{"x-amz-checksum-crc32: y/Q5Jg==\r\n", CHECKSUM_NONE},
		{"x-amz-checksum-type: FULL_OBJECT\r\n", CHECKSUM_NONE},
	};
	for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++) {
		struct checksum sum = {0};
		const struct server_answer answer = {.headers = told[i].headers};
		server_script(server, &answer, 1);
		cr_expect(zero(int, backend_object_checksum(be, "data", "k", "v1", &sum, &fault)), "%s",
			  fault.text);
		cr_expect(eq(int, sum.kind, told[i].kind), "%s", told[i].headers);
	}
	cr_expect(eq(str, (char *)header(0, "If-Match"), "\"v1\""));
	cr_expect(eq(str, (char *)header(0, "x-amz-checksum-mode"), "ENABLED"));
}

Test(aws_faults, a_changed_object_is_stale_and_a_range_behind_its_end_empty)
{
	cleanup_str struct str got = {0};

	script({.status = 412, .body = ERROR("PreconditionFailed")},
	       {.status = 416, .body = ERROR("InvalidRange")}, {.status = 404, .body = ERROR("NoSuchKey")});
	cr_expect(eq(int, read_object(0, 9, &got), -ESTALE));
	cr_expect(zero(int, read_object(9, 9, &got)));
	cr_expect(eq(int, read_object(0, 9, &got), -ENOENT));
	cr_expect(eq(sz, got.len, 0));
}

/* ---- who asks, and where ---- */

static void renew_keys(void *arg, const struct server_request *request, struct server_answer *ret)
{
	if (strstr(request->head, "FIRSTKEY")) {
		write_keys("SECONDKEY");
		*ret = (struct server_answer){.status = 400, .body = ERROR("ExpiredToken")};
	} else {
		*ret = (struct server_answer){
			.status = 206, .headers = "Content-Range: bytes 0-0/1\r\n", .body = "x"};
	}
}

Test(aws_faults, expired_credentials_are_renewed)
{
	cleanup_str struct str got = {0};

	server_answer_with(server, renew_keys, NULL);
	cr_assert(zero(int, read_object(0, 1, &got)), "%s", fault.text);
	cr_expect(eq(sz, server_n_requests(server), 2));
	cr_expect(ne(ptr, strstr(header(1, "Authorization"), "Credential=SECONDKEY/"), NULL));
}

Test(aws_faults, expired_credentials_that_stay_are_named)
{
	cleanup_str struct str got = {0};

	script({.status = 400, .body = ERROR("ExpiredToken")},
	       {.status = 400, .body = ERROR("ExpiredToken")});
	cr_expect(eq(int, read_object(0, 1, &got), -EACCES));
	cr_expect(ne(str, fault.text, ""));
	cr_expect(eq(ptr, strstr(fault.text, "FIRSTKEY"), NULL));
}

Test(aws_faults, a_directory_bucket_is_refused_with_a_sentence)
{
	struct object_detail detail = {0};

	cr_expect(eq(int, backend_object_get(be, "data--use1-az4--x-s3", "k", &detail, &fault), -EOPNOTSUPP));
	cr_expect(ne(ptr, strstr(fault.text, "directory bucket"), NULL));
	cr_expect(zero(sz, server_n_requests(server)));
}

#define IN_EUROPE "/eu-west-1/s3/aws4_request"

Test(aws_faults, another_region_is_learned_once)
{
	struct object_detail detail = {0};
	cleanup_str struct str got = {0};

	script({.status = 400,
		.body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"},
	       {.status = 206, .headers = "Content-Range: bytes 0-0/1\r\n", .body = "x"}, {.status = 404});
	cr_assert(zero(int, read_object(0, 1, &got)), "%s", fault.text);
	cr_expect(eq(int, backend_object_get(be, "data", "k", &detail, &fault), -ENOENT));
	cr_expect(eq(sz, server_n_requests(server), 3));
	cr_expect(ne(ptr, strstr(header(0, "Authorization"), "/us-east-1/s3/"), NULL));
	cr_expect(ne(ptr, strstr(header(1, "Authorization"), IN_EUROPE), NULL));
	cr_expect(ne(ptr, strstr(header(2, "Authorization"), IN_EUROPE), NULL));
}

Test(aws_faults, another_region_told_by_a_header_alone)
{
	struct object_detail detail = {0};

	script({.status = 301, .headers = "x-amz-bucket-region: eu-west-1\r\n"},
	       {.headers =
			"ETag: \"e\"\r\nLast-Modified: Fri, 24 May 2013 00:00:00 GMT\r\nx-amz-meta-A: b\r\n"
			"Content-Type: text/plain\r\nx-amz-storage-class: STANDARD_IA\r\n",
		.n_body = 7});
	cr_assert(zero(int, backend_object_get(be, "data", "k", &detail, &fault)), "%s", fault.text);
	cr_expect(ne(ptr, strstr(header(1, "Authorization"), IN_EUROPE), NULL));
	cr_expect(eq(str, detail.version, "e"));
	cr_expect(eq(i64, detail.size_bytes, 7));
	cr_expect(eq(i64, detail.changed_ns, INT64_C(1369353600000000000)));
	cr_expect(eq(str, detail.content_type, "text/plain"));
	cr_expect(eq(str, detail.storage_class, "STANDARD_IA"));
	cr_expect(eq(str, detail.metadata, "{\"A\":\"b\"}"));
	object_detail_release(&detail);
}

static void send_around(void *arg, const struct server_request *request, struct server_answer *ret)
{
	static atomic_uint n;
	*ret = (struct server_answer){
		.status = 301,
		.headers = keep("x-amz-bucket-region: region-%u\r\n", atomic_fetch_add(&n, 1))};
}

Test(aws_faults, being_sent_around_ends)
{
	cleanup_str struct str got = {0};

	server_answer_with(server, send_around, NULL);
	cr_expect(lt(int, read_object(0, 1, &got), 0));
	cr_expect(lt(sz, server_n_requests(server), 10));
}

/* ---- listings ---- */

static unsigned cycle;

static void list_for_ever(void *arg, const struct server_request *request, struct server_answer *ret)
{
	static atomic_uint n;
	*ret = (struct server_answer){
		.body = keep("<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>k</"
			     "Key><ETag>e</ETag>"
			     "<Size>1</Size></Contents><NextContinuationToken>token%u</NextContinuationToken>"
			     "</ListBucketResult>",
			     atomic_fetch_add(&n, 1) % cycle)};
}

Test(aws_faults, the_same_token_for_ever_ends)
{
	server_answer_with(server, list_for_ever, NULL);
	cycle = 1;
	cr_expect(eq(int, list_all(10), -EIO));
}

Test(aws_faults, tokens_in_a_circle_end)
{
	server_answer_with(server, list_for_ever, NULL);
	cycle = 7;
	cr_expect(eq(int, list_all(40), -EIO));
}

Test(aws_faults, a_page_that_is_none)
{
	unsigned n_rows = 0;
	struct object_page page;

	script({.body = "<html>please log in</html>"}, {.body = ""},
	       {.status = 403, .body = ERROR("AccessDenied")});
	cr_expect(eq(int, backend_objects(be, "data", "", "", 10, count_row, &n_rows, &page, &fault), -EIO));
	cr_expect(eq(int, backend_objects(be, "data", "", "", 10, count_row, &n_rows, &page, &fault), -EIO));
	cr_expect(
		eq(int, backend_objects(be, "data", "", "", 10, count_row, &n_rows, &page, &fault), -EPERM));
	cr_expect(eq(int, backend_objects(be, "data", "", "no cursor", 10, count_row, &n_rows, &page, &fault),
		     -EINVAL));
	cr_expect(eq(uint, n_rows, 0));
}

Test(aws_faults, who_may_not_list_buckets_sees_the_own_one)
{
	cleanup_str struct str names = {0};

	script({.status = 403, .body = ERROR("AccessDenied")});
	cr_assert(zero(int, backend_bucket_list(be, take_name, &names, &fault)), "%s", fault.text);
	cr_expect(eq(str, names.data, "mine "));
}

Test(aws_faults, lists_of_buckets_have_pages)
{
	cleanup_str struct str names = {0};

	script({.body = "<ListAllMyBucketsResult><Buckets><Bucket><Name>one</Name></Bucket></Buckets>"
			"<ContinuationToken>a b</ContinuationToken></ListAllMyBucketsResult>"},
	       {.body = "<ListAllMyBucketsResult><Buckets><Bucket><Name>two</Name></Bucket></Buckets>"
			"</ListAllMyBucketsResult>"});
	cr_assert(zero(int, backend_bucket_list(be, take_name, &names, &fault)), "%s", fault.text);
	cr_expect(eq(str, names.data, "one two "));
	cr_expect(eq(uint, count("GET", "continuation-token=a%20b"), 1));
}

/* ---- writing ---- */

static int put_object(size_t n, const char *if_version)
{
	cleanup_close int fd = object_of(n);
	struct object_detail detail = {0};

	fault = (struct fault){0};
	int r = backend_object_put(be, "data", "k", fd, (int64_t)n, if_version, &detail, &fault);
	if (r == 0)
		cr_expect(eq(i64, detail.size_bytes, (int64_t)n));
	object_detail_release(&detail);
	return r;
}

Test(aws_faults, a_put_is_what_was_meant)
{
	script({.headers = "ETag: \"e\"\r\nx-amz-checksum-crc32c: AAAAAA==\r\n"},
	       {.status = 400, .body = ERROR("BadDigest")},
	       {.headers = "ETag: \"e\"\r\nx-amz-checksum-crc32c: AAAAAA==\r\n"});
	cr_expect(eq(int, put_object(1000, NULL), -EIO));
	cr_expect(eq(str, (char *)header(0, "x-amz-checksum-crc32c"), (char *)crc_of(1000)));
	cr_expect(eq(int, put_object(1000, NULL), -EIO), "once sent again, and still another sum");
	cr_expect(eq(sz, server_n_requests(server), 3));
}

/* What an attempt whose answer was lost has done is not taken for another's deed. */
static void lose_first_put(void *arg, const struct server_request *request, struct server_answer *ret)
{
	const char *there = arg;
	static atomic_uint n_puts;

	if (is(request, "HEAD", "/data/k"))
		*ret = (struct server_answer){
			.headers = keep("ETag: \"e\"\r\nx-amz-checksum-crc32c: %s\r\n", there),
			.n_body = 1000};
	else if (atomic_fetch_add(&n_puts, 1) == 0)
		*ret = (struct server_answer){.deed = SERVER_RESETS};
	else
		*ret = (struct server_answer){.status = 412, .body = ERROR("PreconditionFailed")};
}

Test(aws_faults, a_lost_answer_is_looked_for)
{
	server_answer_with(server, lose_first_put, (char *)crc_of(1000));
	cr_expect(zero(int, put_object(1000, "")), "%s", fault.text);
	cr_expect(eq(uint, count("PUT", "/data/k"), 2));
	cr_expect(eq(uint, count("HEAD", "/data/k"), 1));
}

Test(aws_faults, a_lost_answer_may_have_been_a_no)
{
	server_answer_with(server, lose_first_put, "AAAAAA==");
	cr_expect(eq(int, put_object(1000, ""), -EEXIST));
}

/* Two that make the same lock file with the same content: only one of them has it. */
Test(aws_faults, the_same_bytes_of_another_are_another_s)
{
	script({.status = 412, .body = ERROR("PreconditionFailed")});
	cr_expect(eq(int, put_object(1000, ""), -EEXIST));
	cr_expect(eq(uint, count("HEAD", "/data/k"), 0));
}

/* ---- uploads in parts ---- */

enum { BIG = 20 * MIB };

/* A service of one upload; what goes wrong is told by the switches. */
static struct {
	atomic_uint n_completes, n_aborts, n_parts_lost;
	unsigned errors_inside;     /* of the first completes */
	bool completes_by_accident; /* the first answer is lost, the upload then unknown */
	bool completes_early;       /* the first answer is lost, the second one comes before it is done */
	atomic_uint n_missing;      /* of so many HEADs after that it is not there */
	bool refuses_parts, sums_wrongly, loses_parts, is_away;
	bool answers_wrongly;    /* to the second part, without naming it */
	atomic_uint n_forgotten; /* of so many parts the upload is not known */
	bool is_conflict;
} service;

static void answer_part(const struct server_request *request, struct server_answer *ret)
{
	char sum[64];

	if (service.refuses_parts && strstr(request->target, "partNumber=2"))
		*ret = (struct server_answer){.status = 403, .body = ERROR("AccessDenied")};
	else if (service.answers_wrongly && strstr(request->target, "partNumber=2"))
		*ret = (struct server_answer){.status = 200};
	else if (service.n_forgotten > 0 && strstr(request->target, "partNumber=2")) {
		service.n_forgotten--;
		*ret = (struct server_answer){.status = 404, .body = ERROR("NoSuchUpload")};
	} else if (service.loses_parts && atomic_fetch_add(&service.n_parts_lost, 1) < 6)
		*ret = (struct server_answer){.deed = SERVER_RESETS};
	else
		*ret = (struct server_answer){
			.headers = keep("ETag: \"part\"\r\nx-amz-checksum-crc32c: %s\r\n",
					service.sums_wrongly
						? "AAAAAA=="
						: server_request_header(request, "x-amz-checksum-crc32c", sum,
									sizeof(sum)))};
}

static void answer_complete(struct server_answer *ret)
{
	unsigned n = atomic_fetch_add(&service.n_completes, 1);

	if (service.is_conflict)
		*ret = (struct server_answer){.status = 412, .body = ERROR("PreconditionFailed")};
	else if (n < service.errors_inside)
		*ret = (struct server_answer){
			.body = "  \n <?xml version=\"1.0\"?>\n" ERROR("InternalError")};
	else if ((service.completes_by_accident || service.completes_early) && n == 0)
		*ret = (struct server_answer){.deed = SERVER_CLOSES};
	else if (service.completes_by_accident)
		*ret = (struct server_answer){.status = 404, .body = ERROR("NoSuchUpload")};
	else
		*ret = (struct server_answer){
			.body = keep(
				"<CompleteMultipartUploadResult><ETag>\"made-3\"</ETag><ChecksumCRC32C>%s"
				"</ChecksumCRC32C></CompleteMultipartUploadResult>",
				crc_of(BIG))};
}

static void serve_upload(void *arg, const struct server_request *request, struct server_answer *ret)
{
	if (is(request, "POST", "?uploads="))
		*ret = (struct server_answer){.body = "<InitiateMultipartUploadResult><UploadId>id+1</"
						      "UploadId></InitiateMultipartUploadResult>"};
	else if (is(request, "PUT", "partNumber="))
		answer_part(request, ret);
	else if (is(request, "POST", "uploadId=id%2B1"))
		answer_complete(ret);
	else if (service.is_away)
		*ret = (struct server_answer){.status = 500, .body = ERROR("InternalError")};
	else if (is(request, "DELETE", "uploadId=id%2B1"))
		*ret = (struct server_answer){.status = atomic_fetch_add(&service.n_aborts, 1) ? 404 : 204};
	else if (is(request, "GET", "uploadId=id%2B1")) /* a part landed after the first abort */
		*ret = (struct server_answer){.body = "<ListPartsResult/>"};
	else if (is(request, "HEAD", "/data/k") && service.n_completes == 0) /* before */
		*ret = service.is_conflict
			       ? (struct server_answer){.status = 404}
			       : (struct server_answer){.headers = "ETag: \"old\"\r\n", .n_body = 9};
	else if (is(request, "HEAD", "/data/k") && service.n_missing > 0) {
		service.n_missing--;
		*ret = (struct server_answer){.status = 404};
	} else if (is(request, "HEAD", "/data/k"))
		*ret = (struct server_answer){
			.headers = keep("ETag: \"made-3\"\r\nx-amz-checksum-crc32c: %s\r\n", crc_of(BIG)),
			.n_body = BIG};
	else
		*ret = (struct server_answer){.body = "<ListBucketResult/>"};
}

static int notes(void)
{
	cleanup_close int dir = openat(scratch_fd, "state/uploads", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 ? -1 : scratch_count(dir);
}

static const struct server_request *find(const char *method, const char *part)
{
	for (size_t i = 0; i < server_n_requests(server); i++) {
		if (is(server_request(server, i), method, part))
			return server_request(server, i);
	}
	cr_assert(false, "no %s of %s", method, part);
	return NULL;
}

Test(aws_faults, an_upload_in_parts)
{
	char text[200];

	server_answer_with(server, serve_upload, NULL);
	cr_assert(zero(int, put_object(BIG, "old")), "%s", fault.text);
	cr_expect(eq(uint, count("PUT", "partNumber="), 3));
	const struct server_request *last = find("PUT", "partNumber=3");
	cr_expect(eq(sz, last->n_body, 4 * MIB));
	cr_expect(eq(int, (unsigned char)last->body[0], server_byte(16 * MIB)));
	const struct server_request *end = find("POST", "uploadId=");
	cr_expect(eq(str, server_request_header(end, "If-Match", text, sizeof(text)), "\"old\""));
	cr_expect(
		eq(str, server_request_header(end, "x-amz-mp-object-size", text, sizeof(text)), "20971520"));
	cr_expect(eq(str, server_request_header(end, "x-amz-checksum-crc32c", text, sizeof(text)),
		     (char *)crc_of(BIG)));
	cr_expect(ne(ptr, strstr(end->body, "<Part><PartNumber>1</PartNumber><ETag>&#34;part&#34;</ETag>"),
		     NULL));
	cr_expect(eq(uint, count("DELETE", ""), 0));
	cr_expect(zero(int, notes()));
}

Test(aws_faults, an_error_inside_the_end_is_an_error_and_tried_again)
{
	server_answer_with(server, serve_upload, NULL);
	service.errors_inside = 1;
	cr_assert(zero(int, put_object(BIG, NULL)), "%s", fault.text);
	cr_expect(eq(uint, service.n_completes, 2));
	cr_expect(eq(uint, count("PUT", "partNumber="), 3));
}

Test(aws_faults, an_end_whose_answer_was_lost_is_looked_for)
{
	server_answer_with(server, serve_upload, NULL);
	service.completes_by_accident = true;
	cr_assert(zero(int, put_object(BIG, NULL)), "%s", fault.text);
	cr_expect(eq(uint, count("HEAD", "/data/k"), 1));
	cr_expect(eq(uint, count("DELETE", ""), 0));
}

Test(aws_faults, an_end_that_was_asked_for_twice_is_looked_for)
{
	server_answer_with(server, serve_upload, NULL);
	service.completes_early = true;
	service.n_missing = 2;
	cr_assert(zero(int, put_object(BIG, NULL)), "%s", fault.text);
	cr_expect(eq(uint, service.n_completes, 2));
	cr_expect(eq(uint, count("HEAD", "/data/k"), 3));
}

Test(aws_faults, an_end_that_is_only_said_is_none)
{
	server_answer_with(server, serve_upload, NULL);
	service.completes_early = true;
	service.n_missing = UINT_MAX;
	cr_expect(eq(int, put_object(BIG, NULL), -EIO));
}

Test(aws_faults, parts_that_the_network_loses_are_sent_again_alone)
{
	server_answer_with(server, serve_upload, NULL);
	service.loses_parts = true;
	cr_assert(zero(int, put_object(BIG, NULL)), "%s", fault.text);
	cr_expect(eq(uint, count("POST", "?uploads="), 1));
	cr_expect(eq(uint, count("PUT", "partNumber="), 9));
}

Test(aws_faults, a_refused_part_ends_the_upload)
{
	server_answer_with(server, serve_upload, NULL);
	service.refuses_parts = true;
	cr_expect(eq(int, put_object(BIG, NULL), -EPERM));
	cr_expect(eq(uint, count("POST", "uploadId="), 0));
	cr_expect(eq(uint, count("DELETE", "uploadId="), 2), "a part that landed late is removed as well");
	cr_expect(zero(int, notes()));
}

Test(aws_faults, a_part_with_another_sum_ends_the_upload)
{
	server_answer_with(server, serve_upload, NULL);
	service.sums_wrongly = true;
	cr_expect(eq(int, put_object(BIG, NULL), -EIO));
	cr_expect(eq(uint, count("POST", "uploadId="), 0));
	cr_expect(ge(uint, count("DELETE", "uploadId="), 1));
}

Test(aws_faults, a_conflict_at_the_end_ends_the_upload)
{
	server_answer_with(server, serve_upload, NULL);
	service.is_conflict = true;
	cr_expect(eq(int, put_object(BIG, ""), -EEXIST));
	cr_expect(ge(uint, count("DELETE", "uploadId="), 1));
	cr_expect(zero(int, notes()));
}

Test(aws_faults, a_conflict_that_can_be_seen_costs_no_upload)
{
	server_answer_with(server, serve_upload, NULL);
	cr_expect(eq(int, put_object(BIG, ""), -EEXIST));
	cr_expect(eq(int, put_object(BIG, "older"), -ESTALE));
	cr_expect(eq(uint, count("POST", ""), 0));
}

static int put_on(size_t n, struct object_upload **upload)
{
	cleanup_close int fd = object_of(n);
	const struct object_source source = {.fd = fd, .n = (int64_t)n};
	struct object_detail detail = {0};

	fault = (struct fault){0};
	int r = backend_object_put_source(be, "data", "k", &source, NULL, upload, &detail, &fault);
	object_detail_release(&detail);
	return r;
}

/* What is there stays there, and noted, until the next put has sent the rest, or it is dropped. */
Test(aws_faults, a_put_goes_on_where_the_one_before_it_failed)
{
	struct object_upload *upload = NULL;

	server_answer_with(server, serve_upload, NULL);
	service.answers_wrongly = true;
	cr_assert(eq(int, put_on(BIG, &upload), -EIO), "%s", fault.text);
	cr_assert(ne(ptr, upload, NULL));
	cr_expect(eq(i64, upload->n_sent, 12 * MIB));
	cr_expect(eq(int, notes(), 1));
	service.answers_wrongly = false;
	cr_assert(zero(int, put_on(BIG, &upload)), "%s", fault.text);
	cr_expect(eq(ptr, upload, NULL));
	cr_expect(eq(uint, count("POST", "?uploads="), 1));
	cr_expect(eq(uint, count("PUT", "partNumber=1&"), 1));
	cr_expect(eq(uint, count("PUT", "partNumber=2&"), 2));
	cr_expect(eq(uint, count("PUT", "partNumber=3&"), 1));
	cr_expect(eq(uint, count("DELETE", ""), 0));
	cr_expect(zero(int, notes()));
}

Test(aws_faults, an_upload_that_s3_has_forgotten_begins_anew)
{
	struct object_upload *upload = NULL;

	server_answer_with(server, serve_upload, NULL);
	service.answers_wrongly = true;
	cr_assert(eq(int, put_on(BIG, &upload), -EIO), "%s", fault.text);
	service.answers_wrongly = false;
	service.n_forgotten = 1;
	cr_assert(zero(int, put_on(BIG, &upload)), "%s", fault.text);
	cr_expect(eq(uint, count("POST", "?uploads="), 2));
	cr_expect(zero(int, notes()));
}

Test(aws_faults, what_a_put_has_left_can_be_dropped)
{
	struct object_upload *upload = NULL;

	server_answer_with(server, serve_upload, NULL);
	service.answers_wrongly = true;
	cr_assert(eq(int, put_on(BIG, &upload), -EIO), "%s", fault.text);
	backend_object_put_drop(be, upload);
	cr_expect(ge(uint, service.n_aborts, 1));
	cr_expect(zero(int, notes()));
}

/* The abort cannot be delivered: it is noted, and the next process does it. */
Test(aws_faults, what_could_not_be_ended_is_ended_later)
{
	unsigned n_rows = 0;
	struct object_page page;

	server_answer_with(server, serve_upload, NULL);
	service.refuses_parts = service.is_away = true;
	cr_expect(eq(int, put_object(BIG, NULL), -EPERM));
	cr_expect(eq(int, notes(), 1));
	service.is_away = false;
	backend_close(be);
	open_backend();
	cr_assert(zero(int, backend_objects(be, "data", "", "", 10, count_row, &n_rows, &page, &fault)), "%s",
		  fault.text);
	cr_expect(ge(uint, service.n_aborts, 1));
	cr_expect(zero(int, notes()));
}

Test(aws_faults, the_upload_of_a_living_process_is_left_alone)
{
	static const char note[] = "{\"bucket\":\"data\",\"id\":\"id+1\",\"key\":\"k\"}";
	unsigned n_rows = 0;
	struct object_page page;

	server_answer_with(server, serve_upload, NULL);
	cr_assert(zero(int, file_make_dirs(scratch_fd, "state/uploads", 0700)));
	cleanup_close int dir = openat(scratch_fd, "state/uploads", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(zero(int, file_write_atomic(dir, "up.dead", note, strlen(note), 0600)));
	cr_assert(zero(int, file_write_atomic(dir, "up.alive", note, strlen(note), 0600)));
	cleanup_close int fd = openat(dir, "up.alive", O_RDONLY | O_CLOEXEC);
	cr_assert(zero(int, flock(fd, LOCK_EX)));
	cr_assert(zero(int, backend_objects(be, "data", "", "", 10, count_row, &n_rows, &page, &fault)));
	cr_expect(eq(int, notes(), 1));
	cr_expect(zero(int, faccessat(dir, "up.alive", F_OK, 0)));
}

/* ---- copies ---- */

Test(aws_faults, a_copy_may_begin_well_and_fail)
{
	struct object_detail detail = {0};

	script({.headers = "ETag: \"e\"\r\n", .n_body = 3},
	       {.body = " <?xml version=\"1.0\"?> " ERROR("InternalError")});
	cr_expect(eq(int, backend_object_copy(be, "data", "k", NULL, "data", "to", NULL, &detail, &fault),
		     -EIO));
	cr_expect(ne(ptr, strstr(fault.text, "InternalError"), NULL), "%s", fault.text);
	cr_expect(eq(str, (char *)header(1, "x-amz-copy-source"), "/data/k"));
	cr_expect(eq(str, (char *)header(1, "x-amz-copy-source-if-match"), "\"e\""));
}

static void serve_copy(void *arg, const struct server_request *request, struct server_answer *ret)
{
	char range[64];

	if (is(request, "HEAD", "/data/k"))
		*ret = (struct server_answer){
			.headers = "ETag: \"e\"\r\nContent-Encoding: gzip\r\nx-amz-meta-a: "
				   "b\r\nContent-Length: 6000000000\r\n",
			.n_announced = INT64_C(6000000000)};
	else if (is(request, "PUT", "partNumber="))
		*ret = (struct server_answer){
			.body = keep("<CopyPartResult><ETag>\"%s\"</ETag></CopyPartResult>",
				     server_request_header(request, "x-amz-copy-source-range", range,
							   sizeof(range)))};
	else if (is(request, "POST", "uploadId="))
		*ret = (struct server_answer){.body = "<CompleteMultipartUploadResult><ETag>\"made-12\"</"
						      "ETag></CompleteMultipartUploadResult>"};
	else
		serve_upload(arg, request, ret);
}

Test(aws_faults, a_big_copy_goes_in_parts_with_all_that_belongs_to_it)
{
	struct object_detail detail = {0};
	char text[100];

	server_answer_with(server, serve_copy, NULL);
	cr_assert(zero(int, backend_object_copy(be, "data", "k", NULL, "data", "to", NULL, &detail, &fault)),
		  "%s", fault.text);
	cr_expect(eq(i64, detail.size_bytes, INT64_C(6000000000)));
	object_detail_release(&detail);
	cr_expect(eq(uint, count("PUT", "partNumber="), 12));
	const struct server_request *begin = find("POST", "?uploads=");
	cr_expect(eq(str, server_request_header(begin, "Content-Encoding", text, sizeof(text)), "gzip"));
	cr_expect(eq(str, server_request_header(begin, "x-amz-meta-a", text, sizeof(text)), "b"));
	const struct server_request *end = find("POST", "uploadId=");
	cr_expect(ne(ptr, strstr(end->body, "bytes=5905580032-5999999999"), NULL), "%s", end->body);
}
