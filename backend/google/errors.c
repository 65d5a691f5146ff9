/* SPDX-License-Identifier: MIT */
/* One table of reasons: https://cloud.google.com/storage/docs/json_api/v1/status-codes. The rest goes by the status. */
#include "google/errors.h"

#include <errno.h>
#include <string.h>

#define LOGIN "gcloud auth application-default login, or a new key for the file that `trainfs check` names"
#define GRANT                                                                              \
	"ask for a role there: gcloud storage buckets add-iam-policy-binding gs://BUCKET " \
	"--member=user:EMAIL --role=roles/storage.objectUser"
#define ENABLE "gcloud services enable storage.googleapis.com"

static const struct http_meaning meanings[] = {
	/* who asks */
	{"authError", EACCES, HTTP_MEANS_CREDENTIALS, LOGIN},
	{"ACCESS_TOKEN_EXPIRED", EACCES, HTTP_MEANS_CREDENTIALS, LOGIN},
	{"UNAUTHENTICATED", EACCES, HTTP_MEANS_CREDENTIALS, LOGIN},
	{"accountDisabled", EPERM, 0, "the project's billing is off: gcloud billing projects link"},
	{"ACCESS_TOKEN_SCOPE_INSUFFICIENT", EPERM, 0,
	 "the credentials are for less than Cloud Storage: gcloud auth application-default login, or a "
	 "service account with the scope cloud-platform"},
	{"forbidden", EPERM, 0, GRANT},
	{"PERMISSION_DENIED", EPERM, 0, GRANT},
	{"insufficientPermissions", EPERM, 0, GRANT},
	{"accessNotConfigured", EPERM, 0, ENABLE},
	{"SERVICE_DISABLED", EPERM, 0, ENABLE},
	{"userProjectMissing", EPERM, 0,
	 "the bucket's readers pay: set GOOGLE_CLOUD_QUOTA_PROJECT to the project that does"},
	{"retentionPolicyNotMet", EPERM, 0, NULL},
	{"objectUnderActiveHold", EPERM, 0, NULL},

	/* what is named */
	{"notFound", ENOENT, 0, NULL},
	{"gone", ENOENT, 0, NULL},
	{"conflict", EEXIST, 0, NULL},
	{"conditionNotMet", ESTALE, 0, NULL},

	/* how much */
	{"uploadTooLarge", EFBIG, 0, NULL},
	{"quotaExceeded", EDQUOT, 0, NULL},

	/* what cannot be done here */
	{"methodNotAllowed", EOPNOTSUPP, 0, NULL},
	{"notImplemented", EOPNOTSUPP, 0, NULL},
	{"UNIMPLEMENTED", EOPNOTSUPP, 0, NULL},

	/* too fast */
	{"rateLimitExceeded", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"userRateLimitExceeded", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"RATE_LIMIT_EXCEEDED", EAGAIN, HTTP_MEANS_THROTTLED, NULL},
	{"RESOURCE_EXHAUSTED", EAGAIN, HTTP_MEANS_THROTTLED, NULL},

	/* again */
	{"backendError", EIO, HTTP_MEANS_TRANSIENT, NULL},
	{"internalError", EIO, HTTP_MEANS_TRANSIENT, NULL},
	{"INTERNAL", EIO, HTTP_MEANS_TRANSIENT, NULL},
	{NULL},
};

/* "Provided CRC32C ... doesn't match calculated CRC32C ...": its reason is the same as of nonsense. */
static bool is_other_sum(int status, const struct google_error *error)
{
	return status == 400 && strcasestr(error->message, "crc32c") && strstr(error->message, "match");
}

void google_judge(int status, const struct http_headers *headers, const char *body, size_t n,
		  struct http_verdict *ret)
{
	struct google_error error;
	if (!google_parse_error(body, n, &error))
		return;
	http_meaning_judge(meanings, error.reason, error.message, ret);
	if (is_other_sum(status, &error)) {
		ret->err = EIO;
		ret->is_transient = true;
	}
}
