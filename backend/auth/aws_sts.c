/* SPDX-License-Identifier: MIT */
/*
 * Temporary keys of a role from STS, for other keys or for a web identity token.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
 */
#include "auth/aws.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <string.h>

#include "auth/ask.h"
#include "auth/sigv4.h"
#include "cleanup.h"
#include "clock.h"
#include "str.h"

enum { TOKEN_FILE_MAX = 20000 };

/* ---- answers ---- */

static void cleanup_document(xmlDoc **document)
{
	xmlFreeDoc(*document);
}

static xmlDoc *parse(const char *body, size_t n)
{
	return xmlReadMemory(body ?: "", (int)n, NULL, NULL,
			     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
}

/* The text of the first element of that name, in document order. Borrowed from the document, writable; NULL. */
static char *find_text(xmlDoc *document, const char *name)
{
	xmlNode *root = xmlDocGetRootElement(document), *node = root;
	while (node) {
		if (node->type == XML_ELEMENT_NODE && !strcmp((const char *)node->name, name))
			return node->children && node->children->type == XML_TEXT_NODE &&
					       !node->children->next
				       ? (char *)node->children->content
				       : NULL;
		if (node->children && node->type == XML_ELEMENT_NODE) {
			node = node->children;
			continue;
		}
		while (node && node != root && !node->next)
			node = node->parent;
		node = node && node != root ? node->next : NULL;
	}
	return NULL;
}

static int take_text(xmlDoc *document, const char *name, struct secret_text *ret)
{
	char *text = find_text(document, name);
	if (!text || !*text)
		return -EBADMSG;
	int r = secret_set(ret, text, strlen(text));
	explicit_bzero(text, strlen(text));
	return r;
}

static int read_keys(const struct str *body, struct auth_keys *ret)
{
	__attribute__((cleanup(cleanup_document))) xmlDoc *document = parse(body->data, body->len);
	const char *id = document ? find_text(document, "AccessKeyId") : NULL;
	const char *expiration = document ? find_text(document, "Expiration") : NULL;
	if (!id || !expiration || clock_parse(expiration, &ret->expires_ns) < 0)
		return -EBADMSG;
	ret->id = strdup(id);
	int r = ret->id ? take_text(document, "SecretAccessKey", &ret->secret) : -ENOMEM;
	return r ?: take_text(document, "SessionToken", &ret->token);
}

static bool is_one_of(const char *text, const char *const *list)
{
	for (; *list; list++) {
		if (!strcmp(text, *list))
			return true;
	}
	return false;
}

/* https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html */
static void sts_judge(int status, const struct http_headers *headers, const char *body, size_t n,
		      struct http_verdict *ret)
{
	static const char *const refused[] = {"ExpiredToken",
					      "ExpiredTokenException",
					      "InvalidClientTokenId",
					      "InvalidIdentityToken",
					      "MissingAuthenticationToken",
					      "SignatureDoesNotMatch",
					      "UnrecognizedClientException",
					      NULL};
	static const char *const skewed[] = {"RequestExpired", "RequestTimeTooSkewed", NULL};
	static const char *const throttled[] = {"Throttling", "ThrottlingException", "RequestLimitExceeded",
						NULL};
	__attribute__((cleanup(cleanup_document))) xmlDoc *document = parse(body, n);
	const char *code = document ? find_text(document, "Code") : NULL;
	const char *text = document ? find_text(document, "Message") : NULL;
	if (!code)
		return;
	(void)snprintf(ret->text, sizeof(ret->text), "%s%s%s", code, text ? ": " : "", text ?: "");
	if (is_one_of(code, refused))
		ret->err = EACCES;
	ret->is_transient = !strcmp(code, "IDPCommunicationError");
	ret->is_throttled = is_one_of(code, throttled);
	/* a wrong key says SignatureDoesNotMatch too, but without a word on the time */
	ret->is_skewed =
		is_one_of(code, skewed) || (!strcmp(code, "SignatureDoesNotMatch") && text &&
					    (strstr(text, "expired") || strstr(text, "not yet current")));
}

/* ---- asking ---- */

struct sts_signing {
	const struct auth_keys *keys;
	const char *region;
};

static int sts_authorize(void *arg, const struct http_request *request, int64_t now_ns, bool is_refused,
			 struct http_headers *ret, struct fault *reterr)
{
	const struct sts_signing *signing = arg;
	char hash[SIGV4_HEX_MAX];
	if (is_refused)
		return fault_set(reterr, EACCES, "refused");
	sigv4_hash(request->body, (size_t)request->body_n, hash);
	const struct sigv4_request sign = {
		.method = request->method,
		.url = request->url,
		.headers = request->headers,
		.payload = hash,
		.service = "sts",
		.region = signing->region,
		.key_id = signing->keys->id,
		.secret = signing->keys->secret.text,
		.token = signing->keys->token.text,
	};
	return sigv4_sign(NULL, &sign, now_ns, ret);
}

/* `signing` NULL: unsigned. Release `ret` by auth_answer_release. */
static int sts_post(const struct aws_context *context, const struct str *form, struct sts_signing *signing,
		    struct http_reply *ret, struct fault *reterr)
{
	cleanup_free char *base = NULL, *url = NULL;
	bool is_custom;
	const char *region =
		context->region ?: aws_region(context->env, context->files, context->profile, NULL) ?: "us-east-1";
	int r = aws_endpoint(context->endpoints, context->env, context->files, context->profile, "sts",
			     region, &base, &is_custom, reterr);
	if (r == 0)
		r = form->err ?: str_format(&url, "%s/", base);
	if (r < 0)
		return r;
	if (signing)
		signing->region = region;
	const struct auth_ask ask = {.client = context->client,
				     .method = "POST",
				     .url = url,
				     .body = form,
				     .authorize = signing ? sts_authorize : NULL,
				     .authorize_arg = signing,
				     .judge = sts_judge,
				     .cancel = context->cancel};
	return auth_ask(&ask, ret, reterr);
}

static int sts_ask(const struct aws_context *context, const struct str *form, struct sts_signing *signing,
		   struct auth_keys *ret, struct fault *reterr)
{
	cleanup_answer struct http_reply reply = {0};
	int r = sts_post(context, form, signing, &reply, reterr);
	if (r == 0)
		r = read_keys(&reply.body, ret);
	return r == -EBADMSG ? fault_set(reterr, EBADMSG, "STS answered without credentials") : r;
}

static void add_common(const struct aws_context *context, const struct aws_source *source, const char *action,
		       struct str *form)
{
	char session[40], duration[24];
	(void)snprintf(session, sizeof(session), "trainfs-%lld", (long long)(context->now_ns / 1000000000));
	(void)snprintf(duration, sizeof(duration), "%lld", (long long)source->duration_s);
	auth_form_add(form, "Action", action);
	auth_form_add(form, "Version", "2011-06-15");
	auth_form_add(form, "RoleArn", source->role_arn);
	auth_form_add(form, "RoleSessionName", source->session_name ?: session);
	auth_form_add(form, "DurationSeconds", source->duration_s ? duration : NULL);
	auth_form_add(form, "ExternalId", source->external_id);
}

static int fetch_role(const struct aws_context *context, const struct aws_source *source,
		      struct auth_keys *ret, struct fault *reterr)
{
	cleanup_str struct str form = {0};
	cleanup_auth_keys struct auth_keys keys = {0};
	int r = aws_fetch(context, source->source, &keys, reterr);
	if (r < 0)
		return r;
	struct sts_signing signing = {.keys = &keys};
	add_common(context, source, "AssumeRole", &form);
	struct fault fault = {0};
	r = sts_ask(context, &form, &signing, ret, &fault);
	if (r < 0 && r != -EINTR && r != -ENOMEM)
		return fault_set(reterr, -r, "%s may not be assumed (%s, signed by %s): %s", source->role_arn,
				 source->from, source->source->from, fault.text);
	return r;
}

/* The file is read each time: whoever put it there renews it. */
static int fetch_web(const struct aws_context *context, const struct aws_source *source,
		     struct auth_keys *ret, struct fault *reterr)
{
	cleanup_secret_str struct str form = {0};
	cleanup_secret_free char *token = NULL;
	int r = profile_read(source->token_file, TOKEN_FILE_MAX, &token, NULL, reterr);
	if (r == -ENOENT)
		return fault_set(reterr, EACCES, "%s, the web identity token of %s, is not there",
				 source->token_file, source->from);
	if (r < 0)
		return r;
	token[strcspn(token, "\r\n")] = '\0';
	add_common(context, source, "AssumeRoleWithWebIdentity", &form);
	auth_form_add(&form, "WebIdentityToken", token);
	struct fault fault = {0};
	r = sts_ask(context, &form, NULL, ret, &fault);
	if (r < 0 && r != -EINTR && r != -ENOMEM)
		return fault_set(reterr, -r, "%s may not be assumed (%s): %s", source->role_arn, source->from,
				 fault.text);
	return r;
}

int aws_sts_fetch(const struct aws_context *context, const struct aws_source *source, struct auth_keys *ret,
		  struct fault *reterr)
{
	return source->kind == AWS_ROLE ? fetch_role(context, source, ret, reterr)
					: fetch_web(context, source, ret, reterr);
}

int aws_sts_identity(const struct aws_context *context, const struct auth_keys *keys, char **ret,
		     struct fault *reterr)
{
	cleanup_answer struct http_reply reply = {0};
	cleanup_str struct str form = {0};
	struct sts_signing signing = {.keys = keys};
	auth_form_add(&form, "Action", "GetCallerIdentity");
	auth_form_add(&form, "Version", "2011-06-15");
	int r = sts_post(context, &form, &signing, &reply, reterr);
	if (r < 0)
		return r;
	__attribute__((cleanup(cleanup_document))) xmlDoc *document = parse(reply.body.data, reply.body.len);
	const char *arn = document ? find_text(document, "Arn") : NULL;
	return arn ? str_dup(arn, ret) : fault_set(reterr, EBADMSG, "STS answered without an identity");
}
