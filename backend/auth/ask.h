/* SPDX-License-Identifier: MIT */
/* Inside auth/: asking a token service. Answers are small, hold secrets, and are wiped. */
#pragma once

#include <jansson.h>

#include "fault.h"
#include "http/http.h"
#include "str.h"

enum { AUTH_ANSWER_MAX = 256 << 10 };

/* Adds "name=value", both encoded, to a form under construction; NULL: nothing. Returns form->err. */
int auth_form_add(struct str *form, const char *name, const char *value);

/* Borrowed for the call. */
struct auth_ask {
	struct http_client *client;
	const char *method, *url;
	const char *header[4][2]; /* names and values; a NULL name ends them */
	const struct str *body;   /* NULL: none */
	const char *type;         /* of the body; NULL: a form */
	http_authorize authorize; /* may be NULL */
	void *authorize_arg;
	http_judge judge; /* may be NULL */
	int total_ms;     /* 0: http's */
	bool is_once; /* not to be repeated: a detection that shall be quick, or what is used up by the first try */
	bool is_direct; /* not through a proxy */
	struct http_cancel *cancel;
};

/* As http_perform; release `ret` by auth_answer_release. */
int auth_ask(const struct auth_ask *ask, struct http_reply *ret, struct fault *reterr);
/* A JSON object, new. `ret_status` (may be NULL): also on failure, 0 if there was no answer. -EBADMSG: no object. */
int auth_ask_json(const struct auth_ask *ask, json_t **ret, int *ret_status, struct fault *reterr);

void auth_answer_release(struct http_reply *reply);
#define cleanup_answer __attribute__((cleanup(auth_answer_release)))

/*
 * Is it http to this machine or to the address of a container's credentials, from where no secret leaves the host?
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
 */
bool auth_is_near_url(const char *url);

/* Judges of {"error", "error_description"} (RFC 6749 5.2; also Google's {"error": {"message"}}), for any token service. */
void auth_judge_oauth(int status, const struct http_headers *headers, const char *body, size_t n,
		      struct http_verdict *ret);
