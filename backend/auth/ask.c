/* SPDX-License-Identifier: MIT */
/* One request to a token service, and its answer as JSON. */
#include "auth/ask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/secret.h"
#include "cleanup.h"
#include "http/url.h"

int auth_form_add(struct str *form, const char *name, const char *value)
{
	if (!value)
		return form->err;
	str_append(form, form->len > 0 ? "&" : "");
	url_encode(form, name, false);
	str_append(form, "=");
	return url_encode(form, value, false);
}

void auth_answer_release(struct http_reply *reply)
{
	secret_release_str(&reply->body);
	http_reply_release(reply);
}

int auth_ask(const struct auth_ask *ask, struct http_reply *ret, struct fault *reterr)
{
	cleanup_http_headers struct http_headers headers = {0};
	int r = 0;
	for (size_t i = 0; i < 4 && ask->header[i][0] && r == 0; i++)
		r = http_headers_add(&headers, ask->header[i][0], ask->header[i][1]);
	if (r == 0 && ask->body)
		r = http_headers_add(&headers, "Content-Type",
				     ask->type ?: "application/x-www-form-urlencoded; charset=utf-8");
	if (r < 0)
		return fault_set(reterr, -r, "a token or setting holds what cannot be a header");
	const struct http_request request = {
		.method = ask->method,
		.url = ask->url,
		.headers = &headers,
		.body = ask->body ? ask->body->data : NULL,
		.body_fd = -1,
		.body_n = ask->body ? (int64_t)ask->body->len : 0,
		.has_body = ask->body,
		.authorize = ask->authorize,
		.authorize_arg = ask->authorize_arg,
		.judge = ask->judge,
		.max_body = AUTH_ANSWER_MAX,
		.is_repeatable = !ask->is_once,
		.is_direct = ask->is_direct,
		.total_ms = ask->total_ms,
		.cancel = ask->cancel,
	};
	return http_perform(ask->client, &request, ret, reterr);
}

int auth_ask_json(const struct auth_ask *ask, json_t **ret, int *ret_status, struct fault *reterr)
{
	cleanup_answer struct http_reply reply = {0};
	int r = auth_ask(ask, &reply, reterr);
	if (ret_status)
		*ret_status = reply.status;
	if (r < 0)
		return r;
	json_t *json = json_loadb(reply.body.data ?: "", reply.body.len, 0, NULL);
	if (!json_is_object(json)) {
		json_decref(json);
		struct url url = {0};
		(void)url_parse(ask->url, &url); /* it was just asked */
		return fault_set(reterr, EBADMSG, "%.*s answered with something else than a JSON object",
				 url.n_host, url.host ?: "");
	}
	*ret = json;
	return 0;
}

static bool is_near_host(const char *host, size_t n)
{
	static const char *const near[] = {"localhost", "[::1]", "169.254.170.2", "169.254.170.23",
					   "[fd00:ec2::23]"};
	for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
		if (n == strlen(near[i]) && !strncasecmp(host, near[i], n))
			return true;
	}
	unsigned part[4];
	int end = 0;
	char text[16];
	(void)snprintf(text, sizeof(text), "%.*s", (int)n, host);
	return n < sizeof(text) &&
	       sscanf(text, "%3u.%3u.%3u.%3u%n", &part[0], &part[1], &part[2], &part[3], &end) == 4 &&
	       (size_t)end == n && part[0] == 127 && part[1] < 256 && part[2] < 256 && part[3] < 256;
}

bool auth_is_near_url(const char *text)
{
	struct url url;
	if (url_parse(text, &url) < 0 || url.n_scheme != 4 || strncmp(url.scheme, "http", 4) != 0)
		return false;
	const char *end = url.host + url.n_host;
	const char *bracket = memchr(url.host, ']', (size_t)url.n_host);
	const char *from = bracket ?: url.host;
	const char *colon = memchr(from, ':', (size_t)(end - from));
	return is_near_host(url.host, (size_t)((colon ?: end) - url.host));
}

void auth_judge_oauth(int status, const struct http_headers *headers, const char *body, size_t n,
		      struct http_verdict *ret)
{
	cleanup_json json_t *json = json_loadb(body, n, 0, NULL);
	const json_t *error = json_object_get(json, "error");
	const char *code = json_string_value(error) ?: json_string_value(json_object_get(error, "status"));
	const char *text = json_string_value(json_object_get(json, "error_description"))
				   ?: json_string_value(json_object_get(error, "message"));
	(void)snprintf(ret->text, sizeof(ret->text), "%s%s%s", code ?: "", code && text ? ": " : "",
		       text ?: "");
	if (code && (!strcmp(code, "invalid_grant") || !strcmp(code, "invalid_client") ||
		     !strcmp(code, "unauthorized_client") || !strcmp(code, "invalid_rapt")))
		ret->err = EACCES;
	/* Google says so when `iat` is off; the skew has come with the answer */
	if (text && strstr(text, "reasonable timeframe"))
		ret->is_skewed = true;
}
