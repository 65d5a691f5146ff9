/* SPDX-License-Identifier: MIT */
/* Ranges of objects: the right bytes, once and in order, or none. */
#include "http/range.h"

#include "str.h"
#include "world.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

TestSuite(http_range, .init = world_open, .fini = world_close, .timeout = 30);

static int take(void *arg, const void *bytes, size_t n)
{
	return str_append_n(arg, bytes, n);
}

static char text[HTTP_RANGE_TEXT_MAX];

/* A header named as the sum. */
static void find_sum(const struct http_headers *headers, struct checksum *ret)
{
	static const char *const name[CHECKSUM_MAX] = {"", "crc32c", "crc32", "crc64nvme", "sha256"};
	for (int kind = CHECKSUM_CRC32C; kind < CHECKSUM_MAX; kind++) {
		const char *value = http_headers_get(headers, name[kind]);
		if (value && !ret->kind) {
			(void)snprintf(ret->text, CHECKSUM_TEXT_MAX, "%s", value);
			ret->kind = (enum checksum_kind)kind;
		}
	}
}

static int read_telling(int64_t at, int64_t n, struct str *got, struct checksum *ret_sum)
{
	cleanup_http_range struct http_range range = {
		.sink = take, .arg = got, .find_sum = find_sum, .ret_sum = ret_sum, .at = at, .n = n};
	struct http_request request = {.url = "/o", .is_repeatable = true};

	http_range_prepare(&range, &request, text);
	world.fault = (struct fault){0};
	char url[200];
	(void)snprintf(url, sizeof(url), "%s/o", server_url(world.server));
	request.url = url;
	request.method = "GET";
	http_reply_release(&world.reply);
	int r = http_perform(world.client, &request, &world.reply, &world.fault);
	return http_range_finish(&range, r, &world.reply, "o", &world.fault);
}

static int read_range(int64_t at, int64_t n, struct str *got)
{
	return read_telling(at, n, got, NULL);
}

#define DIGITS                                                                                  \
	{                                                                                       \
		.status = 206, .headers = "Content-Range: bytes 0-8/9\r\n", .body = "123456789" \
	}

Test(http_range, the_value_of_the_header)
{
	cleanup_str struct str got = {0};

	script(DIGITS, {.status = 416}, {.status = 416});
	cr_expect(zero(int, read_range(0, 100, &got)), "%s", world.fault.text);
	cr_expect(eq(str, text, "bytes=0-99"));
	cr_expect(eq(str, got.data, "123456789"));
	cr_expect(zero(int, read_range(9, 1, &got)), "where the object ends there is nothing");
	cr_expect(zero(int, read_range(INT64_MAX - 1, INT64_MAX, &got)));
	cr_expect(eq(str, text, "bytes=9223372036854775806-9223372036854775806"));
}

Test(http_range, only_the_range_that_was_asked_for)
{
	static const char *const wrong[] = {"bytes 0-8/9", "bytes 1-7/9",  "bytes 1-8/8",
					    "bytes 1-8/*", "bytes 1-8/9 ", "1-8/9",
					    "bytes 2-8/9", "bytes 8-1/9",  ""};
	cleanup_str struct str got = {0};
	char header[100];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		(void)snprintf(header, sizeof(header), "Content-Range: %s\r\n", wrong[i]);
		script({.status = 206, .headers = header, .body = "23456789"});
		/* the sender trims a header's end: then it is right */
		cr_expect(eq(int, read_range(1, 2 << 20, &got), strstr(wrong[i], "/9 ") ? 0 : -EIO), "%s",
			  wrong[i]);
	}
	cr_expect(eq(str, got.data, "23456789"));
}

Test(http_range, a_short_read_is_compared_before_anybody_gets_it)
{
	cleanup_str struct str got = {0};

	static const char *const right[] = {"crc32c: 4waSgw==", "crc32: y/Q5Jg==", "crc64nvme: rosUhgp5mIg=",
					    "sha256: FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="},
				 *const wrong[] = {
					 "crc32c: AAAAAA==", "crc32: y/Q5Jw==", "crc64nvme: rosUhgp5mIk=",
					 "sha256: FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiA="};
	char header[2][200];

	for (size_t i = 0; i < sizeof(right) / sizeof(*right); i++) {
		str_release(&got);
		(void)snprintf(header[0], sizeof(header[0]), "Content-Range: bytes 0-8/9\r\n%s\r\n",
			       wrong[i]);
		(void)snprintf(header[1], sizeof(header[1]), "Content-Range: bytes 0-8/9\r\n%s\r\n",
			       right[i]);
		script({.status = 206, .headers = header[0], .body = "123456789"},
		       {.status = 206, .headers = header[1], .body = "123456789"});
		cr_expect(eq(int, read_range(0, 9, &got), -EIO));
		cr_expect(zero(sz, got.len));
		cr_expect(ne(ptr, strstr(world.fault.text, strchr(right[i], ' ') + 1), NULL), "%s",
			  world.fault.text);
		cr_expect(zero(int, read_range(0, 9, &got)), "%s", world.fault.text);
		cr_expect(eq(str, got.data, "123456789"));
	}
}

Test(http_range, a_sum_is_of_the_whole_only)
{
	cleanup_str struct str got = {0};

	script({.status = 206,
		.headers = "Content-Range: bytes 0-4/9\r\ncrc32c: 4waSgw==\r\n",
		.body = "12345"},
	       {.status = 206,
		.headers = "Content-Range: bytes 5-8/9\r\ncrc32c: 4waSgw==\r\n",
		.body = "6789"});
	cr_expect(zero(int, read_range(0, 5, &got)), "%s", world.fault.text);
	cr_expect(zero(int, read_range(5, 5, &got)), "%s", world.fault.text);
	cr_expect(eq(str, got.data, "123456789"));
}

Test(http_range, of_a_long_one_with_another_sum_the_end_is_not_given)
{
	enum { N = 3 << 20 };
	static const char *const wrong[] = {"crc32c: AAAAAA==",
					    "sha256: FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiA="};
	char header[200];

	for (int i = 0; i < 2; i++) {
		cleanup_str struct str got = {0};
		(void)snprintf(header, sizeof(header), "Content-Range: bytes 0-3145727/3145728\r\n%s\r\n",
			       wrong[i]);
		script({.status = 206, .headers = header, .n_body = N});
		cr_expect(eq(int, read_range(0, N, &got), -EIO));
		cr_expect(lt(sz, got.len, N));
		cr_expect(ne(ptr, strstr(world.fault.text, strchr(wrong[i], ' ') + 1), NULL), "%s",
			  world.fault.text);
	}
}

Test(http_range, answers_of_parts_tell_the_sum_of_the_whole)
{
	cleanup_str struct str got = {0};
	struct checksum sum = {0};

	script({.status = 206,
		.headers = "Content-Range: bytes 5-8/9\r\ncrc32c: 4waSgw==\r\n",
		.body = "6789"},
	       {.status = 206, .headers = "Content-Range: bytes 5-8/9\r\n", .body = "6789"});
	cr_expect(zero(int, read_telling(5, 5, &got, &sum)), "%s", world.fault.text);
	cr_expect(eq(int, sum.kind, CHECKSUM_CRC32C));
	cr_expect(eq(str, sum.text, "4waSgw=="));
	cr_expect(zero(int, read_telling(5, 5, &got, &sum)), "%s", world.fault.text);
	cr_expect(eq(int, sum.kind, CHECKSUM_NONE));
}

Test(http_range, what_breaks_off_goes_on)
{
	enum { N = 3 << 20 };
	cleanup_str struct str got = {0};
	const char *header = "Content-Range: bytes 0-3145727/3145728\r\n";

	script({.status = 206, .headers = header, .n_body = N, .cut_at = 2 << 20},
	       {.status = 206, .headers = header, .n_body = N, .cut_at = 1 << 20},
	       {.status = 206, .headers = header, .n_body = N});
	cr_assert(zero(int, read_range(0, N, &got)), "%s", world.fault.text);
	cr_assert(eq(sz, got.len, N));
	for (size_t i = 0; i < N; i += 1009)
		cr_assert(eq(int, (unsigned char)got.data[i], server_byte((int64_t)i)));
}

Test(http_range, more_than_was_asked_for)
{
	cleanup_str struct str got = {0};

	script({.status = 206, .headers = "Content-Range: bytes 0-1/9\r\n", .body = "123456789"});
	cr_expect(eq(int, read_range(0, 2, &got), -EIO));
	cr_expect(zero(sz, got.len));
}
