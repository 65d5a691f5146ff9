/* SPDX-License-Identifier: MIT */
/* One table of codes, for S3 and the query services; what is not in it goes by the status. */
#include "aws/errors.h"

#include <errno.h>
#include <string.h>

#include "aws/address.h"

#define RENEW "renew the credentials (aws sso login, or a new key), then try again"
#define KEYS  "check the key id and the secret that `trainfs check` names"

const struct http_meaning aws_meanings[] = {
	/* who asks */
	{"AccessDenied", EPERM, 0, NULL},
	{"AccessDeniedException", EPERM, 0, NULL},
	{"AccountProblem", EPERM, 0, NULL},
	{"AllAccessDisabled", EPERM, 0, NULL},
	{"AuthorizationHeaderMalformed", EACCES, 0, NULL},
	{"ExpiredToken", EACCES, HTTP_MEANS_CREDENTIALS, RENEW},
	{"ExpiredTokenException", EACCES, HTTP_MEANS_CREDENTIALS, RENEW},
	{"IncompleteSignatureException", EACCES, 0, NULL},
	{"InvalidAccessKeyId", EACCES, HTTP_MEANS_CREDENTIALS, KEYS},
	{"InvalidClientTokenId", EACCES, HTTP_MEANS_CREDENTIALS, KEYS},
	{"InvalidSignatureException", EACCES, 0, KEYS},
	{"InvalidToken", EACCES, HTTP_MEANS_CREDENTIALS, RENEW},
	{"MissingAuthenticationTokenException", EACCES, 0, KEYS},
	{"NotSignedUp", EPERM, 0, NULL},
	{"RequestExpired", EACCES, HTTP_MEANS_SKEWED, "set this machine's clock"},
	{"RequestTimeTooSkewed", EACCES, HTTP_MEANS_SKEWED, "set this machine's clock"},
	{"SignatureDoesNotMatch", EACCES, 0, KEYS},
	{"TokenRefreshRequired", EACCES, HTTP_MEANS_CREDENTIALS, RENEW},
	{"UnrecognizedClientException", EACCES, HTTP_MEANS_CREDENTIALS, KEYS},

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
	{"BandwidthLimitExceeded", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"EC2ThrottledException", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"LimitExceededException", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"ProvisionedThroughputExceededException", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"RequestLimitExceeded", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"RequestThrottled", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"RequestThrottledException", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"ServiceUnavailable", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"SlowDown", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"Throttling", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"ThrottlingException", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"ThrottledException", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"TooManyRequestsException", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"TransactionInProgressException", EAGAIN, HTTP_MEANS_THROTTLED, NULL},

	/* again */
	{"BadDigest", EIO, HTTP_MEANS_TRANSIENT, "the bytes changed on their way"},
	{"ConditionalRequestConflict", ESTALE, HTTP_MEANS_TRANSIENT, NULL},
	{"IncompleteBody", EIO, HTTP_MEANS_TRANSIENT, NULL},
	{"InternalError", EIO, HTTP_MEANS_TRANSIENT, NULL},
	{"InternalFailure", EIO, HTTP_MEANS_TRANSIENT, NULL},
	{"OperationAborted", EAGAIN, HTTP_MEANS_TRANSIENT, NULL},
	{"PriorRequestNotComplete", EAGAIN, HTTP_MEANS_TRANSIENT, NULL},
	{"RequestTimeout", ETIMEDOUT, HTTP_MEANS_TRANSIENT, NULL},
	{"RequestTimeoutException", ETIMEDOUT, HTTP_MEANS_TRANSIENT, NULL},
	{"XAmzContentChecksumMismatch", EIO, HTTP_MEANS_TRANSIENT, "the bytes changed on their way"},
	{"XAmzContentSHA256Mismatch", EIO, HTTP_MEANS_TRANSIENT, "the bytes changed on their way"},
	{NULL},
};

void aws_judge(int status, const struct http_headers *headers, const char *body, size_t n,
	       struct http_verdict *ret)
{
	struct aws_error error = {0};
	if (aws_parse_error(body, n, &error))
		http_meaning_judge(aws_meanings, error.code, error.message, ret);
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
