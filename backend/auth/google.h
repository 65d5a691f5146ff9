/* SPDX-License-Identifier: MIT */
/*
 * Inside auth/: where Google's access tokens come from. google_file.c reads a credentials file (pure), google_token.c
 * asks for tokens. https://google.aip.dev/auth/4110 and the AIPs beside it.
 */
#pragma once

#include <jansson.h>

#include "auth/auth.h"
#include "auth/profile.h"
#include "auth/renewal.h"

enum google_kind {
	GOOGLE_SERVICE_ACCOUNT, /* AIP-4112: a signed assertion */
	GOOGLE_USER,            /* AIP-4113: the refresh token of `gcloud auth application-default login` */
	GOOGLE_METADATA,        /* AIP-4115: GCE, GKE, Cloud Run */
	GOOGLE_EXTERNAL,        /* AIP-4117: another provider's token, from a file or URL */
	GOOGLE_IMPERSONATED     /* another account's token, for that of `source` */
};

enum { GOOGLE_FILE_MAX = 64 << 10, GOOGLE_HEADERS_MAX = 3 };

/* All members are owned; those that a kind does not need are NULL. */
struct google_source {
	enum google_kind kind;
	char *from; /* for people: "service account NAME of /path" */
	char *project, *quota_project;
	char *token_url; /* service account, user, external */

	char *email, *key_id; /* service account */
	struct secret_text private_key;

	char *client_id; /* user */
	struct secret_text client_secret, refresh_token;

	char *audience, *subject_type, *user_project; /* external */
	char *subject_file, *subject_url;             /* one of them */
	char *subject_header[GOOGLE_HEADERS_MAX][2];  /* for subject_url */
	char *subject_field;                          /* of a JSON object; NULL: the text is the token */

	char *impersonation_url; /* impersonated; external may have one */
	json_t *delegates;       /* array; NULL */
	struct google_source *source;
};
void google_source_free(struct google_source *source); /* takes NULL */

/*
 * `from`: the file's name. -EINVAL: no JSON, a type that is not supported, a field that is missing, a URL that a secret
 * must not go to; the sentence names field and file.
 */
int google_source_parse(const char *bytes, size_t n, const char *from, struct google_source **ret,
			struct fault *reterr);

/*
 * The order of AIP-4110. `file`: the options', NULL. No network. -EACCES: a file that is named but cannot be read;
 * -EINVAL as google_source_parse.
 */
int google_find(const struct profile_env *env, const char *file, struct google_source **ret,
		struct fault *reterr);

/* What asking needs. Borrowed for the call. */
struct google_context {
	struct http_client *client;
	const struct profile_env *env;
	const json_t *endpoints; /* of token services: "oauth2", "sts", "iamcredentials"; NULL */
	int64_t now_ns;
	struct http_cancel *cancel; /* may be NULL */
};

/* A token for `scopes`. */
int google_fetch(const struct google_context *context, const struct google_source *source, const char *scopes,
		 struct auth_keys *ret, struct fault *reterr);
/* project/project-id of the metadata server. New text. */
int google_metadata_project(const struct google_context *context, char **ret, struct fault *reterr);
