/* SPDX-License-Identifier: MIT */
/*
 * Access tokens: https://developers.google.com/identity/protocols/oauth2/service-account (assertion), RFC 6749 6
 * (refresh), RFC 8693 (exchange), IAM Credentials generateAccessToken (impersonation), and the metadata server.
 */
#include "auth/google.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth/ask.h"
#include "auth/endpoints.h"
#include "auth/jwt.h"
#include "cleanup.h"
#include "clock.h"
#include "http/url.h"
#include "str.h"

enum { METADATA_MS = 3000, ASSERTION_S = 3600, SUBJECT_MAX = 64 << 10 };

static const int64_t ns_per_s = 1000000000;

/* `url`, or its path and query at the base that the options name for that service. */
static int place(const struct google_context *context, const char *service, const char *url, char **ret)
{
	const char *base = json_string_value(json_object_get(context->endpoints, service));
	struct url parts;
	if (!base || url_parse(url, &parts) < 0)
		return str_dup(url, ret);
	cleanup_free char *there = NULL;
	return auth_base_url(base, &there) ?: str_format(ret, "%s%s", there, parts.path);
}

/* {"access_token", "expires_in"} */
static int read_token(const struct google_context *context, json_t *answer, struct auth_keys *ret)
{
	int64_t life_s = json_integer_value(json_object_get(answer, "expires_in"));
	if (life_s <= 0 || life_s > INT32_MAX)
		return -EBADMSG;
	ret->expires_ns = context->now_ns + life_s * ns_per_s;
	int r = secret_take_json(&ret->token, answer, "access_token");
	return r == -ENOENT ? -EBADMSG : r;
}

static int ask_token(const struct google_context *context, const char *service, const char *url,
		     const struct str *form, struct auth_keys *ret, struct fault *reterr)
{
	cleanup_json json_t *answer = NULL;
	cleanup_free char *there = NULL;
	int r = form->err ?: place(context, service, url, &there);
	if (r < 0)
		return r;
	const struct auth_ask ask = {.client = context->client,
				     .method = "POST",
				     .url = there,
				     .body = form,
				     .judge = auth_judge_oauth,
				     .cancel = context->cancel};
	r = auth_ask_json(&ask, &answer, NULL, reterr);
	if (r == 0)
		r = read_token(context, answer, ret);
	return r == -EBADMSG ? fault_set(reterr, EBADMSG, "the answer holds no token") : r;
}

/* ---- service account ---- */

static int make_assertion(const struct google_context *context, const struct google_source *source,
			  const char *scopes, struct secret_text *ret, struct fault *reterr)
{
	json_int_t now_s = context->now_ns / ns_per_s;
	cleanup_json json_t *header =
		json_pack("{s:s, s:s, s:s*}", "alg", "RS256", "typ", "JWT", "kid", source->key_id);
	cleanup_json json_t *claims =
		json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss", source->email, "scope", scopes, "aud",
			  source->token_url, "iat", now_s, "exp", now_s + ASSERTION_S);
	if (!header || !claims)
		return -ENOMEM;
	return jwt_sign(header, claims, &source->private_key, ret, reterr);
}

static int fetch_service_account(const struct google_context *context, const struct google_source *source,
				 const char *scopes, struct auth_keys *ret, struct fault *reterr)
{
	cleanup_secret struct secret_text assertion = {0};
	cleanup_secret_str struct str form = {0};
	int r = make_assertion(context, source, scopes, &assertion, reterr);
	if (r < 0)
		return r;
	auth_form_add(&form, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
	auth_form_add(&form, "assertion", assertion.text);
	return ask_token(context, "oauth2", source->token_url, &form, ret, reterr);
}

/* ---- user ---- */

static int fetch_user(const struct google_context *context, const struct google_source *source,
		      struct auth_keys *ret, struct fault *reterr)
{
	cleanup_secret_str struct str form = {0};
	struct fault fault = {0};
	auth_form_add(&form, "grant_type", "refresh_token");
	auth_form_add(&form, "refresh_token", source->refresh_token.text);
	auth_form_add(&form, "client_id", source->client_id);
	auth_form_add(&form, "client_secret", source->client_secret.text);
	int r = ask_token(context, "oauth2", source->token_url, &form, ret, &fault);
	if (r == -EACCES)
		return fault_set(reterr, EACCES,
				 "the login has ended: `gcloud auth application-default login` (%s)",
				 fault.text);
	return r == 0 || !fault.err ? r : fault_set(reterr, -r, "%s", fault.text);
}

/* ---- metadata server ---- */

static int metadata_ask(const struct google_context *context, const char *path, struct http_reply *ret,
			struct fault *reterr)
{
	const char *host = profile_env_get(context->env, "GCE_METADATA_HOST")
				   ?: profile_env_get(context->env, "GCE_METADATA_ROOT")
					      ?: "metadata.google.internal";
	cleanup_free char *url = NULL;
	int r = str_format(&url, "http://%s/computeMetadata/v1/%s", host, path);
	if (r < 0)
		return r;
	const struct auth_ask ask = {.client = context->client,
				     .method = "GET",
				     .url = url,
				     .header = {{"Metadata-Flavor", "Google"}},
				     .total_ms = METADATA_MS,
				     .is_direct = true,
				     .cancel = context->cancel};
	r = auth_ask(&ask, ret, reterr);
	const char *flavor = http_headers_get(&ret->headers, "Metadata-Flavor");
	if (r == 0 && (!flavor || strcmp(flavor, "Google") != 0))
		return fault_set(reterr, EHOSTUNREACH, "what answers at %s is no metadata server", host);
	return r;
}

static int metadata_path(const char *scopes, struct str *ret)
{
	cleanup_str struct str list = {0};
	str_append(&list, scopes);
	for (char *p = list.data; list.err == 0 && p && *p; p++)
		*p = *p == ' ' ? ',' : *p;
	str_append(ret, "instance/service-accounts/default/token");
	return list.err ?: url_add_query(ret, "scopes", list.data);
}

static int fetch_metadata(const struct google_context *context, const struct google_source *source,
			  const char *scopes, struct auth_keys *ret, struct fault *reterr)
{
	cleanup_answer struct http_reply reply = {0};
	cleanup_str struct str path = {0};
	struct fault fault = {0};
	int r = metadata_path(scopes, &path);
	if (r == 0)
		r = metadata_ask(context, path.data, &reply, &fault);
	if (r == -EINTR || r == -ENOMEM)
		return r;
	if (reply.status == 0 || r == -EHOSTUNREACH)
		return fault_set(reterr, EACCES,
				 "no Google credentials in a file, and no metadata server (%s): `gcloud auth "
				 "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
				 fault.text);
	if (r < 0)
		return fault_set(reterr, r == -ENOENT ? EACCES : -r, "this machine's service account: %s",
				 fault.text);
	cleanup_json json_t *answer = json_loadb(reply.body.data ?: "", reply.body.len, 0, NULL);
	r = read_token(context, answer, ret);
	return r == -EBADMSG ? fault_set(reterr, EBADMSG, "the metadata server answered without a token") : r;
}

int google_metadata_project(const struct google_context *context, char **ret, struct fault *reterr)
{
	cleanup_answer struct http_reply reply = {0};
	int r = metadata_ask(context, "project/project-id", &reply, reterr);
	if (r < 0)
		return r;
	if (reply.body.len == 0)
		return fault_set(reterr, EBADMSG, "the metadata server answered without a project");
	return str_format(ret, "%s", reply.body.data);
}

/* ---- impersonation ---- */

static json_t *impersonation_body(const struct google_source *source, const char *scopes)
{
	json_t *list = json_array();
	while (list && *scopes) {
		size_t n = strcspn(scopes, " ");
		if (n > 0 && json_array_append_new(list, json_stringn(scopes, n)) < 0) {
			json_decref(list);
			return NULL;
		}
		scopes += n + strspn(scopes + n, " ");
	}
	return json_pack("{s:o, s:s, s:O*}", "scope", list, "lifetime", "3600s", "delegates",
			 source->delegates);
}

/* For the token in `bearer`, which another account's replaces. */
static int impersonate(const struct google_context *context, const struct google_source *source,
		       const char *scopes, const struct secret_text *bearer, struct auth_keys *ret,
		       struct fault *reterr)
{
	cleanup_secret_str struct str authorization = {0};
	cleanup_str struct str body = {0};
	cleanup_json json_t *answer = NULL, *question = impersonation_body(source, scopes);
	cleanup_free char *text = question ? json_dumps(question, JSON_COMPACT) : NULL, *there = NULL;
	str_printf(&authorization, "Bearer %s", bearer->text);
	if (!text || authorization.err || str_append(&body, text) < 0 ||
	    place(context, "iamcredentials", source->impersonation_url, &there) < 0)
		return -ENOMEM;
	const struct auth_ask ask = {.client = context->client,
				     .method = "POST",
				     .url = there,
				     .header = {{"Authorization", authorization.data}},
				     .body = &body,
				     .type = "application/json",
				     .judge = auth_judge_oauth,
				     .cancel = context->cancel};
	int r = auth_ask_json(&ask, &answer, NULL, reterr);
	if (r < 0)
		return r;
	const char *expires = json_string_value(json_object_get(answer, "expireTime"));
	r = expires && clock_parse(expires, &ret->expires_ns) == 0
		    ? secret_take_json(&ret->token, answer, "accessToken")
		    : -ENOENT;
	return r == -ENOENT ? fault_set(reterr, EBADMSG, "the answer holds no token") : r;
}

static int fetch_impersonated(const struct google_context *context, const struct google_source *source,
			      const char *scopes, struct auth_keys *ret, struct fault *reterr)
{
	cleanup_auth_keys struct auth_keys own = {0};
	int r = google_fetch(context, source->source, GOOGLE_SCOPE_ALL, &own, reterr);
	return r ?: impersonate(context, source, scopes, &own.token, ret, reterr);
}

/* ---- workload identity ---- */

/* The metadata server of another cloud, which no proxy finds. */
static bool is_link_local(const char *url)
{
	return str_has_prefix(url, "http://169.254.");
}

static int read_subject(const struct google_context *context, const struct google_source *source,
			struct str *ret, struct fault *reterr)
{
	if (source->subject_file) {
		cleanup_secret_free char *text = NULL;
		int r = profile_read(source->subject_file, SUBJECT_MAX, &text, NULL, reterr);
		if (r == -ENOENT)
			return fault_set(reterr, EACCES, "%s, the subject token, is not there",
					 source->subject_file);
		return r ?: str_append(ret, text);
	}
	cleanup_answer struct http_reply reply = {0};
	struct auth_ask ask = {.client = context->client,
			       .method = "GET",
			       .url = source->subject_url,
			       .is_direct = is_link_local(source->subject_url),
			       .cancel = context->cancel};
	for (size_t i = 0; i < GOOGLE_HEADERS_MAX; i++) {
		ask.header[i][0] = source->subject_header[i][0];
		ask.header[i][1] = source->subject_header[i][1];
	}
	int r = auth_ask(&ask, &reply, reterr);
	return r ?: str_append_n(ret, reply.body.data ?: "", reply.body.len);
}

static int get_subject(const struct google_context *context, const struct google_source *source,
		       struct secret_text *ret, struct fault *reterr)
{
	cleanup_secret_str struct str text = {0};
	int r = read_subject(context, source, &text, reterr);
	if (r < 0)
		return r;
	if (!source->subject_field) {
		size_t n = text.len;
		while (n > 0 && strchr(" \r\n", text.data[n - 1]))
			n--;
		return n > 0 ? secret_set(ret, text.data, n)
			     : fault_set(reterr, EACCES, "%s: the subject token is empty", source->from);
	}
	cleanup_json json_t *json = json_loadb(text.data ?: "", text.len, 0, NULL);
	r = secret_take_json(ret, json, source->subject_field);
	return r == -ENOENT ? fault_set(reterr, EACCES, "%s: the subject token has no field %s", source->from,
					source->subject_field)
			    : r;
}

static int add_user_project(const struct google_source *source, struct str *form)
{
	if (!source->user_project)
		return 0;
	cleanup_json json_t *options = json_pack("{s:s}", "userProject", source->user_project);
	cleanup_free char *text = options ? json_dumps(options, JSON_COMPACT) : NULL;
	return text ? auth_form_add(form, "options", text) : -ENOMEM;
}

static int fetch_external(const struct google_context *context, const struct google_source *source,
			  const char *scopes, struct auth_keys *ret, struct fault *reterr)
{
	cleanup_secret struct secret_text subject = {0};
	cleanup_secret_str struct str form = {0};
	cleanup_auth_keys struct auth_keys own = {0};
	int r = get_subject(context, source, &subject, reterr);
	if (r < 0)
		return r;
	auth_form_add(&form, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
	auth_form_add(&form, "audience", source->audience);
	auth_form_add(&form, "scope", source->impersonation_url ? GOOGLE_SCOPE_ALL : scopes);
	auth_form_add(&form, "requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
	auth_form_add(&form, "subject_token", subject.text);
	auth_form_add(&form, "subject_token_type", source->subject_type);
	r = add_user_project(source, &form);
	if (r == 0)
		r = ask_token(context, "sts", source->token_url, &form, &own, reterr);
	if (r == 0 && source->impersonation_url)
		return impersonate(context, source, scopes, &own.token, ret, reterr);
	if (r == 0) {
		*ret = own;
		own = (struct auth_keys){0};
	}
	return r;
}

/* ---- all ---- */

static int fetch(const struct google_context *context, const struct google_source *source, const char *scopes,
		 struct auth_keys *ret, struct fault *reterr)
{
	switch (source->kind) {
	case GOOGLE_SERVICE_ACCOUNT:
		return fetch_service_account(context, source, scopes, ret, reterr);
	case GOOGLE_USER:
		return fetch_user(context, source, ret, reterr);
	case GOOGLE_METADATA:
		return fetch_metadata(context, source, scopes, ret, reterr);
	case GOOGLE_EXTERNAL:
		return fetch_external(context, source, scopes, ret, reterr);
	case GOOGLE_IMPERSONATED:
		return fetch_impersonated(context, source, scopes, ret, reterr);
	}
	return -EINVAL;
}

int google_fetch(const struct google_context *context, const struct google_source *source, const char *scopes,
		 struct auth_keys *ret, struct fault *reterr)
{
	struct fault fault = {0};
	int r = fetch(context, source, scopes, ret, &fault);
	if (r == 0 || !fault.err)
		return r;
	return fault_set(reterr, -r, "%s: %s", source->from, fault.text);
}
