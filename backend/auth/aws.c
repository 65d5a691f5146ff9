/* SPDX-License-Identifier: MIT */
/* One remote's AWS credentials: settled anew from files and environment at each renewal, used to sign requests. */
#include "auth/aws.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "auth/ask.h"
#include "auth/describe.h"
#include "auth/sigv4.h"
#include "cleanup.h"
#include "clock.h"
#include "str.h"

enum { ADVISORY_MS = 15 * 60000, MANDATORY_MS = 10 * 60000, HASHED_MAX = 64 << 10 };

struct aws_credentials {
	/* immutable after init */
	struct http_client *client;
	char *profile, *region; /* of the options; NULL */
	bool is_anonymous;
	struct auth_endpoints endpoints;
	struct profile_env env;
	struct renewal *renewal;
	struct sigv4_cache *cache;

	pthread_mutex_t lock;
	/* protected by lock */
	char *instance_region; /* once found */
};

static void cleanup_files(struct profile_files *files)
{
	profile_files_release(files);
}
#define cleanup_files __attribute__((cleanup(cleanup_files)))

/* ---- the files ---- */

/* As they are now; and whom they, or the environment, tell to trust is trusted from now on. */
static int read_files(struct aws_credentials *credentials, struct profile_files *ret, struct fault *reterr)
{
	const struct profile_env *env = &credentials->env;
	cleanup_free char *path = NULL;
	int r = profile_files_read(env, ret, reterr);
	if (r < 0)
		return r;
	const char *bundle =
		profile_env_get(env, "AWS_CA_BUNDLE")
			?: profile_get(ret, aws_profile_name(env, credentials->profile), "ca_bundle");
	if (bundle)
		r = profile_expand_home(env, bundle, &path);
	if (r == -ENOENT)
		return fault_set(reterr, EINVAL, "%s, the CA bundle: no home directory is known", bundle);
	return r ?: http_client_set_ca(credentials->client, path);
}

/* ---- getting keys ---- */

int aws_fetch(const struct aws_context *context, const struct aws_source *source, struct auth_keys *ret,
	      struct fault *reterr)
{
	switch (source->kind) {
	case AWS_STATIC:
		break;
	case AWS_ROLE:
	case AWS_WEB:
		return aws_sts_fetch(context, source, ret, reterr);
	case AWS_SSO:
		return aws_sso_fetch(context, source, ret, reterr);
	case AWS_PROCESS:
		return aws_process_fetch(context, source, ret, reterr);
	case AWS_CONTAINER:
		return aws_container_fetch(context, source, ret, reterr);
	case AWS_INSTANCE:
		return aws_instance_fetch(context, source, ret, reterr);
	}
	const struct auth_keys *keys = &source->keys;
	ret->expires_ns = keys->expires_ns;
	ret->id = strdup(keys->id);
	int r = ret->id ? secret_set(&ret->secret, keys->secret.text, keys->secret.n) : -ENOMEM;
	if (r == 0 && keys->token.text)
		r = secret_set(&ret->token, keys->token.text, keys->token.n);
	return r;
}

static void fill_context(const struct aws_credentials *credentials, const struct profile_files *files,
			 int64_t now_ns, struct http_cancel *cancel, struct aws_context *ret)
{
	*ret = (struct aws_context){.client = credentials->client,
				    .env = &credentials->env,
				    .files = files,
				    .endpoints = &credentials->endpoints,
				    .profile = aws_profile_name(&credentials->env, credentials->profile),
				    .region = credentials->region,
				    .now_ns = now_ns,
				    .cancel = cancel};
}

static int check_fresh(const struct aws_source *source, const struct auth_keys *keys, int64_t now_ns,
		       struct fault *reterr)
{
	if (!keys->expires_ns || now_ns < keys->expires_ns)
		return 0;
	return fault_set(reterr, EACCES, "the AWS credentials have expired (%s): renew them there",
			 source->from);
}

static int credentials_ask(void *arg, int64_t now_ns, struct http_cancel *cancel, struct auth_keys *ret,
			   struct fault *reterr)
{
	struct aws_credentials *credentials = arg;
	cleanup_files struct profile_files files = {0};
	cleanup_auth_keys struct auth_keys keys = {0};
	struct aws_source *source = NULL;
	struct aws_context context;
	int r = read_files(credentials, &files, reterr);
	if (r < 0)
		return r;
	fill_context(credentials, &files, now_ns, cancel, &context);
	r = aws_chain(&credentials->env, &files, credentials->profile, &source, reterr);
	if (r == 0)
		r = aws_fetch(&context, source, &keys, reterr);
	if (r == 0)
		r = check_fresh(source, &keys, now_ns, reterr);
	if (r == 0) {
		keys.from = STEAL(source->from);
		*ret = keys;
		keys = (struct auth_keys){0};
	}
	aws_source_free(source);
	return r;
}

/* ---- life ---- */

static int credentials_init(struct aws_credentials *credentials, const struct aws_options *options,
			    struct fault *reterr)
{
	credentials->client = options->client;
	credentials->is_anonymous = options->is_anonymous;
	int r = str_dup(options->profile, &credentials->profile);
	if (r == 0)
		r = str_dup(options->region, &credentials->region);
	if (r == 0)
		r = auth_endpoints_init(options->endpoint, options->endpoints, &credentials->endpoints,
					reterr);
	if (r == 0)
		r = options->env ? profile_env_copy(options->env, &credentials->env)
				 : profile_env_read(&credentials->env);
	if (r == 0)
		r = sigv4_cache_new(&credentials->cache);
	return r
		       ?: renewal_new(credentials_ask, credentials, ADVISORY_MS, MANDATORY_MS,
				      &credentials->renewal);
}

int aws_credentials_new(const struct aws_options *options, struct aws_credentials **ret, struct fault *reterr)
{
	struct aws_credentials *credentials = calloc(1, sizeof(*credentials));
	if (!credentials)
		return -ENOMEM;
	if (pthread_mutex_init(&credentials->lock, NULL) != 0) {
		free(credentials);
		return -ENOMEM;
	}
	int r = credentials_init(credentials, options, reterr);
	if (r < 0)
		aws_credentials_free(credentials);
	else
		*ret = credentials;
	return r;
}

void aws_credentials_free(struct aws_credentials *credentials)
{
	if (!credentials)
		return;
	renewal_free(credentials->renewal);
	sigv4_cache_free(credentials->cache);
	auth_endpoints_release(&credentials->endpoints);
	profile_env_release(&credentials->env);
	free(credentials->profile);
	free(credentials->region);
	free(credentials->instance_region);
	pthread_mutex_destroy(&credentials->lock);
	free(credentials);
}

/* ---- signing ---- */

static int hash_body(const struct aws_signing *signing, const struct http_request *request,
		     char ret[static SIGV4_HEX_MAX])
{
	size_t n = request->body_n > 0 ? (size_t)request->body_n : 0;
	bool is_safe = str_has_prefix(request->url, "https://") || auth_is_near_url(request->url);
	if (n > HASHED_MAX && sigv4_is_s3(signing->service) && is_safe) {
		memcpy(ret, SIGV4_UNSIGNED_PAYLOAD, sizeof(SIGV4_UNSIGNED_PAYLOAD));
		return 0;
	}
	if (n > 0 && !request->body)
		return sigv4_hash_fd(request->body_fd, request->body_at, request->body_n, ret);
	sigv4_hash(request->body ?: "", request->body ? n : 0, ret);
	return 0;
}

int aws_authorize(void *arg, const struct http_request *request, int64_t now_ns, bool is_refused,
		  struct http_headers *ret, struct fault *reterr)
{
	struct aws_signing *signing = arg;
	struct aws_credentials *credentials = signing->credentials;
	cleanup_auth_keys struct auth_keys keys = {0};
	char hash[SIGV4_HEX_MAX];
	if (credentials->is_anonymous)
		return is_refused ? fault_set(reterr, EACCES, "anonymous access is refused") : 0;
	int r = renewal_get(credentials->renewal, now_ns, is_refused ? signing->generation : 0,
			    request->cancel, &keys, &signing->generation, reterr);
	if (r == 0 && !signing->payload)
		r = hash_body(signing, request, hash);
	if (r < 0)
		return r;
	const struct sigv4_request sign = {
		.method = request->method,
		.url = request->url,
		.headers = request->headers,
		.payload = signing->payload ?: hash,
		.service = signing->service,
		.region = signing->region,
		.key_id = keys.id,
		.secret = keys.secret.text,
		.token = keys.token.text,
		.generation = signing->generation,
	};
	r = sigv4_sign(credentials->cache, &sign, now_ns, ret);
	return r == -EINVAL || r == -EFBIG
		       ? fault_set(reterr, -r,
				   "the request cannot be signed: a key, token or header is malformed")
		       : r;
}

/* ---- region, endpoint ---- */

/* Asks the instance metadata once. */
static int find_instance_region(struct aws_credentials *credentials, const struct profile_files *files,
				char **ret)
{
	struct aws_context context;
	{
		LOCK_SCOPE(&credentials->lock);
		if (credentials->instance_region)
			return str_dup(credentials->instance_region, ret);
	}
	cleanup_free char *region = NULL;
	fill_context(credentials, files, 0, NULL, &context);
	int r = aws_instance_region(&context, &region, NULL);
	if (r == 0)
		r = str_dup(region, ret);
	LOCK_SCOPE(&credentials->lock);
	if (r == 0 && !credentials->instance_region)
		credentials->instance_region = STEAL(region);
	return r;
}

static int find_region(struct aws_credentials *credentials, char **ret, const char **ret_from,
		       struct fault *reterr)
{
	cleanup_files struct profile_files files = {0};
	*ret_from = "the remote's options";
	if (credentials->region)
		return str_dup(credentials->region, ret);
	int r = read_files(credentials, &files, reterr);
	if (r < 0)
		return r;
	const char *region = aws_region(&credentials->env, &files, credentials->profile, ret_from);
	if (region)
		return str_dup(region, ret);
	*ret_from = "the instance metadata";
	if (!profile_env_is_true(&credentials->env, "AWS_EC2_METADATA_DISABLED") &&
	    find_instance_region(credentials, &files, ret) == 0)
		return 0;
	return fault_set(
		reterr, EINVAL,
		"no AWS region is set: give the remote `region: NAME`, set AWS_REGION, or `aws configure`");
}

int aws_credentials_region(struct aws_credentials *credentials, char **ret, struct fault *reterr)
{
	const char *from;
	return find_region(credentials, ret, &from, reterr);
}

int aws_credentials_endpoint(struct aws_credentials *credentials, const char *service, const char *region,
			     char **ret, bool *ret_is_custom, struct fault *reterr)
{
	cleanup_files struct profile_files files = {0};
	int r = read_files(credentials, &files, reterr);
	return r
		       ?: aws_endpoint(&credentials->endpoints, &credentials->env, &files,
				       credentials->profile, service, region, ret, ret_is_custom, reterr);
}

/* ---- for `trainfs check` ---- */

/* Only a refusal is a finding: many services of S3's kind have no STS, and some networks no way to it. */
static void describe_identity(struct aws_credentials *credentials, const struct auth_keys *keys,
			      int64_t now_ns, auth_sink sink, void *arg)
{
	cleanup_files struct profile_files files = {0};
	cleanup_free char *arn = NULL;
	struct aws_context context;
	struct fault fault = {0};
	if (read_files(credentials, &files, NULL) < 0)
		return;
	fill_context(credentials, &files, now_ns, NULL, &context);
	int r = aws_sts_identity(&context, keys, &arn, &fault);
	if (r == 0)
		describe_line(sink, arg, true, "identity: %s", arn);
	else if (r == -EACCES)
		describe_line(sink, arg, false, "credentials: refused by STS, correct or renew them (%s): %s",
			      keys->from, fault.text);
}

static void describe_keys(struct aws_credentials *credentials, int64_t now_ns, auth_sink sink, void *arg)
{
	cleanup_auth_keys struct auth_keys keys = {0};
	struct fault fault = {0};
	uint64_t generation;
	char id[DESCRIBE_ID_MAX], until[DESCRIBE_UNTIL_MAX];
	int r = renewal_get(credentials->renewal, now_ns, 0, NULL, &keys, &generation, &fault);
	if (r < 0) {
		describe_failure(r, &fault, sink, arg);
		return;
	}
	describe_line(sink, arg, true, "credentials: %s, key %s, %s", keys.from, describe_id(keys.id, id),
		      describe_until(keys.expires_ns, now_ns, until));
	describe_identity(credentials, &keys, now_ns, sink, arg);
}

void aws_credentials_describe(struct aws_credentials *credentials, int64_t now_ns, auth_sink sink, void *arg)
{
	cleanup_free char *region = NULL;
	const char *from = NULL;
	struct fault fault = {0};
	if (credentials->is_anonymous)
		describe_line(sink, arg, true, "credentials: none, access is anonymous");
	else
		describe_keys(credentials, now_ns, sink, arg);
	int r = find_region(credentials, &region, &from, &fault);
	if (r < 0)
		describe_failure(r, &fault, sink, arg);
	else
		describe_line(sink, arg, true, "region: %s, by %s", region, from);
}
