/* SPDX-License-Identifier: MIT */
/*
 * Who a remote is at its cloud. A cloud makes one of these when it opens, puts `aws_authorize` or `google_authorize`
 * into each http_request, and sees no secret itself.
 *
 * Where credentials come from is found out anew at each renewal, in the order of the cloud's own tools, so that
 * `aws configure`, `aws sso login`, `gcloud auth application-default login` mend a running mount. They are renewed ahead
 * of their end, once however many threads ask (renewal.h). Every function may be called from any thread, and may block
 * on the network unless it says that it does not.
 *
 * Errors, besides those of http_perform: -EACCES: credentials are missing, expired or refused; the sentence says what
 * to do. -EINVAL: a setting is wrong; the sentence names it. -EINTR, -ENOMEM. No sentence and no log holds a secret.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "fault.h"
#include "http/http.h"

struct profile_env;

/* A finding for `trainfs check`: is it right, and a line; check_sink of backend.h fits. */
typedef void (*auth_sink)(void *arg, bool is_ok, const char *line);

/* ---- AWS ---- */

struct aws_credentials;

/* Copied, but for `client`. All but `client` may be NULL. */
struct aws_options {
	/* For STS, SSO, metadata; outlives the credentials. It trusts what AWS_CA_BUNDLE or the profile's ca_bundle names. */
	struct http_client *client;
	const char *profile; /* then keys and web identity in the environment do not count */
	const char *region;
	const char *endpoint; /* base URL of every service: tests, private endpoints */
	const json_t
		*endpoints; /* object: of single ones, by id or signing name ("s3", "sts", "logs"); win */
	bool is_anonymous;  /* public buckets: nothing is signed */
	const struct profile_env *env; /* for tests; NULL: this process's */
};

/* No network, no file. -EINVAL: an endpoint that is no http(s) URL. */
int aws_credentials_new(const struct aws_options *options, struct aws_credentials **ret,
			struct fault *reterr);
void aws_credentials_free(struct aws_credentials *credentials); /* takes NULL; no call is under way */

/*
 * The `authorize_arg` of aws_authorize. One a call of http_perform; zeroed but for what is meant; borrowed.
 * The request's own headers are signed with it. Its path and query are encoded by url_encode, no other way.
 */
struct aws_signing {
	struct aws_credentials *credentials;
	const char *service, *region; /* to sign for: "s3", "eu-west-1" */
	/*
	 * SHA-256 of the body in lower-case hex, or SIGV4_UNSIGNED_PAYLOAD. NULL: it is computed, before each attempt;
	 * but a body over 64 KiB that goes to S3 over TLS, or to this machine itself, is left unsigned: send a checksum
	 * header with it, which is signed.
	 */
	const char *payload;
	uint64_t generation; /* aws_authorize's: of the keys that were used last */
};
int aws_authorize(void *signing, const struct http_request *request, int64_t now_ns, bool is_refused,
		  struct http_headers *ret, struct fault *reterr);

/* Options, AWS_REGION, AWS_DEFAULT_REGION, the profile, the instance metadata. New text. -EINVAL: none is known. */
int aws_credentials_region(struct aws_credentials *credentials, char **ret, struct fault *reterr);

/*
 * The base URL of a service, without a '/' at its end: options, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's
 * [services], its endpoint_url; else AWS's own host for that region (`ret_is_custom` false). New text. No network.
 * `service`: the id in lower case, "s3", "sts", "sagemaker", "sagemaker_runtime", "cloudwatch_logs", "cloudwatch", "ecr",
 * "iam", "sso", "sso_oidc". -EINVAL: another one, or a URL that is none.
 */
int aws_credentials_endpoint(struct aws_credentials *credentials, const char *service, const char *region,
			     char **ret, bool *ret_is_custom, struct fault *reterr);

/*
 * Gets credentials if there are none yet. Says which, from where, until when, whose they are by STS, the region; or how
 * to mend it.
 */
void aws_credentials_describe(struct aws_credentials *credentials, int64_t now_ns, auth_sink sink, void *arg);

/* ---- Google ---- */

struct google_credentials;

#define GOOGLE_SCOPE_ALL     "https://www.googleapis.com/auth/cloud-platform"
#define GOOGLE_SCOPE_STORAGE "https://www.googleapis.com/auth/devstorage.read_write"

/* Copied, but for `client`. All but `client` may be NULL. */
struct google_options {
	struct http_client *client; /* for tokens; outlives the credentials */
	const char *file; /* of credentials; wins over $GOOGLE_APPLICATION_CREDENTIALS. "~/" is the home */
	const char *project;
	const char *endpoint; /* base URL of every service but those of tokens */
	const json_t
		*endpoints; /* object: "storage" ..., for tokens "oauth2", "sts", "iamcredentials"; win */
	bool is_anonymous;  /* public buckets, emulators: nothing is added */
	const struct profile_env *env; /* for tests; NULL: this process's */
};

/* No network, no file. -EINVAL: an endpoint that is no http(s) URL. */
int google_credentials_new(const struct google_options *options, struct google_credentials **ret,
			   struct fault *reterr);
void google_credentials_free(struct google_credentials *credentials); /* takes NULL; no call is under way */

/* The `authorize_arg` of google_authorize. One a call of http_perform; zeroed but for what is meant; borrowed. */
struct google_bearer {
	struct google_credentials *credentials;
	const char *scopes;  /* joined by blanks; at most 8 different texts for one google_credentials */
	uint64_t generation; /* google_authorize's: of the token that was used last */
};
/* Adds Authorization, and x-goog-user-project when the file names a project to bill. */
int google_authorize(void *bearer, const struct http_request *request, int64_t now_ns, bool is_refused,
		     struct http_headers *ret, struct fault *reterr);

/*
 * Options, GOOGLE_CLOUD_PROJECT, GCLOUD_PROJECT, the credentials file, gcloud's active configuration, the metadata
 * server. New text. -EINVAL: none is known.
 */
int google_credentials_project(struct google_credentials *credentials, char **ret, struct fault *reterr);

/*
 * The base URL of a service, without a '/' at its end: options; for "storage" STORAGE_EMULATOR_HOST; else
 * https://SERVICE.googleapis.com. New text. -EINVAL: a URL that is none. No network.
 */
int google_credentials_endpoint(struct google_credentials *credentials, const char *service, char **ret,
				bool *ret_is_custom, struct fault *reterr);

/* As aws_credentials_describe; with the project. */
void google_credentials_describe(struct google_credentials *credentials, const char *scopes, int64_t now_ns,
				 auth_sink sink, void *arg);
