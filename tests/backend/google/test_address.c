/* SPDX-License-Identifier: MIT */
/* URLs of buckets and objects: each name is one segment of the path, whatever is in it. */
#include "google/address.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

#define BASE "https://storage.googleapis.com"

static char *object_url(const char *bucket, const char *key)
{
	struct str url = {0};
	char *text = NULL;

	cr_assert(zero(int, google_url_object(BASE, bucket, key, &url)), "%s", key);
	cr_assert(zero(int, str_steal(&url, &text)));
	return text;
}

Test(google_address, objects)
{
	static const struct {
		const char *key, *end;
	} rows[] = {
		{NULL, ""},
		{"k", "/k"},
		{"a/b", "/a%2Fb"},
		{"/lead//x/", "/%2Flead%2F%2Fx%2F"},
		{"../up", "/..%2Fup"},
		{"a%2Fb", "/a%252Fb"},
		{"a b?c#d&e=f+g", "/a%20b%3Fc%23d%26e%3Df%2Bg"},
		{"!$'()*,;:@[]", "/%21%24%27%28%29%2A%2C%3B%3A%40%5B%5D"},
		{"\303\274~", "/%C3%BC~"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char *url = object_url("data", rows[i].key);
		cr_expect(str_has_prefix(url, BASE "/storage/v1/b/data/o"), "%s", url);
		cr_expect(eq(str, url + strlen(BASE "/storage/v1/b/data/o"), (char *)rows[i].end));
		free(url);
	}
}

Test(google_address, buckets_uploads_and_copies)
{
	cleanup_str struct str all = {0}, one = {0}, upload = {0}, rewrite = {0};

	cr_expect(zero(int, google_url_bucket("http://h:1", NULL, &all)));
	cr_expect(eq(str, all.data, "http://h:1/storage/v1/b"));
	cr_expect(zero(int, google_url_bucket("http://h:1", "my_data.example.com", &one)));
	cr_expect(eq(str, one.data, "http://h:1/storage/v1/b/my_data.example.com"));
	cr_expect(zero(int, google_url_upload(BASE, "data", &upload)));
	cr_expect(eq(str, upload.data, BASE "/upload/storage/v1/b/data/o"));
	cr_expect(zero(int, google_url_rewrite(BASE, "data", "a/b", "other", "c/d", &rewrite)));
	cr_expect(eq(str, rewrite.data, BASE "/storage/v1/b/data/o/a%2Fb/rewriteTo/b/other/o/c%2Fd"));
}

/* On the way they would be another path: "DELETE /b/data/o/.." is the bucket's. */
Test(google_address, names_that_are_none)
{
	static const char *const buckets[] = {"",       ".",           "..",    "ab",     "A-Bucket",
					      "a/b",    "a b",         "-data", "data-",  "da..ta",
					      "data?x", "d\303\244ta", "%2e",   "data\n", "data/../x"};
	static const char *const keys[] = {"", ".", ".."};

	for (size_t i = 0; i < sizeof(buckets) / sizeof(*buckets); i++) {
		cleanup_str struct str url = {0};
		cr_expect(eq(int, google_url_bucket(BASE, buckets[i], &url), -ENOENT), "%s", buckets[i]);
		cr_expect(eq(int, google_url_object(BASE, buckets[i], "k", &url), -ENOENT));
		cr_expect(eq(int, google_url_upload(BASE, buckets[i], &url), -ENOENT));
		cr_expect(eq(int, google_url_rewrite(BASE, "data", "k", buckets[i], "k", &url), -ENOENT));
	}
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		cleanup_str struct str url = {0};
		cr_expect(eq(int, google_url_object(BASE, "data", keys[i], &url), -EINVAL), "%s", keys[i]);
		cr_expect(eq(int, google_url_rewrite(BASE, "data", "k", "data", keys[i], &url), -EINVAL));
	}
}

Test(google_address, how_long_a_bucket_s_name_may_be)
{
	char name[240];

	memset(name, 'a', sizeof(name));
	name[63] = '\0';
	cr_expect(google_is_bucket_name(name));
	name[63] = 'a';
	name[64] = '\0';
	cr_expect(not(google_is_bucket_name(name)));
	name[64] = 'a';
	name[10] = '.';
	name[222] = '\0';
	cr_expect(google_is_bucket_name(name));
	name[222] = 'a';
	name[223] = '\0';
	cr_expect(not(google_is_bucket_name(name)));
}

Test(google_address, where_a_session_may_be)
{
	cr_expect(google_is_session_url(BASE, BASE "/upload?upload_id=x"));
	cr_expect(google_is_same_host(BASE, "https://STORAGE.googleapis.com/upload?upload_id=x"));
	cr_expect(google_is_session_url(BASE, "https://www.googleapis.com/upload?upload_id=x"));
	cr_expect(not(google_is_same_host(BASE, "https://www.googleapis.com/upload?upload_id=x")));
	cr_expect(not(google_is_same_host(BASE, "https://storage.googleapis.com.evil.org/")));
	cr_expect(not(google_is_session_url(BASE, "http://storage.googleapis.com/upload?upload_id=x")));
	cr_expect(google_is_session_url("http://h:1", "http://h:1/x"));
	cr_expect(not(google_is_session_url("http://h:1", "http://h:2/x")));
	cr_expect(not(google_is_session_url(BASE, "file:///etc/passwd")));
	cr_expect(not(google_is_session_url(BASE, "/upload?upload_id=x")));
	cr_expect(not(google_is_session_url(BASE, "")));
}
