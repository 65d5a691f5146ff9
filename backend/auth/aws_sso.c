/* SPDX-License-Identifier: MIT */
/*
 * Keys of a role of IAM Identity Center, for the token that `aws sso login` left in ~/.aws/sso/cache. The token of an
 * [sso-session] is renewed here as the SDKs do, and written back, since its refresh token may be good for one use only.
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-sso-credentials.html
 */
#include "auth/aws.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "auth/ask.h"
#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "http/url.h"
#include "log.h"
#include "str.h"

enum { CACHE_FILE_MAX = 64 << 10, SHA1_SIZE = 20, RENEW_MS = 15 * 60000 };

static const int64_t ns_per_s = 1000000000;

static int login_again(const struct aws_source *source, const char *what, struct fault *reterr)
{
	return fault_set(reterr, EACCES, "%s: %s: `aws sso login --profile %s`", source->from, what,
			 source->profile);
}

/* ~/.aws/sso/cache, and the name of the file in it. */
static int cache_place(const struct aws_context *context, const struct aws_source *source, char **ret_dir,
		       char ret_name[static 2 * SHA1_SIZE + sizeof(".json")])
{
	unsigned char hash[SHA1_SIZE];
	const char *key = source->sso_cache_key;
	if (EVP_Digest(key, strlen(key), hash, NULL, EVP_sha1(), NULL) != 1)
		return -ENOMEM;
	(void)str_hex(hash, sizeof(hash), ret_name);
	memcpy(ret_name + 2 * SHA1_SIZE, ".json", sizeof(".json"));
	return profile_expand_home(context->env, "~/.aws/sso/cache", ret_dir);
}

/* RFC 3339; old versions of the CLI end it with "UTC". */
static int get_time(const json_t *json, const char *name, int64_t *ret)
{
	char text[CLOCK_TEXT_MAX];
	const char *value = json_string_value(json_object_get(json, name));
	if (!value || strlen(value) >= sizeof(text))
		return -EINVAL;
	(void)snprintf(text, sizeof(text), "%s", value);
	if (str_has_suffix(text, "UTC"))
		memcpy(text + strlen(text) - 3, "Z", 2);
	return clock_parse(text, ret);
}

static int read_cache(const char *path, json_t **ret)
{
	cleanup_secret_free char *text = NULL;
	size_t n;
	int r = profile_read(path, CACHE_FILE_MAX, &text, &n, NULL);
	if (r < 0)
		return r;
	json_t *json = json_loadb(text, n, 0, NULL);
	if (!json_is_object(json)) {
		json_decref(json);
		return -EBADMSG;
	}
	*ret = json;
	return 0;
}

static int write_cache(const char *dir, const char *name, const json_t *json)
{
	cleanup_close int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	cleanup_secret_free char *text = json_dumps(json, JSON_INDENT(2));
	return text ? file_write_atomic(dirfd, name, text, strlen(text), 0600) : -ENOMEM;
}

/* Can the token be renewed without the person? */
static bool is_renewable(const struct aws_source *source, const json_t *cache, int64_t now_ns)
{
	int64_t registered_ns;
	return source->is_sso_session && json_is_string(json_object_get(cache, "refreshToken")) &&
	       json_is_string(json_object_get(cache, "clientId")) &&
	       json_is_string(json_object_get(cache, "clientSecret")) &&
	       get_time(cache, "registrationExpiresAt", &registered_ns) == 0 && registered_ns > now_ns;
}

/* https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html */
static int ask_token(const struct aws_context *context, const struct aws_source *source, const json_t *cache,
		     json_t **ret, struct fault *reterr)
{
	cleanup_secret_str struct str body = {0};
	cleanup_free char *base = NULL, *url = NULL;
	bool is_custom;
	int r = aws_endpoint(context->endpoints, context->env, context->files, context->profile, "sso_oidc",
			     source->sso_region, &base, &is_custom, reterr);
	if (r == 0)
		r = str_format(&url, "%s/token", base);
	if (r < 0)
		return r;
	cleanup_json json_t *question = json_pack("{s:s, s:O, s:O, s:O}", "grantType", "refresh_token",
						  "clientId", json_object_get(cache, "clientId"),
						  "clientSecret", json_object_get(cache, "clientSecret"),
						  "refreshToken", json_object_get(cache, "refreshToken"));
	cleanup_secret_free char *text = question ? json_dumps(question, JSON_COMPACT) : NULL;
	if (!text || str_append(&body, text) < 0)
		return -ENOMEM;
	const struct auth_ask ask = {.client = context->client,
				     .method = "POST",
				     .url = url,
				     .body = &body,
				     .type = "application/json",
				     .judge = auth_judge_oauth,
				     .is_once = true,
				     .cancel = context->cancel};
	return auth_ask_json(&ask, ret, NULL, reterr);
}

static int renew_token(const struct aws_context *context, const struct aws_source *source, const char *dir,
		       const char *name, json_t *cache, struct fault *reterr)
{
	cleanup_json json_t *answer = NULL;
	char expires[CLOCK_TEXT_MAX];
	int r = ask_token(context, source, cache, &answer, reterr);
	if (r < 0)
		return r;
	json_t *token = json_object_get(answer, "accessToken"),
	       *next = json_object_get(answer, "refreshToken");
	int64_t life_s = json_integer_value(json_object_get(answer, "expiresIn"));
	if (!json_is_string(token) || life_s <= 0 || life_s > INT32_MAX)
		return fault_set(reterr, EBADMSG, "single sign-on answered without a token");
	clock_format(context->now_ns / ns_per_s * ns_per_s + life_s * ns_per_s, expires);
	memcpy(expires + strlen("2026-01-01T00:00:00"), "Z", 2);
	if (json_object_set(cache, "accessToken", token) < 0 ||
	    json_object_set_new(cache, "expiresAt", json_string(expires)) < 0 ||
	    (json_is_string(next) && json_object_set(cache, "refreshToken", next) < 0))
		return -ENOMEM;
	r = write_cache(dir, name, cache);
	if (r < 0)
		log_warning("%s/%s cannot be written (%s), ignoring", dir, name, strerrordesc_np(-r));
	return 0;
}

/* A token that is good now. */
static int get_token(const struct aws_context *context, const struct aws_source *source,
		     struct secret_text *ret, struct fault *reterr)
{
	cleanup_free char *dir = NULL, *path = NULL;
	cleanup_json json_t *cache = NULL;
	char name[2 * SHA1_SIZE + sizeof(".json")];
	int64_t expires_ns;
	int r = cache_place(context, source, &dir, name);
	if (r == 0)
		r = str_format(&path, "%s/%s", dir, name);
	if (r == 0)
		r = read_cache(path, &cache);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || get_time(cache, "expiresAt", &expires_ns) < 0)
		return login_again(source, "nobody is logged in", reterr);
	int64_t left_ms = (expires_ns - context->now_ns) / 1000000;
	if (left_ms < RENEW_MS && is_renewable(source, cache, context->now_ns)) {
		struct fault fault = {0};
		r = renew_token(context, source, dir, name, cache, &fault);
		bool is_final = left_ms <= 0 && r < 0;
		if (r == -EINTR || r == -ENOMEM || (is_final && r != -EACCES && r != -EINVAL))
			return fault_set(reterr, -r, "%s", fault.text);
		if (is_final)
			return login_again(source, "the login has ended", reterr);
	} else if (left_ms <= 0) {
		return login_again(source, "the login has expired", reterr);
	}
	r = secret_take_json(ret, cache, "accessToken");
	return r == -ENOENT ? login_again(source, "nobody is logged in", reterr) : r;
}

static int read_keys(json_t *answer, struct auth_keys *ret)
{
	json_t *keys = json_object_get(answer, "roleCredentials");
	const char *id = json_string_value(json_object_get(keys, "accessKeyId"));
	int64_t expiration_ms = json_integer_value(json_object_get(keys, "expiration"));
	if (!id || expiration_ms <= 0 || expiration_ms > INT64_MAX / 1000000)
		return -EBADMSG;
	ret->expires_ns = expiration_ms * 1000000;
	ret->id = strdup(id);
	int r = ret->id ? secret_take_json(&ret->secret, keys, "secretAccessKey") : -ENOMEM;
	if (r == 0)
		r = secret_take_json(&ret->token, keys, "sessionToken");
	return r == -ENOENT ? -EBADMSG : r;
}

static int ask_keys(const struct aws_context *context, const struct aws_source *source,
		    const struct secret_text *token, json_t **ret, int *ret_status, struct fault *reterr)
{
	cleanup_free char *base = NULL;
	cleanup_str struct str url = {0};
	bool is_custom;
	int r = aws_endpoint(context->endpoints, context->env, context->files, context->profile, "sso",
			     source->sso_region, &base, &is_custom, reterr);
	if (r < 0)
		return r;
	str_printf(&url, "%s/federation/credentials", base);
	url_add_query(&url, "role_name", source->sso_role);
	r = url_add_query(&url, "account_id", source->sso_account);
	if (r < 0)
		return r;
	const struct auth_ask ask = {.client = context->client,
				     .method = "GET",
				     .url = url.data,
				     .header = {{"x-amz-sso_bearer_token", token->text}},
				     .cancel = context->cancel};
	return auth_ask_json(&ask, ret, ret_status, reterr);
}

int aws_sso_fetch(const struct aws_context *context, const struct aws_source *source, struct auth_keys *ret,
		  struct fault *reterr)
{
	cleanup_secret struct secret_text token = {0};
	cleanup_json json_t *answer = NULL;
	int status = 0;
	int r = get_token(context, source, &token, reterr);
	if (r == 0)
		r = ask_keys(context, source, &token, &answer, &status, reterr);
	if (status == 401)
		return login_again(source, "the login has been ended", reterr);
	if (status == 403)
		return fault_set(reterr, EPERM, "%s: role %s of account %s is not yours to use", source->from,
				 source->sso_role, source->sso_account);
	if (r == 0)
		r = read_keys(answer, ret);
	if (r == -EBADMSG)
		return fault_set(reterr, EBADMSG, "%s: the answer holds no keys", source->from);
	return r;
}
