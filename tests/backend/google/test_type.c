/* SPDX-License-Identifier: MIT */
/* A remote of type google: its options, its places, and what `trainfs check` is told. */
#include "cloud.h"

#include <errno.h>
#include <string.h>

static void set_up(void)
{
	static const char *const unset[] = {"GOOGLE_CLOUD_PROJECT",
					    "GCLOUD_PROJECT",
					    "CLOUDSDK_CORE_PROJECT",
					    "GOOGLE_APPLICATION_CREDENTIALS",
					    "STORAGE_EMULATOR_HOST",
					    "GCE_METADATA_HOST",
					    "http_proxy"};

	cloud_start();
	for (size_t i = 0; i < sizeof(unset) / sizeof(*unset); i++)
		unsetenv(unset[i]);
	setenv("CLOUDSDK_CONFIG", "/nonexistent/gcloud", 1);
	setenv("NO_GCE_CHECK", "true", 1);
}

TestSuite(google_type, .init = set_up, .fini = cloud_stop, .timeout = 60);

Test(google_type, options_that_are_right)
{
	cr_expect(zero(int, cloud_open("google", json_pack("{s:s, s:s, s:s, s:{s:s}}", "project", "p",
							   "region", "us-central1", "bucket", "my-bucket",
							   "endpoints", "storage", server_url(server)))),
		  "%s", fault.text);
	cr_expect(backend_has_buckets(be));
	cr_expect(not(backend_bucket_is_dir(be)));
	cr_expect(not(backend_has_jobs(be)));
	cr_expect(not(backend_has_models(be)));
	cr_expect(eq(sz, server_n_requests(server), 0), "open asks nobody");
}

Test(google_type, options_that_are_wrong_are_named)
{
	static const char *const rows[][2] = {
		{"color", "{\"color\": \"red\"}"},
		{"region", "{\"region\": 5}"},
		{"project", "{\"project\": \"\"}"},
		{"bucket", "{\"bucket\": \"Not A Bucket\"}"},
		{"endpoints", "{\"endpoints\": \"http://x\"}"},
		{"endpoint", "{\"endpoint\": \"x y\"}"},
		{"storage", "{\"endpoints\": {\"storage\": \"x y\"}}"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		cr_expect(eq(int, cloud_open("google", json_loads(rows[i][1], 0, NULL)), -EINVAL), "%s",
			  rows[i][1]);
		cr_expect(ne(ptr, strstr(fault.text, rows[i][0]), NULL), "%s", fault.text);
	}
}

Test(google_type, an_emulator_that_is_none_is_named)
{
	setenv("STORAGE_EMULATOR_HOST", "ftp://x", 1);
	cr_expect(eq(int, cloud_open("google", json_object()), -EINVAL));
	cr_expect(ne(ptr, strstr(fault.text, "STORAGE_EMULATOR_HOST"), NULL), "%s", fault.text);
}

Test(google_type, an_emulator_gets_no_credentials)
{
	static const struct server_answer answer = {.body = "{\"items\":[{\"name\":\"one\"}]}"};
	cleanup_str struct str names = {0};
	char text[1000];

	setenv("STORAGE_EMULATOR_HOST", server_url(server) + strlen("http://"), 1);
	server_script(server, &answer, 1);
	cr_assert(zero(int, cloud_open("google", json_pack("{s:s}", "project", "p q"))), "%s", fault.text);
	cr_assert(zero(int, backend_bucket_list(be, take_name, &names, &fault)), "%s", fault.text);
	cr_expect(eq(str, names.data, "one "));
	const struct server_request *request = server_request(server, 0);
	cr_expect(ne(ptr, strstr(request->target, "/storage/v1/b?"), NULL));
	cr_expect(ne(ptr, strstr(request->target, "project=p%20q"), NULL));
	cr_expect(eq(ptr, server_request_header(request, "Authorization", text, sizeof(text)), NULL));
}

Test(google_type, a_place_of_the_options_wins_and_wants_credentials)
{
	cleanup_str struct str names = {0};

	setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1", 1);
	cr_assert(zero(int, cloud_open("google", json_pack("{s:s, s:s}", "project", "p", "endpoint",
							   server_url(server)))),
		  "%s", fault.text);
	cr_expect(eq(int, backend_bucket_list(be, take_name, &names, &fault), -EACCES), "%s", fault.text);
	cr_expect(ne(ptr, strstr(fault.text, "gcloud auth application-default login"), NULL), "%s",
		  fault.text);
	cr_expect(eq(sz, server_n_requests(server), 0));
}

Test(google_type, without_a_project_the_own_bucket_is_there)
{
	cleanup_str struct str names = {0};

	setenv("STORAGE_EMULATOR_HOST", server_url(server), 1);
	cr_assert(zero(int, cloud_open("google", json_pack("{s:s}", "bucket", "mine"))), "%s", fault.text);
	cr_assert(zero(int, backend_bucket_list(be, take_name, &names, &fault)), "%s", fault.text);
	cr_expect(eq(str, names.data, "mine "));
	cr_expect(eq(int, backend_bucket_create(be, "other", &fault), -EINVAL));
	cr_expect(ne(ptr, strstr(fault.text, "project"), NULL), "%s", fault.text);
	cr_expect(eq(sz, server_n_requests(server), 0));
}

Test(google_type, a_bucket_is_made_where_the_remote_is)
{
	static const struct server_answer answers[] = {
		{.body = "{\"name\":\"other\"}"},
		{.status = 409, .body = "{\"error\":{\"errors\":[{\"reason\":\"conflict\"}]}}"}};

	setenv("STORAGE_EMULATOR_HOST", server_url(server), 1);
	server_script(server, answers, 2);
	cr_assert(zero(int, cloud_open("google",
				       json_pack("{s:s, s:s}", "project", "p", "region", "europe-west4"))));
	cr_expect(zero(int, backend_bucket_create(be, "other", &fault)), "%s", fault.text);
	cr_expect(eq(int, backend_bucket_create(be, "other", &fault), -EEXIST));
	cr_expect(eq(int, backend_bucket_create(be, "Other", &fault), -EINVAL));
	cleanup_json json_t *body = json_loads(server_request(server, 0)->body, 0, NULL);
	cleanup_json json_t *want =
		json_pack("{s:s, s:s, s:{s:{s:b}}}", "name", "other", "location", "europe-west4",
			  "iamConfiguration", "uniformBucketLevelAccess", "enabled", 1);
	cr_expect(json_equal(body, want), "%s", server_request(server, 0)->body);
	cr_expect(eq(sz, server_n_requests(server), 2));
}

/* ---- trainfs check */

enum may { MAY_ALL, MAY_READ, MAY_NOTHING };

static void serve(void *arg, const struct server_request *request, struct server_answer *ret)
{
	static char session[200];
	enum may may = *(enum may *)arg;

	if (strstr(request->target, "/upload/") && strcmp(request->method, "DELETE") == 0) {
		ret->status = 499;
	} else if (strstr(request->target, "/upload/") && may == MAY_ALL) {
		snprintf(session, sizeof(session), "Location: %s/upload/x?upload_id=veryhidden\r\n",
			 server_url(server));
		ret->headers = session;
	} else if (strstr(request->target, "/upload/")) {
		ret->status = 403;
		ret->body = "{\"error\":{\"message\":\"no storage.objects.create access\",\"errors\":[{"
			    "\"reason\":\"forbidden\"}]}}";
	} else if (may == MAY_NOTHING && strstr(request->target, "/o?")) {
		ret->status = 404;
		ret->body = "{\"error\":{\"message\":\"The specified bucket does not exist.\",\"errors\":[{"
			    "\"reason\":\"notFound\"}]}}";
	} else {
		ret->body = strstr(request->target, "/o?") ? "{}" : "{\"items\":[{\"name\":\"my-bucket\"}]}";
	}
}

static char *checked(enum may may)
{
	server_answer_with(server, serve, &may);
	setenv("STORAGE_EMULATOR_HOST", server_url(server), 1);
	cr_assert(zero(int,
		       cloud_open("google", json_pack("{s:s, s:s}", "project", "p", "bucket", "my-bucket"))),
		  "%s", fault.text);
	return cloud_check();
}

Test(google_type, check_says_what_may_be_done)
{
	cleanup_free char *text = checked(MAY_ALL);

	cr_expect(eq(ptr, strstr(text, "WRONG"), NULL), "%s", text);
	cr_expect(str_has_prefix(text, "ok Cloud Storage: http://127.0.0.1:"), "%s", text);
	cr_expect(ne(ptr, strstr(text, "ok credentials: none, access is anonymous"), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "ok buckets: 1 to be seen"), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "ok bucket my-bucket: may be listed"), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "ok bucket my-bucket: may be written to"), NULL), "%s", text);
	cr_expect(eq(ptr, strstr(text, "veryhidden"), NULL), "%s", text);
	const struct server_request *last = server_request(server, server_n_requests(server) - 1);
	cr_expect(eq(str, last->method, "DELETE"), "the upload is ended");
}

Test(google_type, check_says_what_may_not)
{
	cleanup_free char *text = checked(MAY_READ);

	cr_expect(ne(ptr, strstr(text, "WRONG bucket my-bucket: cannot be written to: "), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "storage.objects.create"), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "add-iam-policy-binding"), NULL), "%s", text);
}

Test(google_type, check_says_how_to_make_the_bucket)
{
	cleanup_free char *text = checked(MAY_NOTHING);

	cr_expect(ne(ptr, strstr(text, "WRONG bucket my-bucket: cannot be listed: "), NULL), "%s", text);
	cr_expect(ne(ptr, strstr(text, "gcloud storage buckets create gs://my-bucket"), NULL), "%s", text);
	cr_expect(eq(ptr, strstr(text, "written"), NULL), "%s", text);
}
