/* SPDX-License-Identifier: MIT */
/* Headers, and the two whose values are times. */
#include "http/engine.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

static const int64_t ns_per_s = 1000000000;

Test(headers, are_found_without_case_the_first_first)
{
	cleanup_http_headers struct http_headers headers = {0};

	cr_assert(eq(int, http_headers_add(&headers, "X-Name", "1"), 0));
	cr_assert(eq(int, http_headers_add(&headers, "x-name", "2"), 0));
	cr_assert(eq(int, http_headers_add(&headers, "x-empty", ""), 0));
	cr_expect(eq(str, (char *)http_headers_get(&headers, "X-NAME"), "1"));
	cr_expect(eq(str, (char *)http_headers_get(&headers, "X-Empty"), ""));
	cr_expect(eq(ptr, (void *)http_headers_get(&headers, "x-nam"), NULL));
	cr_expect(eq(sz, headers.n, 3));
}

Test(headers, cannot_be_split)
{
	cleanup_http_headers struct http_headers headers = {0};

	cr_expect(eq(int, http_headers_add(&headers, "a", "b\r\nc: d"), -EINVAL));
	cr_expect(eq(int, http_headers_add(&headers, "a", "b\n"), -EINVAL));
	cr_expect(eq(int, http_headers_add(&headers, "a", "\rb"), -EINVAL));
	cr_expect(eq(int, http_headers_add(&headers, "", "b"), -EINVAL));
	cr_expect(eq(int, http_headers_add(&headers, "a b", "b"), -EINVAL));
	cr_expect(eq(int, http_headers_add(&headers, "a:", "b"), -EINVAL));
	cr_expect(eq(int, http_headers_add(&headers, "a\r\nb", "b"), -EINVAL));
	cr_expect(eq(int, http_headers_add(&headers, "\xC3\xA4", "b"), -EINVAL));
	cr_expect(eq(sz, headers.n, 0));
}

Test(headers, are_a_hundred_at_most)
{
	cleanup_http_headers struct http_headers headers = {0};

	for (int i = 0; i < 100; i++)
		cr_assert(eq(int, http_headers_add(&headers, "a", "b"), 0));
	cr_expect(eq(int, http_headers_add(&headers, "a", "b"), -EFBIG));
	cr_expect(eq(int, http_headers_add_line(&headers, "a: b\r\n", 6), -EFBIG));
	cr_expect(eq(int, http_headers_add_line(&headers, "no header\r\n", 11), 0));
	cr_expect(eq(sz, headers.n, 100));
}

Test(headers, can_be_released_twice)
{
	struct http_headers headers = {0};

	cr_assert(eq(int, http_headers_add(&headers, "a", "b"), 0));
	http_headers_release(&headers);
	cr_expect(eq(sz, headers.n, 0));
	cr_expect(eq(ptr, headers.header, NULL));
	http_headers_release(&headers);
	http_headers_release(NULL);
	http_reply_release(NULL);
}

Test(headers, come_from_lines)
{
	static const struct {
		const char *line, *name, *value;
	} cases[] = {
		{"ETag: \"x\"\r\n", "etag", "\"x\""}, {"a:b\n", "a", "b"},
		{"a: \t b c \t\r\n", "a", "b c"},     {"a:\r\n", "a", ""},
		{"a: b: c\r\n", "a", "b: c"},         {"a: \xC3\xA4", "a", "\xC3\xA4"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cleanup_http_headers struct http_headers headers = {0};
		cr_assert(eq(int, http_headers_add_line(&headers, cases[i].line, strlen(cases[i].line)), 0));
		cr_assert(eq(sz, headers.n, 1), "%s", cases[i].line);
		cr_expect(eq(str, (char *)http_headers_get(&headers, cases[i].name), (char *)cases[i].value));
	}
}

Test(headers, are_left_out_where_a_line_is_none)
{
	static const char *const cases[] = {
		"HTTP/1.1 200 OK\r\n", "\r\n", " folded: x\r\n", ": x\r\n", "a b: x\r\n", "a: b\rc: d\r\n"};
	cleanup_http_headers struct http_headers headers = {0};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect(eq(int, http_headers_add_line(&headers, cases[i], strlen(cases[i])), 0));
	cr_expect(eq(int, http_headers_add_line(&headers, "a: b\0c\r\n", 8), 0));
	cr_expect(eq(sz, headers.n, 0));
}

Test(headers, dates_in_the_three_forms)
{
	static const char *const cases[] = {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
					    "Sun Nov  6 08:49:37 1994"};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ns = 0;
		cr_assert(eq(int, http_date_parse(cases[i], &ns), 0), "%s", cases[i]);
		cr_expect(eq(i64, ns, 784111777 * ns_per_s));
	}
}

Test(headers, a_header_that_is_a_date)
{
	cleanup_http_headers struct http_headers headers = {0};

	cr_assert(eq(int, http_headers_add(&headers, "Date", "Fri, 24 May 2013 00:00:01 GMT"), 0));
	cr_assert(eq(int, http_headers_add(&headers, "Last-Modified", "2013-05-24T00:00:01Z"), 0));
	cr_expect(eq(i64, http_headers_time(&headers, "date"), 1369353601 * ns_per_s));
	cr_expect(zero(i64, http_headers_time(&headers, "Last-Modified")));
	cr_expect(zero(i64, http_headers_time(&headers, "Expires")));
}

Test(headers, dates_that_are_none)
{
	static const char *const cases[] = {"",
					    "0",
					    "now",
					    "120",
					    "Sun, 06 Nov 1994",
					    "20261120T111500Z",
					    "Sun, 99 Nov 1994 08:49:37 GMT",
					    "Sun, 06 Nov 1994 28:49:37 GMT",
					    "Sun, 06 Nov 2999 08:49:37 GMT",
					    "Thu, 01 Jan 1970 00:00:00 GMT"};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ns = 7;
		cr_expect(eq(int, http_date_parse(cases[i], &ns), -EINVAL), "%s", cases[i]);
		cr_expect(eq(i64, ns, 7));
	}
}

static int64_t retry_after_ms(const char *value, const char *date)
{
	cleanup_http_headers struct http_headers headers = {0};

	if (value)
		cr_assert(eq(int, http_headers_add(&headers, "retry-after", value), 0));
	if (date)
		cr_assert(eq(int, http_headers_add(&headers, "date", date), 0));
	return http_retry_after_ms(&headers, 784111777 * ns_per_s);
}

Test(headers, retry_after)
{
	cr_expect(eq(i64, retry_after_ms(NULL, NULL), 0));
	cr_expect(eq(i64, retry_after_ms("0", NULL), 0));
	cr_expect(eq(i64, retry_after_ms("7", NULL), 7000));
	cr_expect(eq(i64, retry_after_ms("-7", NULL), 0));
	cr_expect(eq(i64, retry_after_ms("99999999999999999999", NULL), 0));
	cr_expect(eq(i64, retry_after_ms("soon", NULL), 0));
	cr_expect(eq(i64, retry_after_ms("Sun, 06 Nov 1994 08:49:40 GMT", NULL), 3000));
	cr_expect(eq(i64, retry_after_ms("Sun, 06 Nov 1994 08:49:30 GMT", NULL), 0));
	cr_expect(eq(i64, retry_after_ms("Sun, 06 Nov 1994 08:49:40 GMT", "Sun, 06 Nov 1994 08:49:39 GMT"),
		     1000));
	cr_expect(eq(i64, retry_after_ms("Sun, 06 Nov 1994 08:49:40 GMT", "rubbish"), 3000));
}
