/* SPDX-License-Identifier: MIT */
/*
 * Keys that the platform hands out on a local address: containers (ECS, EKS, SageMaker) and EC2 instances.
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
 */
#include "auth/aws.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "auth/ask.h"
#include "cleanup.h"
#include "http/url.h"
#include "str.h"

enum { CONTAINER_MS = 6000, INSTANCE_MS = 1000, TOKEN_FILE_MAX = 64 << 10, ROLE_NAME_MAX = 256 };

/* ---- containers ---- */

static int container_url(const struct profile_env *env, char **ret, struct fault *reterr)
{
	const char *relative = profile_env_get(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = profile_env_get(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	if (relative)
		return str_format(ret, "http://169.254.170.2%s%s", *relative == '/' ? "" : "/", relative);
	struct url url;
	if (!full || url_parse(full, &url) < 0 ||
	    (!auth_is_near_url(full) && !str_has_prefix(full, "https://")))
		return fault_set(
			reterr, EINVAL,
			"AWS_CONTAINER_CREDENTIALS_FULL_URI: https, or http to this host or the container "
			"agent's address, is wanted");
	return str_dup(full, ret);
}

/* What goes into Authorization; NULL: nothing. The file is read each time, for its token changes. */
static int container_token(const struct profile_env *env, char **ret, struct fault *reterr)
{
	const char *path = profile_env_get(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *text = profile_env_get(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
	if (!path)
		return str_dup(text, ret);
	int r = profile_read(path, TOKEN_FILE_MAX, ret, NULL, reterr);
	if (r == 0)
		(*ret)[strcspn(*ret, "\r\n")] = '\0';
	return r == -ENOENT ? fault_set(reterr, EACCES,
					"%s (AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE) is not there", path)
			    : r;
}

int aws_container_fetch(const struct aws_context *context, const struct aws_source *source,
			struct auth_keys *ret, struct fault *reterr)
{
	cleanup_free char *url = NULL;
	cleanup_secret_free char *token = NULL;
	cleanup_json json_t *answer = NULL;
	int status = 0;
	int r = container_url(context->env, &url, reterr);
	if (r == 0)
		r = container_token(context->env, &token, reterr);
	if (r < 0)
		return r;
	const struct auth_ask ask = {.client = context->client,
				     .method = "GET",
				     .url = url,
				     .header = {{token ? "Authorization" : NULL, token}},
				     .total_ms = CONTAINER_MS,
				     .is_direct = true,
				     .cancel = context->cancel};
	r = auth_ask_json(&ask, &answer, &status, NULL);
	if (r == 0)
		r = aws_keys_from_json(answer, "Token", ret);
	if (r == 0 || r == -EINTR || r == -ENOMEM)
		return r;
	/* not http's sentence: who knows the path may ask for the keys */
	if (r == -EBADMSG)
		return fault_set(reterr, EBADMSG, "%s cannot be had: the answer holds no keys", source->from);
	if (status)
		return fault_set(reterr, -r, "%s cannot be had: answered %d", source->from, status);
	return fault_set(reterr, -r, "%s cannot be had: %s", source->from,
			 r == -EINVAL ? "its token cannot be a header" : strerrordesc_np(-r) ?: "no answer");
}

/* ---- instances ---- */

/* Of one conversation with the metadata. */
struct instance {
	const struct aws_context *context;
	const char *base;
	struct secret_text token; /* none: version 1 */
};

static const char *instance_base(const struct profile_env *env)
{
	const char *base = profile_env_get(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *mode = profile_env_get(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
	if (base)
		return base;
	return mode && !strcasecmp(mode, "ipv6") ? "http://[fd00:ec2::254]" : "http://169.254.169.254";
}

static int instance_ask(struct instance *instance, const char *method, const char *path, const char *name,
			const char *value, struct http_reply *ret, struct fault *reterr)
{
	cleanup_free char *base = NULL, *url = NULL;
	int r = auth_base_url(instance->base, &base) ?: str_format(&url, "%s%s", base, path);
	if (r < 0)
		return r;
	const struct auth_ask ask = {.client = instance->context->client,
				     .method = method,
				     .url = url,
				     .header = {{name, value}},
				     .total_ms = INSTANCE_MS,
				     .is_once = true,
				     .is_direct = true,
				     .cancel = instance->context->cancel};
	return auth_ask(&ask, ret, reterr);
}

/* Version 2 wants a token, which old instances and some proxies do not have. */
static int instance_begin(struct instance *instance, struct fault *reterr)
{
	cleanup_answer struct http_reply reply = {0};
	int r = instance_ask(instance, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds",
			     "21600", &reply, reterr);
	if (r == 0 && reply.body.len > 0)
		return secret_set(&instance->token, reply.body.data, reply.body.len);
	bool is_old = reply.status == 403 || reply.status == 404 || reply.status == 405;
	if (is_old && !profile_env_is_true(instance->context->env, "AWS_EC2_METADATA_V1_DISABLED"))
		return 0;
	return r ?: -EBADMSG;
}

static int instance_get(struct instance *instance, const char *path, struct http_reply *ret,
			struct fault *reterr)
{
	return instance_ask(instance, "GET", path, instance->token.text ? "X-aws-ec2-metadata-token" : NULL,
			    instance->token.text, ret, reterr);
}

/* The role's name, ready to stand in a path. */
static int instance_role(struct instance *instance, struct str *ret, struct fault *reterr)
{
	cleanup_answer struct http_reply reply = {0};
	int r = instance_get(instance, "/latest/meta-data/iam/security-credentials/", &reply, reterr);
	if (reply.status == 404)
		return fault_set(reterr, EACCES, "this instance has no role");
	if (r < 0)
		return r;
	size_t n = reply.body.data ? strcspn(reply.body.data, "\r\n") : 0;
	if (n == 0 || n > ROLE_NAME_MAX)
		return fault_set(reterr, EACCES, "this instance has no role");
	reply.body.data[n] = '\0';
	return url_encode(ret, reply.body.data, false);
}

static int instance_keys(struct instance *instance, struct auth_keys *ret, struct fault *reterr)
{
	cleanup_str struct str role = {0};
	cleanup_free char *path = NULL;
	cleanup_answer struct http_reply reply = {0};
	int r = instance_role(instance, &role, reterr);
	if (r == 0)
		r = str_format(&path, "/latest/meta-data/iam/security-credentials/%s", role.data);
	if (r == 0)
		r = instance_get(instance, path, &reply, reterr);
	if (r < 0)
		return r;
	cleanup_json json_t *json = json_loadb(reply.body.data ?: "", reply.body.len, 0, NULL);
	const char *code = json_string_value(json_object_get(json, "Code"));
	if (code && strcmp(code, "Success") != 0)
		return fault_set(reterr, EACCES, "the metadata have no keys for role %s: %.100s", role.data,
				 code);
	r = aws_keys_from_json(json, "Token", ret);
	return r == -EBADMSG ? fault_set(reterr, EBADMSG, "the metadata answered without keys") : r;
}

int aws_instance_fetch(const struct aws_context *context, const struct aws_source *source,
		       struct auth_keys *ret, struct fault *reterr)
{
	struct instance instance = {.context = context, .base = instance_base(context->env)};
	struct fault fault = {0};
	int r = instance_begin(&instance, &fault);
	if (r == 0)
		r = instance_keys(&instance, ret, &fault);
	secret_release(&instance.token);
	if (r == 0 || r == -EINTR || r == -ENOMEM)
		return r;
	return fault_set(
		reterr, EACCES,
		"no AWS credentials: none in the environment or profile %s, and %s cannot be had (%s): `aws "
		"configure`, `aws sso login`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
		context->profile, source->from, fault.err ? fault.text : "no answer");
}

int aws_instance_region(const struct aws_context *context, char **ret, struct fault *reterr)
{
	struct instance instance = {.context = context, .base = instance_base(context->env)};
	cleanup_answer struct http_reply reply = {0};
	int r = instance_begin(&instance, reterr);
	if (r == 0)
		r = instance_get(&instance, "/latest/meta-data/placement/region", &reply, reterr);
	secret_release(&instance.token);
	if (r < 0)
		return r;
	size_t n = reply.body.data ? strspn(reply.body.data, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;
	if (n == 0 || n != reply.body.len)
		return fault_set(reterr, EBADMSG, "the instance metadata answered without a region");
	*ret = strdup(reply.body.data);
	return *ret ? 0 : -ENOMEM;
}
