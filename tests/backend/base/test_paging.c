/* SPDX-License-Identifier: MIT */
/* Pages end when tokens repeat, in whatever circle; cursors come back as they were. */
#include "base/paging.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct fault fault;

/* The next page's cursor is in `cursor`; what paging_end said. */
static int turn(char cursor[static 100], const char *token)
{
	struct paging paging;
	struct object_page page = {0};

	cr_assert(zero(int, paging_parse(cursor, &paging, &fault)), "%s", cursor);
	int r = paging_end(&paging, token, &page, &fault);
	cr_expect(eq(int, page.has_more, r == 0));
	if (r == 0)
		snprintf(cursor, 100, "%.99s", page.cursor);
	return r;
}

Test(paging, every_page_may_have_another_token)
{
	char cursor[100] = "", token[32];
	struct paging paging;

	for (int i = 0; i < 10000; i++) {
		snprintf(token, sizeof(token), "page.%d", i);
		cr_assert(zero(int, turn(cursor, token)), "%d", i);
	}
	cr_assert(zero(int, paging_parse(cursor, &paging, &fault)));
	cr_expect(eq(str, (char *)paging.token, "page.9999"));
	cr_expect(le(sz, strlen(cursor), strlen(paging.token) + PAGING_HEAD_MAX));
}

/* After `lead` tokens that come once, a circle. */
static void expect_end(int lead, int circle)
{
	char cursor[100] = "", token[32];
	int r = 0, n;

	for (n = 0; r == 0 && n < 10 * (lead + circle + 1); n++) {
		snprintf(token, sizeof(token), "t%d", n < lead ? n : lead + (n - lead) % circle);
		r = turn(cursor, token);
	}
	cr_expect(eq(int, r, -EIO), "%d tokens, then a circle of %d", lead, circle);
	cr_expect(ge(int, n, lead + circle), "no sooner than one came again");
}

Test(paging, circles_end)
{
	for (int lead = 0; lead < 12; lead++) {
		for (int circle = 1; circle < 20; circle++)
			expect_end(lead, circle);
	}
}

Test(paging, what_is_no_cursor)
{
	static const char *const bad[] = {"x", "1", "1.2", "1.2.3", "..", "1.2.x.t", "no cursor", "1.2 .3"};
	struct paging paging;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect(eq(int, paging_parse(bad[i], &paging, &fault), -EINVAL), "%s", bad[i]);
}

Test(paging, the_last_page_has_no_cursor)
{
	struct paging paging;
	struct object_page page = {.cursor = "old", .has_more = true};

	cr_assert(zero(int, paging_parse("", &paging, &fault)));
	cr_assert(zero(int, paging_end(&paging, "", &page, &fault)));
	cr_expect(eq(int, page.has_more, false));
	cr_expect(eq(str, page.cursor, ""));
}

Test(paging, rows_lie_below_the_prefix)
{
	static const struct {
		const char *key;
		bool is_prefix, is_row, is_deep_row;
	} rows[] = {
		{"d/", false, true, true},  {"d/a", false, true, true},  {"d/a/b", false, false, true},
		{"d/a/", true, true, true}, {"d/a", true, false, false}, {"d/a/b/", true, false, false},
		{"d/", true, false, false}, {"e", false, false, false},  {"", false, false, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		cr_expect(eq(int, paging_is_row(rows[i].key, "d/", false, rows[i].is_prefix), rows[i].is_row),
			  "%s", rows[i].key);
		cr_expect(eq(int, paging_is_row(rows[i].key, "d/", true, rows[i].is_prefix),
			     rows[i].is_deep_row),
			  "%s", rows[i].key);
	}
}
