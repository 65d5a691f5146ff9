/* SPDX-License-Identifier: MIT */
/* When keys are renewed, and what is used when that fails. Time is a number. */
#include "auth/renewal.h"

#include "cleanup.h"
#include "str.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

enum { ADVISORY_MS = 900000, MANDATORY_MS = 600000 };

static const int64_t minute = 60000000000, start = 1000 * 60000000000;

static struct {
	struct renewal *renewal;
	int n_asked;
	int result;
	const char *secret;
	int64_t expires_ns;
	struct http_cancel *cancel; /* set by the one that asks, as Ctrl-C would be */
	struct fault fault;
	uint64_t generation;
} test;

static int answer(void *arg, int64_t now_ns, struct http_cancel *cancel, struct auth_keys *ret,
		  struct fault *reterr)
{
	test.n_asked++;
	if (test.cancel)
		test.cancel->is_set = true;
	if (test.result < 0)
		return fault_set(reterr, -test.result, "answer %d", test.n_asked);
	ret->id = strdup("ID");
	ret->from = strdup("here");
	ret->expires_ns = test.expires_ns;
	return secret_set(&ret->secret, test.secret, strlen(test.secret));
}

static void set_up(void)
{
	cr_assert(zero(int, renewal_new(answer, NULL, ADVISORY_MS, MANDATORY_MS, &test.renewal)));
	test.secret = "one";
	test.expires_ns = start + 60 * minute;
}

static void tear_down(void)
{
	renewal_free(test.renewal);
}

TestSuite(renewal, .init = set_up, .fini = tear_down);

static int get(int64_t now_ns, uint64_t refused, const char *wanted)
{
	cleanup_auth_keys struct auth_keys keys = {0};
	test.fault = (struct fault){0};
	int r = renewal_get(test.renewal, now_ns, refused, NULL, &keys, &test.generation, &test.fault);
	if (r == 0)
		cr_assert(eq(str, keys.secret.text, (char *)wanted));
	return r;
}

static void check(int64_t now_ns, const char *wanted, int n_asked)
{
	cr_assert(zero(int, get(now_ns, 0, wanted)), "%s", test.fault.text);
	cr_assert(eq(int, test.n_asked, n_asked));
}

static void next(const char *secret, int64_t expires_ns)
{
	test.secret = secret;
	test.expires_ns = expires_ns;
}

Test(renewal, fresh_keys_are_used_until_a_quarter_hour_before_their_end)
{
	check(start, "one", 1);
	next("two", start + 120 * minute);
	check(start + 44 * minute, "one", 1);
	check(start + 45 * minute, "two", 2);
	check(start + 104 * minute, "two", 2);
}

Test(renewal, keys_without_an_end_stay)
{
	next("one", 0);
	check(start, "one", 1);
	check(start + 100000 * minute, "one", 1);
}

Test(renewal, a_failed_renewal_keeps_what_is_held_to_its_end)
{
	check(start, "one", 1);
	test.result = -EHOSTUNREACH;
	check(start + 45 * minute, "one", 2);
	check(start + 45 * minute + 1, "one", 2); /* nobody needs new ones yet: no hurry */
	check(start + 46 * minute, "one", 3);
	check(start + 51 * minute, "one", 4);
	check(start + 51 * minute + RENEWAL_HOLD_MS * INT64_C(1000000), "one", 5);
	cr_assert(eq(int, get(start + 60 * minute, 0, NULL), -EHOSTUNREACH));
	cr_assert(eq(str, test.fault.text, "answer 6"));
	test.result = 0;
	next("two", start + 120 * minute);
	check(start + 61 * minute, "two", 7);
}

Test(renewal, a_failure_stands_for_a_moment)
{
	test.result = -EACCES;
	cr_assert(eq(int, get(start, 0, NULL), -EACCES));
	cr_assert(eq(int, get(start + 1, 0, NULL), -EACCES));
	cr_assert(eq(str, test.fault.text, "answer 1"));
	test.result = 0;
	check(start + RENEWAL_HOLD_MS * INT64_C(1000000), "one", 2);
}

Test(renewal, short_lived_keys_are_not_renewed_at_each_use)
{
	next("one", start + 5 * minute);
	check(start, "one", 1);
	check(start + 1, "one", 1);
	next("two", start + 6 * minute);
	check(start + 1 * minute, "two", 2);
	check(start + 6 * minute - 1, "two", 3);
}

Test(renewal, refused_keys_are_replaced_once)
{
	check(start, "one", 1);
	uint64_t refused = test.generation;
	next("two", start + 60 * minute);
	cr_assert(zero(int, get(start + 1, refused, "two")));
	cr_assert(ne(u64, test.generation, refused));
	cr_assert(zero(int, get(start + 2, refused, "two")), "another request of the old ones");
	cr_assert(eq(int, test.n_asked, 2));
}

Test(renewal, refused_keys_that_come_again_are_a_fault)
{
	check(start, "one", 1);
	cr_assert(eq(int, get(start + 1, test.generation, NULL), -EACCES));
	cr_assert(strstr(test.fault.text, "(here)") != NULL, "%s", test.fault.text);
	cr_assert(strstr(test.fault.text, "one") == NULL);
	cr_assert(eq(int, test.n_asked, 2));
}

Test(renewal, a_clock_that_jumps_back_does_no_harm)
{
	test.result = -EACCES;
	cr_assert(eq(int, get(start, 0, NULL), -EACCES));
	test.result = 0;
	check(start - 600 * minute, "one", 2);
	check(start - 700 * minute, "one", 2);
}

Test(renewal, whoever_is_interrupted_says_nothing_about_the_credentials)
{
	struct http_cancel cancel = {0};
	cleanup_auth_keys struct auth_keys keys = {0};
	test.cancel = &cancel;
	test.result = -EINTR;
	cr_assert(eq(int, renewal_get(test.renewal, start, 0, &cancel, &keys, &test.generation, &test.fault),
		     -EINTR));
	cr_assert(eq(int, test.n_asked, 1));
	test.cancel = NULL;
	test.result = 0;
	check(start, "one", 2);
	cr_assert(
		eq(int,
		   renewal_get(test.renewal, start + 60 * minute, 0, &cancel, &keys, &test.generation, NULL),
		   -EINTR));
	cr_assert(eq(int, test.n_asked, 2), "nothing is begun for who has gone");
}
