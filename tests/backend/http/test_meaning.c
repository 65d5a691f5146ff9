/* SPDX-License-Identifier: MIT */
/* Codes of a service become verdicts: errno, wishes, and a sentence with what may help. */
#include "http/meaning.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>

static const struct http_meaning table[] = {
	{"Slow", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"Old", EACCES, HTTP_MEANS_CREDENTIALS | HTTP_MEANS_SKEWED, "log in again"},
	{"Broken", EIO, HTTP_MEANS_TRANSIENT, NULL},
	{NULL},
};

static struct http_verdict judge(const char *code, const char *message)
{
	struct http_verdict verdict = {0};

	http_meaning_judge(table, code, message, &verdict);
	return verdict;
}

Test(http_meaning, a_code_that_is_known)
{
	struct http_verdict slow = judge("Slow", "wait"), old = judge("Old", "it is over");

	cr_expect(eq(int, slow.err, EAGAIN));
	cr_expect(slow.is_throttled && !slow.is_transient && !slow.is_credential_refused && !slow.is_skewed);
	cr_expect(eq(str, slow.text, "Slow: wait"));
	cr_expect(eq(int, old.err, EACCES));
	cr_expect(old.is_credential_refused && old.is_skewed && !old.is_throttled);
	cr_expect(eq(str, old.text, "Old: it is over; log in again"));
	cr_expect(judge("Broken", "").is_transient);
}

Test(http_meaning, one_that_is_not_leaves_it_to_the_status)
{
	struct http_verdict verdict = judge("New", "who knows");

	cr_expect(eq(ptr, (void *)http_meaning_find(table, "New"), NULL));
	cr_expect(eq(int, verdict.err, 0));
	cr_expect(not(verdict.is_transient || verdict.is_throttled));
	cr_expect(eq(str, verdict.text, "New: who knows"));
}

Test(http_meaning, what_is_empty_is_left_out)
{
	cr_expect(eq(str, judge("Old", "").text, "Old; log in again"));
	cr_expect(eq(str, judge("", "a line").text, "a line"));
}
