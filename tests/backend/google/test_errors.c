/* SPDX-License-Identifier: MIT */
/* Reasons become errnos and wishes; what is not known goes by the status. */
#include "google/errors.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

#include "cleanup.h"
#include "str.h"

static struct http_verdict judge_text(int status, const char *text)
{
	struct http_verdict verdict = {0};

	google_judge(status, NULL, text, strlen(text), &verdict);
	return verdict;
}

static struct http_verdict judge(const char *reason)
{
	cleanup_free char *json = NULL;

	cr_assert(str_format(&json, "{\"error\":{\"message\":\"it is so\",\"errors\":[{\"reason\":\"%s\"}]}}",
			     reason) == 0);
	return judge_text(400, json);
}

Test(google_errors, errno_of_a_reason)
{
	static const struct {
		const char *reason;
		int err;
	} rows[] = {
		{"authError", EACCES},
		{"forbidden", EPERM},
		{"insufficientPermissions", EPERM},
		{"userProjectMissing", EPERM},
		{"retentionPolicyNotMet", EPERM},
		{"objectUnderActiveHold", EPERM},
		{"notFound", ENOENT},
		{"gone", ENOENT},
		{"conflict", EEXIST},
		{"conditionNotMet", ESTALE},
		{"uploadTooLarge", EFBIG},
		{"quotaExceeded", EDQUOT},
		{"rateLimitExceeded", EAGAIN},
		{"userRateLimitExceeded", EAGAIN},
		{"backendError", EIO},
		{"internalError", EIO},
		{"notImplemented", EOPNOTSUPP},
		{"invalid", 0},
		{"neverHeardOf", 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		cr_expect(eq(int, judge(rows[i].reason).err, rows[i].err), "%s", rows[i].reason);
}

Test(google_errors, what_may_help)
{
	cr_expect(judge("authError").is_credential_refused);
	cr_expect(judge("rateLimitExceeded").is_throttled);
	cr_expect(judge("backendError").is_transient);
	struct http_verdict denied = judge("forbidden");
	cr_expect(not(denied.is_transient || denied.is_throttled || denied.is_credential_refused ||
		      denied.is_skewed));
}

Test(google_errors, sentence)
{
	cr_expect(eq(str, judge("notFound").text, "notFound: it is so"));
	cr_expect(eq(str, judge("neverHeardOf").text, "neverHeardOf: it is so"));
	cr_expect(ne(ptr, strstr(judge("authError").text, "authError: it is so; gcloud auth"), NULL));
	cr_expect(ne(ptr, strstr(judge("forbidden").text, "roles/storage.objectUser"), NULL));
	cr_expect(eq(str, judge_text(404, "No such object: b/k").text, "No such object: b/k"));
}

Test(google_errors, another_sum_is_no_nonsense)
{
	struct http_verdict verdict = judge_text(
		400, "{\"error\":{\"message\":\"Provided CRC32C \\\"AAAAAA==\\\" doesn't match "
		     "calculated CRC32C \\\"4waSgw==\\\".\",\"errors\":[{\"reason\":\"invalid\"}]}}");

	cr_expect(eq(int, verdict.err, EIO));
	cr_expect(verdict.is_transient);
}

Test(google_errors, what_is_no_error_document_is_left_to_the_status)
{
	static const char *const bodies[] = {"", "<html/>", "{\"message\": \"x\"}", "{\"error\": \"x\"}",
					     "[]"};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		struct http_verdict verdict = judge_text(503, bodies[i]);
		cr_expect(zero(int, verdict.err));
		cr_expect(eq(str, verdict.text, ""));
	}
}
