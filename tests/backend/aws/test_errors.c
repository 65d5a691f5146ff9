/* SPDX-License-Identifier: MIT */
/* Codes become errnos and wishes, whatever the status; regions are found wherever they are told. */
#include "aws/errors.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

#include "cleanup.h"
#include "str.h"

static struct http_verdict judge(const char *code)
{
	cleanup_free char *xml = NULL;
	struct http_verdict verdict = {0};

	cr_assert(str_format(&xml, "<Error><Code>%s</Code><Message>it is so</Message></Error>", code) == 0);
	aws_judge(400, NULL, xml, strlen(xml), &verdict);
	return verdict;
}

Test(aws_errors, errno_of_a_code)
{
	static const struct {
		const char *code;
		int err;
	} rows[] = {
		{"AccessDenied", EPERM},
		{"ExpiredToken", EACCES},
		{"InvalidAccessKeyId", EACCES},
		{"SignatureDoesNotMatch", EACCES},
		{"NoSuchKey", ENOENT},
		{"NoSuchBucket", ENOENT},
		{"BucketAlreadyExists", EEXIST},
		{"BucketNotEmpty", ENOTEMPTY},
		{"PreconditionFailed", ESTALE},
		{"EntityTooLarge", EFBIG},
		{"TooManyBuckets", EDQUOT},
		{"NotImplemented", EOPNOTSUPP},
		{"SlowDown", EAGAIN},
		{"InternalError", EIO},
		{"RequestTimeout", ETIMEDOUT},
		{"InvalidObjectState", EPERM},
		{"NeverHeardOf", 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		cr_expect(eq(int, judge(rows[i].code).err, rows[i].err), "%s", rows[i].code);
}

Test(aws_errors, what_may_help)
{
	cr_expect(judge("ExpiredToken").is_credential_refused);
	cr_expect(judge("RequestTimeTooSkewed").is_skewed);
	cr_expect(judge("SlowDown").is_throttled);
	cr_expect(judge("RequestTimeout").is_transient);
	cr_expect(judge("BadDigest").is_transient);
	struct http_verdict denied = judge("AccessDenied");
	cr_expect(not(denied.is_transient || denied.is_throttled || denied.is_credential_refused ||
		      denied.is_skewed));
}

Test(aws_errors, sentence)
{
	cr_expect(eq(str, judge("NoSuchKey").text, "NoSuchKey: it is so"));
	cr_expect(eq(str, judge("NeverHeardOf").text, "NeverHeardOf: it is so"));
	cr_expect(ne(ptr, strstr(judge("ExpiredToken").text, "ExpiredToken: it is so; renew"), NULL));
}

Test(aws_errors, what_is_no_error_document_is_left_to_the_status)
{
	static const char *const bodies[] = {"", "<html/>", "Service Unavailable", "{\"message\": \"x\"}"};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		struct http_verdict verdict = {0};
		aws_judge(503, NULL, bodies[i], strlen(bodies[i]), &verdict);
		cr_expect(zero(int, verdict.err));
		cr_expect(eq(str, verdict.text, ""));
	}
}

static const char *region_of(const char *header, const char *body)
{
	static char region[AWS_REGION_MAX];
	struct http_header row = {.name = "X-Amz-Bucket-Region", .value = (char *)header};
	struct http_reply reply = {.headers = {.header = &row, .n = header != NULL}};

	str_append(&reply.body, body);
	bool is_known = aws_error_region(&reply, region);
	str_release(&reply.body);
	return is_known ? region : "none";
}

Test(aws_errors, region_of_an_answer)
{
	cr_expect(eq(str, (char *)region_of("eu-west-1", ""), "eu-west-1"));
	cr_expect(eq(str,
		     (char *)region_of(NULL, "<Error><Code>AuthorizationHeaderMalformed</Code>"
					     "<Region>eu-west-2</Region></Error>"),
		     "eu-west-2"));
	cr_expect(eq(str,
		     (char *)region_of(NULL, "<Error><Code>PermanentRedirect</Code>"
					     "<Endpoint>b.s3.eu-west-3.amazonaws.com</Endpoint></Error>"),
		     "eu-west-3"));
	cr_expect(eq(str,
		     (char *)region_of(NULL, "<Error><Code>TemporaryRedirect</Code>"
					     "<Endpoint>s3-sa-east-1.amazonaws.com</Endpoint></Error>"),
		     "sa-east-1"));
	cr_expect(eq(str,
		     (char *)region_of(NULL, "<Error><Code>TemporaryRedirect</Code>"
					     "<Endpoint>s3.x.evil.org</Endpoint></Error>"),
		     "none"));
	cr_expect(eq(str, (char *)region_of("evil.org/", ""), "none"));
	cr_expect(eq(str, (char *)region_of(NULL, ""), "none"));
}
