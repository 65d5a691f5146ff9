/* SPDX-License-Identifier: MIT */
/* URLs: one way of encoding, and no second reading of what was encoded. */
#include "http/url.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

Test(url, encodes_all_but_the_unreserved)
{
	static const struct {
		const char *text, *encoded, *with_slash;
	} cases[] = {
		{"", "", ""},
		{"AZaz09-._~", "AZaz09-._~", "AZaz09-._~"},
		{"a b+c", "a%20b%2Bc", "a%20b%2Bc"},
		{"/a//b/", "%2Fa%2F%2Fb%2F", "/a//b/"},
		{"a/../b", "a%2F..%2Fb", "a/../b"},
		{"%41", "%2541", "%2541"},
		{"\xC3\xA4\xFF\x01\x7F", "%C3%A4%FF%01%7F", "%C3%A4%FF%01%7F"},
		{"!*'();:@&=$,?#[]", "%21%2A%27%28%29%3B%3A%40%26%3D%24%2C%3F%23%5B%5D",
		 "%21%2A%27%28%29%3B%3A%40%26%3D%24%2C%3F%23%5B%5D"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cleanup_str struct str encoded = {0}, with_slash = {0};
		cr_assert(eq(int, url_encode(&encoded, cases[i].text, false), 0));
		cr_assert(eq(int, url_encode(&with_slash, cases[i].text, true), 0));
		cr_expect(eq(str, encoded.data ? encoded.data : "", (char *)cases[i].encoded));
		cr_expect(eq(str, with_slash.data ? with_slash.data : "", (char *)cases[i].with_slash));
	}
}

Test(url, stops_at_the_maximum)
{
	cleanup_str struct str s = {.max = 5};

	cr_expect(eq(int, url_encode(&s, "ab\xFF", false), 0));
	cr_expect(eq(int, url_encode(&s, "c", false), -EFBIG));
	cr_expect(eq(int, url_add_query(&s, "a", "b"), -EFBIG));
	cr_expect(eq(str, s.data, "ab%FF"));
}

Test(url, adds_queries)
{
	cleanup_str struct str url = {0};

	str_append(&url, "https://h/p");
	cr_assert(eq(int, url_add_query(&url, "none", NULL), 0));
	cr_assert(eq(int, url_add_query(&url, "uploads", ""), 0));
	cr_assert(eq(int, url_add_query(&url, "none", NULL), 0));
	cr_assert(eq(int, url_add_query(&url, "a b", "c/d&e"), 0));
	cr_expect(eq(str, url.data, "https://h/p?uploads=&a%20b=c%2Fd%26e"));
}

Test(url, finds_its_parts)
{
	static const struct {
		const char *text, *scheme, *host, *path, *query;
	} cases[] = {
		{"http://h", "http", "h", "", ""},
		{"https://a-b.c_d.example:8443/x/../%2F//y?a=b?c&d", "https", "a-b.c_d.example:8443",
		 "/x/../%2F//y", "a=b?c&d"},
		{"http://[fd00:ec2::254]/", "http", "[fd00:ec2::254]", "/", ""},
		{"http://[::1]:80?q", "http", "[::1]:80", "", "q"},
		{"http://127.0.0.1:65535/?", "http", "127.0.0.1:65535", "/", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct url url;
		cr_assert(eq(int, url_parse(cases[i].text, &url), 0), "%s", cases[i].text);
		cr_expect(eq(int, url.n_scheme, (int)strlen(cases[i].scheme)), "%s", cases[i].text);
		cr_expect(eq(int, url.n_host, (int)strlen(cases[i].host)), "%s", cases[i].text);
		cr_expect(eq(int, url.n_path, (int)strlen(cases[i].path)), "%s", cases[i].text);
		cr_expect(eq(int, url.n_query, (int)strlen(cases[i].query)), "%s", cases[i].text);
		cr_expect(eq(int, strncmp(url.scheme, cases[i].scheme, strlen(cases[i].scheme)), 0));
		cr_expect(eq(int, strncmp(url.host, cases[i].host, strlen(cases[i].host)), 0));
		cr_expect(eq(int, strncmp(url.path, cases[i].path, strlen(cases[i].path)), 0));
		cr_expect(eq(int, strncmp(url.query, cases[i].query, strlen(cases[i].query)), 0));
	}
}

Test(url, refuses_what_is_no_url_or_hides_something)
{
	static const char *const cases[] = {
		"",
		"h",
		"/p",
		"http:/h",
		"http:///p",
		"://h",
		"1http://h",
		"http://user:secret@h/",
		"http://h@evil/",
		"http://h:/",
		"http://h:0/",
		"http://h:65536/",
		"http://h:80a/",
		"http://h:123456/",
		"http://[::1/",
		"http://[]/",
		"http://[x]/",
		"http://[::1]a/",
		"http://h h/",
		"http://h/a b",
		"http://h/a\r\nX: y",
		"http://h/#f",
		"http://h/\xC3\xA4",
		"http://h%41/",
		"http://h\\evil/",
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct url url = {.n_host = 7};
		cr_expect(eq(int, url_parse(cases[i], &url), -EINVAL), "%s", cases[i]);
		cr_expect(eq(int, url.n_host, 7));
	}
}
