/* SPDX-License-Identifier: MIT */
/* Hosts and paths: by host where a certificate covers it, else by path; keys byte for byte. */
#include "aws/address.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

static const char *const no_key;

struct row {
	const char *base, *bucket, *key, *want;
	bool is_own;
};

static void check(const struct row *row)
{
	const struct aws_place place = {.base = row->base, .is_own = row->is_own};
	cleanup_str struct str url = {0};

	int r = aws_url(&place, row->bucket, row->key, &url);
	cr_expect(eq(int, r, row->want ? 0 : -EINVAL), "%s", row->want ? row->want : row->bucket);
	if (row->want && r == 0)
		cr_expect(eq(str, url.data, (char *)row->want));
}

#define AWS "https://s3.eu-west-1.amazonaws.com"

Test(aws_address, by_host_or_by_path)
{
	const struct row rows[] = {
		{AWS, NULL, no_key, AWS "/", false},
		{AWS, "data", no_key, "https://data.s3.eu-west-1.amazonaws.com/", false},
		{AWS, "data", "a/b", "https://data.s3.eu-west-1.amazonaws.com/a/b", false},
		{AWS, "my.data", "k", AWS "/my.data/k", false},
		{AWS, "my.data", no_key, AWS "/my.data", false},
		{AWS, "Old_Name", "k", AWS "/Old_Name/k", false},
		{"http://127.0.0.1:5000", NULL, no_key, "http://127.0.0.1:5000/", true},
		{"http://127.0.0.1:5000", "data", "k", "http://127.0.0.1:5000/data/k", true},
		{"http://localhost:5000", "data", no_key, "http://localhost:5000/data", true},
		{"https://s3.example.org", "data", "k", "https://s3.example.org/data/k", true},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		check(&rows[i]);
}

Test(aws_address, keys_byte_for_byte)
{
	const struct row rows[] = {
		{"http://h", "data", "a b+c=d&e?f#g%41\n", "http://h/data/a%20b%2Bc%3Dd%26e%3Ff%23g%2541%0A",
		 true},
		{"http://h", "data", "/x//y/../.", "http://h/data//x//y/../.", true},
		{"http://h", "data", "\xC3\xBC\xFF~-_.", "http://h/data/%C3%BC%FF~-_.", true},
		{"http://h", "data", "'()*!", "http://h/data/%27%28%29%2A%21", true},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		check(&rows[i]);
}

Test(aws_address, names_that_would_be_another_host_or_path)
{
	static const char *const bad[] = {"",           ".",   "..",  "a/b", "../x",
					  "evil.org/x", "a@b", "a:b", "a b", "\xC3\xBC\xC3"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		check(&(struct row){AWS, bad[i], "k", NULL, false});
		check(&(struct row){AWS, bad[i], "k", NULL, true});
		cr_expect(not(aws_is_region(bad[i])), "%s", bad[i]);
	}
	cr_expect(aws_is_region("eu-west-1"));
}

Test(aws_address, new_bucket_names)
{
	static const char *const good[] = {"abc", "a.b-c", "0-9",
					   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	static const char *const bad[] = {
		"ab",  "Abc",  "a_c", "-ab",
		"ab-", "a..b", ".ab", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		cr_expect(aws_is_bucket_name(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect(not(aws_is_bucket_name(bad[i])), "%s", bad[i]);
}

Test(aws_address, source_of_a_copy)
{
	cleanup_str struct str s = {0};

	cr_assert(zero(int, aws_copy_source("data", "a b/c+d", &s)));
	cr_expect(eq(str, s.data, "/data/a%20b/c%2Bd"));
}
