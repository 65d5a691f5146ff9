/* SPDX-License-Identifier: MIT */
/* Clock of base/, held to what its header promises. */
#include "clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>

Test(clock, formats_with_milliseconds)
{
	char text[CLOCK_TEXT_MAX];

	cr_expect(eq(str, clock_format(INT64_C(1795173300250999999), text), "2026-11-20T11:15:00.250Z"));
	cr_expect(eq(str, clock_format(0, text), ""));
	cr_expect(eq(str, clock_format(-1, text), "1969-12-31T23:59:59.999Z"));
	cr_expect(eq(str, clock_format(INT64_MIN, text), "1677-09-21T00:12:43.145Z"));
	cr_expect(eq(str, clock_format(INT64_MAX, text), "2262-04-11T23:47:16.854Z"));
}

Test(clock, stamps)
{
	char text[CLOCK_TEXT_MAX];

	cr_expect(eq(str, clock_stamp(INT64_C(1795173300000000000), text), "20261120_111500"));
}

Test(clock, parses_any_offset)
{
	static const struct {
		const char *text;
		int64_t ns;
	} cases[] = {
		{"2026-11-20T11:15:00Z", INT64_C(1795173300000000000)},
		{"2026-11-20T11:15:00.25Z", INT64_C(1795173300250000000)},
		{"2026-11-20t12:15:00.2500000009+01:00", INT64_C(1795173300250000000)},
		{"2026-11-20 06:45:00-04:30", INT64_C(1795173300000000000)},
		{"1969-12-31T23:59:59.5Z", INT64_C(-500000000)},
		{"2024-02-29T00:00:00Z", INT64_C(1709164800000000000)},
		{"2016-12-31T23:59:60Z", INT64_C(1483228800000000000)},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ns = 0;
		cr_expect(eq(int, clock_parse(cases[i].text, &ns), 0), "%s", cases[i].text);
		cr_expect(eq(i64, ns, cases[i].ns), "%s", cases[i].text);
	}
}

Test(clock, refuses_what_is_no_time)
{
	static const char *const cases[] = {
		"",
		"2026",
		"2026-11-20",
		"2026-11-20T11:15",
		"2026-11-20T11:15:00",
		"2026-13-01T00:00:00Z",
		"2026-00-01T00:00:00Z",
		"2026-04-31T00:00:00Z",
		"2025-02-29T00:00:00Z",
		"2026-01-01T24:00:00Z",
		"2026-01-01T00:60:00Z",
		"2026-01-01T00:00:61Z",
		"2026-01-01T00:00:00.Z",
		"2026-01-01T00:00:00Zx",
		"2026-01-01T00:00:00+1:00",
		"2026-01-01T00:00:00+24:00",
		"9999-01-01T00:00:00Z",
		"0001-01-01T00:00:00Z",
		"2026-1-01T00:00:00Z",
		" 2026-01-01T00:00:00Z",
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ns = 7;
		cr_expect(eq(int, clock_parse(cases[i], &ns), -EINVAL), "%s", cases[i]);
		cr_expect(eq(i64, ns, 7));
	}
}

Test(clock, what_is_formatted_can_be_parsed)
{
	char text[CLOCK_TEXT_MAX];
	int64_t now = clock_wall_ns() / 1000000 * 1000000, again = 0;

	cr_assert(eq(int, clock_parse(clock_format(now, text), &again), 0));
	cr_assert(eq(i64, now, again));
}

Test(clock, monotonic_does_not_go_back)
{
	int64_t first = clock_mono_ms();

	cr_assert(ge(i64, clock_mono_ms(), first));
}

Test(clock, a_wait_ends_at_its_moment)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t condition;
	int64_t until_ms = clock_mono_ms() + 30;

	clock_condition_init(&condition);
	pthread_mutex_lock(&lock);
	while (clock_wait(&condition, &lock, until_ms))
		;
	cr_expect(ge(i64, clock_mono_ms(), until_ms));
	cr_expect(not(clock_wait(&condition, &lock, until_ms)), "a moment that has gone by");
	pthread_mutex_unlock(&lock);
	pthread_cond_destroy(&condition);
}
