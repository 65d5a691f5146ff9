/* SPDX-License-Identifier: MIT */
/* The pace of a host, by a clock of the test's own. */
#include "http/engine.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static struct http http = {.limits = {.pace_ms = 20}};

static struct http_host *host_of(const char *text)
{
	struct url url;

	cr_assert(eq(int, url_parse(text, &url), 0));
	struct http_host *host = http_host_ref_locked(&http, &url);
	cr_assert(host != NULL);
	return host;
}

Test(host, is_one_a_scheme_name_and_port)
{
	struct http_host *host = host_of("https://a/x");

	cr_expect(eq(ptr, host_of("https://a?y"), host));
	cr_expect(ne(ptr, host_of("http://a/x"), host));
	cr_expect(ne(ptr, host_of("https://a:444/x"), host));
	cr_expect(ne(ptr, host_of("https://ab/x"), host));
}

Test(host, answers_at_once_until_it_complains)
{
	struct http_host *host = host_of("https://a");

	for (int i = 0; i < 100; i++)
		cr_expect(eq(i64, http_host_take_turn_locked(host, 1000), 0));
	http_host_slow_down_locked(host, &http.limits, 1000);
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1000), 20));
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1019), 1));
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1020), 0));
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1020), 20));
}

Test(host, doubles_once_for_complaints_that_come_together)
{
	struct http_host *host = host_of("https://a");

	for (int i = 0; i < 16; i++)
		http_host_slow_down_locked(host, &http.limits, 1000);
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1000), 20));
	http_host_slow_down_locked(host, &http.limits, 1100);
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1100), 40));
	for (int i = 0; i < 100; i++)
		http_host_slow_down_locked(host, &http.limits, 2000 + i * 1000);
	cr_expect(eq(i64, http_host_take_turn_locked(host, 101000), 1000));
}

Test(host, gets_faster_with_each_answer)
{
	struct http_host *host = host_of("https://a");

	http_host_slow_down_locked(host, &http.limits, 1000);
	http_host_speed_up_locked(host);
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1020), 0));
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1020), 17));
	for (int i = 0; i < 100; i++)
		http_host_speed_up_locked(host);
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1037), 0));
	cr_expect(eq(i64, http_host_take_turn_locked(host, 1037), 0));
}

Test(host, is_forgotten_when_nobody_uses_it_and_it_has_long_been_calm)
{
	struct http_host *host = host_of("https://a");

	http_host_slow_down_locked(host, &http.limits, 100000);
	http_host_unref_locked(&http, host, 100000);
	cr_expect(eq(ptr, host_of("https://a"), host));
	http_host_unref_locked(&http, host, 170000);
	cr_expect(eq(ptr, LIST_FIRST(&http.hosts), NULL));
}
