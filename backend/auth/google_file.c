/* SPDX-License-Identifier: MIT */
/* Credentials files of Google: which one, and what is in it. */
#include "auth/google.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth/ask.h"
#include "cleanup.h"
#include "http/url.h"
#include "str.h"

#define TOKEN_URL "https://oauth2.googleapis.com/token"
#define LOGIN     "`gcloud auth application-default login`"

void google_source_free(struct google_source *source)
{
	if (!source)
		return;
	google_source_free(source->source);
	secret_release(&source->private_key);
	secret_release(&source->client_secret);
	secret_release(&source->refresh_token);
	for (size_t i = 0; i < GOOGLE_HEADERS_MAX; i++) {
		free(source->subject_header[i][0]);
		secret_free(source->subject_header[i][1]);
	}
	char *const owned[] = {
		source->from,          source->project,          source->quota_project, source->token_url,
		source->email,         source->key_id,           source->client_id,     source->audience,
		source->subject_type,  source->user_project,     source->subject_file,  source->subject_url,
		source->subject_field, source->impersonation_url};
	for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); i++)
		free(owned[i]);
	json_decref(source->delegates);
	free(source);
}

/* ---- fields ---- */

struct parse {
	const char *from;
	bool is_inner; /* the source of an impersonated account */
	struct fault *fault;
};

static int missing(const struct parse *parse, const char *name)
{
	return fault_set(parse->fault, EINVAL, "%s: \"%s\" is missing", parse->from, name);
}

/* *ret stays NULL when there is none. */
static int take_optional(const json_t *json, const char *name, char **ret)
{
	const char *text = json_string_value(json_object_get(json, name));
	if (!text || !*text)
		return 0;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int take_text(const struct parse *parse, const json_t *json, const char *name, char **ret)
{
	int r = take_optional(json, name, ret);
	return r == 0 && !*ret ? missing(parse, name) : r;
}

static int take_secret(const struct parse *parse, json_t *json, const char *name, struct secret_text *ret)
{
	int r = secret_take_json(ret, json, name);
	return r == -ENOENT ? missing(parse, name) : r;
}

/* Secrets go there: TLS, or this host. */
static int take_url(const struct parse *parse, const json_t *json, const char *name, const char *usual,
		    char **ret)
{
	struct url url;
	int r = take_optional(json, name, ret);
	if (r == 0 && !*ret && usual)
		r = str_dup(usual, ret);
	if (r < 0 || !*ret)
		return r;
	if (url_parse(*ret, &url) == 0 && (str_has_prefix(*ret, "https://") || auth_is_near_url(*ret)))
		return 0;
	return fault_set(parse->fault, EINVAL, "%s: \"%s\": an https URL is wanted", parse->from, name);
}

/* ---- kinds ---- */

static int parse_service_account(const struct parse *parse, json_t *json, struct google_source *ret)
{
	ret->kind = GOOGLE_SERVICE_ACCOUNT;
	int r = take_text(parse, json, "client_email", &ret->email);
	if (r == 0)
		r = take_secret(parse, json, "private_key", &ret->private_key);
	if (r == 0)
		r = take_optional(json, "private_key_id", &ret->key_id);
	if (r == 0)
		r = take_url(parse, json, "token_uri", TOKEN_URL, &ret->token_url);
	return r ?: str_format(&ret->from, "service account %s of %s", ret->email, parse->from);
}

/* Its token_uri does not count: the libraries always ask Google. */
static int parse_user(const struct parse *parse, json_t *json, struct google_source *ret)
{
	ret->kind = GOOGLE_USER;
	int r = take_text(parse, json, "client_id", &ret->client_id);
	if (r == 0)
		r = take_secret(parse, json, "client_secret", &ret->client_secret);
	if (r == 0)
		r = take_secret(parse, json, "refresh_token", &ret->refresh_token);
	if (r == 0)
		r = str_dup(TOKEN_URL, &ret->token_url);
	return r ?: str_format(&ret->from, "the user's login in %s", parse->from);
}

static int parse_headers(const struct parse *parse, const json_t *headers, struct google_source *ret)
{
	size_t n = 0;
	const char *name;
	json_t *value;
	if (json_object_size(headers) > GOOGLE_HEADERS_MAX)
		return fault_set(parse->fault, EINVAL, "%s: more than %d \"headers\"", parse->from,
				 GOOGLE_HEADERS_MAX);
	json_object_foreach ((json_t *)headers, name, value) {
		if (!json_is_string(value))
			continue;
		ret->subject_header[n][0] = strdup(name);
		ret->subject_header[n][1] = strdup(json_string_value(value));
		if (!ret->subject_header[n][0] || !ret->subject_header[n][1])
			return -ENOMEM;
		n++;
	}
	return 0;
}

static int check_subject_url(const struct parse *parse, const char *text)
{
	struct url url;
	bool is_safe = !text || (url_parse(text, &url) == 0 &&
				 (str_has_prefix(text, "https://") || auth_is_near_url(text) ||
				  str_has_prefix(text, "http://169.254.169.254/")));
	return is_safe ? 0
		       : fault_set(parse->fault, EINVAL,
				   "%s: \"credential_source\".\"url\": an https URL is wanted", parse->from);
}

static int parse_subject(const struct parse *parse, const json_t *json, struct google_source *ret)
{
	const json_t *where = json_object_get(json, "credential_source");
	const json_t *format = json_object_get(where, "format");
	const char *type = json_string_value(json_object_get(format, "type"));
	int r = take_optional(where, "file", &ret->subject_file);
	if (r == 0)
		r = take_optional(where, "url", &ret->subject_url);
	if (r == 0 && !ret->subject_file && !ret->subject_url)
		return fault_set(parse->fault, EINVAL,
				 "%s: \"credential_source\": only \"file\" and \"url\" are supported",
				 parse->from);
	if (r == 0)
		r = check_subject_url(parse, ret->subject_url);
	if (r == 0)
		r = parse_headers(parse, json_object_get(where, "headers"), ret);
	if (r == 0 && type && !strcmp(type, "json"))
		r = take_text(parse, format, "subject_token_field_name", &ret->subject_field);
	return r;
}

static int parse_external(const struct parse *parse, json_t *json, struct google_source *ret)
{
	ret->kind = GOOGLE_EXTERNAL;
	if (json_object_get(json, "client_id"))
		return fault_set(parse->fault, EINVAL, "%s: \"client_id\" is not supported for this type",
				 parse->from);
	int r = take_text(parse, json, "audience", &ret->audience);
	if (r == 0)
		r = take_text(parse, json, "subject_token_type", &ret->subject_type);
	if (r == 0)
		r = take_url(parse, json, "token_url", "https://sts.googleapis.com/v1/token",
			     &ret->token_url);
	if (r == 0)
		r = take_url(parse, json, "service_account_impersonation_url", NULL, &ret->impersonation_url);
	if (r == 0)
		r = take_optional(json, "workforce_pool_user_project", &ret->user_project);
	if (r == 0)
		r = parse_subject(parse, json, ret);
	return r ?: str_format(&ret->from, "workload identity of %s", parse->from);
}

static int parse_source(const struct parse *parse, json_t *json, struct google_source *ret);

static int parse_impersonated(const struct parse *parse, json_t *json, struct google_source *ret)
{
	const struct parse inner = {.from = parse->from, .is_inner = true, .fault = parse->fault};
	json_t *source = json_object_get(json, "source_credentials");
	json_t *delegates = json_object_get(json, "delegates");
	ret->kind = GOOGLE_IMPERSONATED;
	if (parse->is_inner || !json_is_object(source))
		return missing(parse, "source_credentials");
	int r = take_url(parse, json, "service_account_impersonation_url", NULL, &ret->impersonation_url);
	if (r == 0 && !ret->impersonation_url)
		return missing(parse, "service_account_impersonation_url");
	ret->source = r == 0 ? calloc(1, sizeof(*ret->source)) : NULL;
	if (!ret->source)
		return r ?: -ENOMEM;
	r = parse_source(&inner, source, ret->source);
	if (json_array_size(delegates) > 0)
		ret->delegates = json_incref(delegates);
	return r ?: str_format(&ret->from, "impersonation by %s", ret->source->from);
}

static int parse_source(const struct parse *parse, json_t *json, struct google_source *ret)
{
	static const struct {
		const char *type;
		int (*parse)(const struct parse *parse, json_t *json, struct google_source *ret);
	} kind[] = {{"service_account", parse_service_account},
		    {"authorized_user", parse_user},
		    {"external_account", parse_external},
		    {"impersonated_service_account", parse_impersonated}};
	const char *type = json_string_value(json_object_get(json, "type"));
	int r = take_optional(json, "project_id", &ret->project);
	if (r == 0)
		r = take_optional(json, "quota_project_id", &ret->quota_project);
	if (r < 0)
		return r;
	for (size_t i = 0; type && i < sizeof(kind) / sizeof(kind[0]); i++) {
		if (!strcmp(type, kind[i].type))
			return kind[i].parse(parse, json, ret);
	}
	if (!type)
		return missing(parse, "type");
	return fault_set(parse->fault, EINVAL, "%s: credentials of type %.40s are not supported", parse->from,
			 type);
}

int google_source_parse(const char *bytes, size_t n, const char *from, struct google_source **ret,
			struct fault *reterr)
{
	const struct parse parse = {.from = from, .fault = reterr};
	cleanup_json json_t *json = json_loadb(bytes, n, 0, NULL);
	if (!json_is_object(json))
		return fault_set(reterr, EINVAL, "%s is no JSON object", from);
	struct google_source *source = calloc(1, sizeof(*source));
	int r = source ? parse_source(&parse, json, source) : -ENOMEM;
	if (r < 0)
		google_source_free(source);
	else
		*ret = source;
	return r;
}

/* ---- which file ---- */

static int well_known_path(const struct profile_env *env, char **ret)
{
	const char *dir = profile_env_get(env, "CLOUDSDK_CONFIG");
	if (dir)
		return str_format(ret, "%s/application_default_credentials.json", dir);
	return profile_expand_home(env, "~/.config/gcloud/application_default_credentials.json", ret);
}

/* -ENOENT: the file is not there. */
static int read_source(const char *path, struct google_source **ret, struct fault *reterr)
{
	cleanup_secret_free char *text = NULL;
	size_t n;
	int r = profile_read(path, GOOGLE_FILE_MAX, &text, &n, reterr);
	return r ?: google_source_parse(text, n, path, ret, reterr);
}

static int find_metadata(const struct profile_env *env, struct google_source **ret, struct fault *reterr)
{
	if (profile_env_is_true(env, "NO_GCE_CHECK"))
		return fault_set(reterr, EACCES,
				 "no Google credentials: " LOGIN ", or set GOOGLE_APPLICATION_CREDENTIALS");
	struct google_source *source = calloc(1, sizeof(*source));
	if (!source)
		return -ENOMEM;
	source->kind = GOOGLE_METADATA;
	int r = str_format(&source->from, "the metadata server");
	if (r < 0)
		google_source_free(source);
	else
		*ret = source;
	return r;
}

int google_find(const struct profile_env *env, const char *file, struct google_source **ret,
		struct fault *reterr)
{
	cleanup_free char *path = NULL;
	const char *named = file ?: profile_env_get(env, "GOOGLE_APPLICATION_CREDENTIALS");
	int r = named ? profile_expand_home(env, named, &path) : well_known_path(env, &path);
	if (r == 0)
		r = read_source(path, ret, reterr);
	if (r != -ENOENT)
		return r;
	if (!named)
		return find_metadata(env, ret, reterr);
	return fault_set(reterr, EACCES,
			 "%s, named by %s, is not there: " LOGIN " and name no file, or correct it", named,
			 file ? "the remote's options" : "GOOGLE_APPLICATION_CREDENTIALS");
}
