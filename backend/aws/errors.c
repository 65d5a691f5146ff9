/* SPDX-License-Identifier: MIT */
/* One table of codes, for S3 and the query services; what is not in it goes by the status. */
#include "aws/errors.h"

#include <errno.h>
#include <string.h>

#include "aws/address.h"

#define RENEW "renew the credentials (aws sso login, or a new key), then try again"
#define KEYS  "check the key id and the secret that `trainfs check` names"

static const struct aws_error_meaning meanings[] = {
	/* who asks */
	{"AccessDenied", EPERM, 0, NULL},
	{"AccessDeniedException", EPERM, 0, NULL},
	{"AccountProblem", EPERM, 0, NULL},
	{"AllAccessDisabled", EPERM, 0, NULL},
	{"AuthorizationHeaderMalformed", EACCES, 0, NULL},
	{"ExpiredToken", EACCES, AWS_ERROR_CREDENTIALS, RENEW},
	{"ExpiredTokenException", EACCES, AWS_ERROR_CREDENTIALS, RENEW},
	{"IncompleteSignatureException", EACCES, 0, NULL},
	{"InvalidAccessKeyId", EACCES, AWS_ERROR_CREDENTIALS, KEYS},
	{"InvalidClientTokenId", EACCES, AWS_ERROR_CREDENTIALS, KEYS},
	{"InvalidSignatureException", EACCES, 0, KEYS},
	{"InvalidToken", EACCES, AWS_ERROR_CREDENTIALS, RENEW},
	{"MissingAuthenticationTokenException", EACCES, 0, KEYS},
	{"NotSignedUp", EPERM, 0, NULL},
	{"RequestExpired", EACCES, AWS_ERROR_SKEWED, "set this machine's clock"},
	{"RequestTimeTooSkewed", EACCES, AWS_ERROR_SKEWED, "set this machine's clock"},
	{"SignatureDoesNotMatch", EACCES, 0, KEYS},
	{"TokenRefreshRequired", EACCES, AWS_ERROR_CREDENTIALS, RENEW},
	{"UnrecognizedClientException", EACCES, AWS_ERROR_CREDENTIALS, KEYS},

	/* what is named */
	{"NoSuchBucket", ENOENT, 0, NULL},
	{"NoSuchKey", ENOENT, 0, NULL},
	{"NoSuchUpload", ENOENT, 0, NULL},
	{"NoSuchVersion", ENOENT, 0, NULL},
	{"BucketAlreadyExists", EEXIST, 0, "bucket names are shared by all of AWS: take another one"},
	{"BucketAlreadyOwnedByYou", EEXIST, 0, NULL},
	{"BucketNotEmpty", ENOTEMPTY, 0, NULL},
	{"InvalidBucketName", EINVAL, 0, NULL},
	{"KeyTooLongError", EINVAL, 0, NULL},
	{"InvalidObjectState", EPERM, 0, "restore it from the archive first (aws s3api restore-object)"},
	{"PreconditionFailed", ESTALE, 0, NULL},
	{"InvalidRange", EINVAL, 0, NULL},

	/* how much */
	{"EntityTooLarge", EFBIG, 0, NULL},
	{"EntityTooSmall", EINVAL, 0, NULL},
	{"TooManyBuckets", EDQUOT, 0, NULL},
	{"QuotaExceeded", EDQUOT, 0, NULL},
	{"ResourceLimitExceeded", EDQUOT, 0, NULL},

	/* what cannot be done here */
	{"MethodNotAllowed", EOPNOTSUPP, 0, NULL},
	{"NotImplemented", EOPNOTSUPP, 0, NULL},

	/* too fast */
	{"BandwidthLimitExceeded", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"EC2ThrottledException", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"LimitExceededException", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"ProvisionedThroughputExceededException", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"RequestLimitExceeded", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"RequestThrottled", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"RequestThrottledException", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"ServiceUnavailable", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"SlowDown", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"Throttling", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"ThrottlingException", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"ThrottledException", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"TooManyRequestsException", EAGAIN, AWS_ERROR_THROTTLED, NULL},
	{"TransactionInProgressException", EAGAIN, AWS_ERROR_THROTTLED, NULL},

	/* again */
	{"BadDigest", EIO, AWS_ERROR_TRANSIENT, "the bytes changed on their way"},
	{"ConditionalRequestConflict", ESTALE, AWS_ERROR_TRANSIENT, NULL},
	{"IncompleteBody", EIO, AWS_ERROR_TRANSIENT, NULL},
	{"InternalError", EIO, AWS_ERROR_TRANSIENT, NULL},
	{"InternalFailure", EIO, AWS_ERROR_TRANSIENT, NULL},
	{"OperationAborted", EAGAIN, AWS_ERROR_TRANSIENT, NULL},
	{"PriorRequestNotComplete", EAGAIN, AWS_ERROR_TRANSIENT, NULL},
	{"RequestTimeout", ETIMEDOUT, AWS_ERROR_TRANSIENT, NULL},
	{"RequestTimeoutException", ETIMEDOUT, AWS_ERROR_TRANSIENT, NULL},
	{"XAmzContentChecksumMismatch", EIO, AWS_ERROR_TRANSIENT, "the bytes changed on their way"},
	{"XAmzContentSHA256Mismatch", EIO, AWS_ERROR_TRANSIENT, "the bytes changed on their way"},
};

const struct aws_error_meaning *aws_error_find(const char *code)
{
	for (size_t i = 0; i < sizeof(meanings) / sizeof(*meanings); i++) {
		if (!strcmp(meanings[i].code, code))
			return &meanings[i];
	}
	return NULL;
}

void aws_error_text(const struct aws_error *error, char *ret, size_t size)
{
	const struct aws_error_meaning *meaning = aws_error_find(error->code);
	const char *advice = meaning && meaning->advice ? meaning->advice : "";
	snprintf(ret, size, "%s%s%s%s%s", error->code, *error->message ? ": " : "", error->message,
		 *advice ? "; " : "", advice);
}

void aws_judge(int status, const struct http_headers *headers, const char *body, size_t n,
	       struct http_verdict *ret)
{
	struct aws_error error = {0};
	if (!aws_parse_error(body, n, &error))
		return;
	aws_error_text(&error, ret->text, sizeof(ret->text));
	const struct aws_error_meaning *meaning = aws_error_find(error.code);
	if (!meaning)
		return;
	ret->err = meaning->err;
	ret->is_transient = meaning->flags & AWS_ERROR_TRANSIENT;
	ret->is_throttled = meaning->flags & AWS_ERROR_THROTTLED;
	ret->is_credential_refused = meaning->flags & AWS_ERROR_CREDENTIALS;
	ret->is_skewed = meaning->flags & AWS_ERROR_SKEWED;
}

/* "BUCKET.s3.eu-west-1.amazonaws.com", "s3-eu-west-1.amazonaws.com" -> "eu-west-1" */
static void aws_region_of_host(const char *host, char ret[static AWS_REGION_MAX])
{
	const char *at = NULL;
	for (const char *c = host; (c = strstr(c, "s3")); c += 2) {
		if ((c == host || c[-1] == '.') && (c[2] == '.' || c[2] == '-'))
			at = c + 3;
	}
	const char *end = at ? strchr(at, '.') : NULL;
	if (end && strncmp(end, ".amazonaws.", 11) == 0)
		snprintf(ret, AWS_REGION_MAX, "%.*s", (int)(end - at), at);
}

bool aws_error_region(const struct http_reply *reply, char ret[static AWS_REGION_MAX])
{
	struct aws_error error = {0};
	char region[AWS_REGION_MAX] = "";
	const char *header = http_headers_get(&reply->headers, "x-amz-bucket-region");
	if (header)
		snprintf(region, sizeof(region), "%s", header);
	else if (reply->body.data && aws_parse_error(reply->body.data, reply->body.len, &error)) {
		memcpy(region, error.region, sizeof(region));
		if (!*region)
			aws_region_of_host(error.endpoint, region);
	}
	if (!aws_is_region(region))
		return false;
	memcpy(ret, region, sizeof(region));
	return true;
}
