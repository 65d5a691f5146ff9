/* SPDX-License-Identifier: MIT */
/* A remote of type aws: its options, its regions and places, and what `trainfs check` is told. */
#include "cloud.h"

#include <errno.h>
#include <string.h>

static void set_up(void)
{
	cloud_start();
	unsetenv("AWS_PROFILE");
	setenv("AWS_CONFIG_FILE", "/nonexistent/config", 1);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
	setenv("AWS_ACCESS_KEY_ID", "KEYID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "veryhidden", 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	unsetenv("AWS_REGION");
	unsetenv("AWS_DEFAULT_REGION");
}

TestSuite(aws_type, .init = set_up, .fini = cloud_stop, .timeout = 60);

Test(aws_type, options_that_are_right)
{
	cr_expect(zero(int,
		       cloud_open("aws", json_pack("{s:s, s:s, s:s, s:s, s:{s:s}}", "profile", "p", "region",
						   "eu-west-1", "bucket", "my-bucket", "role",
						   "SageMakerRole", "endpoints", "s3", server_url(server)))),
		  "%s", fault.text);
	cr_expect(backend_has_buckets(be));
	cr_expect(not(backend_bucket_is_dir(be)));
	cr_expect(not(backend_has_jobs(be)));
	cr_expect(eq(sz, server_n_requests(server), 0), "open asks nobody");
}

Test(aws_type, options_that_are_wrong_are_named)
{
	static const char *const rows[][2] = {
		{"color", "{\"color\": \"red\"}"},       {"region", "{\"region\": \"EU (Ireland)\"}"},
		{"region", "{\"region\": 5}"},           {"bucket", "{\"bucket\": \"Not A Bucket\"}"},
		{"profile", "{\"profile\": \"\"}"},      {"endpoints", "{\"endpoints\": \"http://x\"}"},
		{"endpoint", "{\"endpoint\": \"x y\"}"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		cr_expect(eq(int, cloud_open("aws", json_loads(rows[i][1], 0, NULL)), -EINVAL), "%s",
			  rows[i][1]);
		cr_expect(ne(ptr, strstr(fault.text, rows[i][0]), NULL), "%s", fault.text);
	}
}

static int count_name(void *arg, const char *name)
{
	*(unsigned *)arg += 1;
	return 0;
}

Test(aws_type, somebody_s_own_place_needs_no_region)
{
	static const struct server_answer answer = {.body = "<ListAllMyBucketsResult/>"};
	char text[1000];
	unsigned n = 0;

	server_script(server, &answer, 1);
	cr_assert(zero(int, cloud_open("aws", json_pack("{s:s}", "endpoint", server_url(server)))), "%s",
		  fault.text);
	cr_expect(zero(int, backend_bucket_list(be, count_name, &n, &fault)), "%s", fault.text);
	char *proof = server_request_header(server_request(server, 0), "Authorization", text, sizeof(text));
	cr_expect(ne(ptr, strstr(proof, "/us-east-1/s3/aws4_request"), NULL), "%s", proof);
}

Test(aws_type, aws_itself_needs_one)
{
	unsigned n = 0;

	cr_assert(zero(int, cloud_open("aws", json_object())), "%s", fault.text);
	cr_expect(eq(int, backend_bucket_list(be, count_name, &n, &fault), -EINVAL));
	cr_expect(ne(ptr, strstr(fault.text, "region"), NULL), "%s", fault.text);
}

/* ---- trainfs check */

static void serve(void *arg, const struct server_request *request, struct server_answer *ret)
{
	bool may_write = arg;

	if (strstr(request->target, "list-type=2"))
		ret->body = "<ListBucketResult/>";
	else if (strcmp(request->method, "GET") == 0 && !strstr(request->target, "uploadId"))
		ret->body =
			"<ListAllMyBucketsResult><Buckets><Bucket><Name>my-bucket</Name></Bucket></Buckets>"
			"</ListAllMyBucketsResult>";
	else if (strcmp(request->method, "POST") == 0 && may_write)
		ret->body = "<InitiateMultipartUploadResult><UploadId>id</UploadId></"
			    "InitiateMultipartUploadResult>";
	else if (strcmp(request->method, "POST") == 0)
		*ret = (struct server_answer){
			.status = 403,
			.body = "<Error><Code>AccessDenied</Code><Message>s3:PutObject</Message></Error>"};
	else
		ret->status = strcmp(request->method, "DELETE") == 0 ? 204 : 404;
}

static char *checked(bool may_write)
{
	server_answer_with(server, serve, may_write ? server : NULL);
	cr_assert(zero(int, cloud_open("aws", json_pack("{s:s, s:s, s:s}", "endpoint", server_url(server),
							"bucket", "my-bucket", "region", "eu-west-1"))),
		  "%s", fault.text);
	return cloud_check();
}

Test(aws_type, check_says_what_may_be_done)
{
	cleanup_free char *text = checked(true);

	cr_expect(eq(ptr, strstr(text, "WRONG"), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "buckets: 1 to be seen"), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "bucket my-bucket: may be written to"), NULL), "%s", text);
	cr_expect(eq(ptr, strstr(text, "veryhidden"), NULL), "%s", text);
}

Test(aws_type, check_says_what_may_not)
{
	cleanup_free char *text = checked(false);

	cr_expect(ne(ptr, strstr(text, "WRONG bucket my-bucket: cannot be written to: "), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "s3:PutObject"), NULL), "%s", text);
}
