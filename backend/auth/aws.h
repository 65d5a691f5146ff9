/* SPDX-License-Identifier: MIT */
/*
 * Inside auth/: where AWS keys come from. aws_chain.c decides it from files and environment and asks nobody; aws_fetch
 * and its sources (aws_sts.c, aws_sso.c, aws_process.c, aws_metadata.c) then get the keys.
 * https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
 */
#pragma once

#include "auth/auth.h"
#include "auth/endpoints.h"
#include "auth/profile.h"
#include "auth/renewal.h"

enum aws_kind {
	AWS_STATIC,  /* keys themselves, from the environment or a file */
	AWS_ROLE,    /* STS AssumeRole, signed by `source` */
	AWS_WEB,     /* STS AssumeRoleWithWebIdentity, with a token from a file */
	AWS_SSO,     /* IAM Identity Center, with the token that `aws sso login` left */
	AWS_PROCESS, /* credential_process */
	AWS_CONTAINER,
	AWS_INSTANCE
};

enum { AWS_ROLE_DEPTH_MAX = 8 };

/* What is to be asked. All members are owned. */
struct aws_source {
	enum aws_kind kind;
	char *from; /* for people */
	char *profile;

	struct auth_keys keys; /* static */

	char *role_arn, *session_name, *external_id; /* role, web */
	int64_t duration_s;                          /* 0: what STS gives */
	struct aws_source *source;                   /* role */
	char *token_file;                            /* web */

	char *sso_cache_key; /* session name or start URL */
	char *sso_region, *sso_account, *sso_role;
	bool is_sso_session; /* its token can be renewed */

	char *command; /* process */
};
void aws_source_free(struct aws_source *source); /* takes NULL */

/*
 * The chain of aws.md 1.5. `profile`: the options' (NULL: AWS_DEFAULT_PROFILE, AWS_PROFILE, "default"). No network.
 * -EACCES: nothing is set up, or what is cannot be used; -EINVAL: it contradicts itself; the sentence says how to mend.
 */
int aws_chain(const struct profile_env *env, const struct profile_files *files, const char *profile,
	      struct aws_source **ret, struct fault *reterr);
/* The name of the profile in use. Borrowed. */
const char *aws_profile_name(const struct profile_env *env, const char *profile);

/* ---- region and endpoint (aws_endpoint.c): no network ---- */

/* Borrowed; NULL: none is set. `ret_from` (may be NULL): what set it, static text. */
const char *aws_region(const struct profile_env *env, const struct profile_files *files, const char *profile,
		       const char **ret_from);

int aws_endpoint(const struct auth_endpoints *endpoints, const struct profile_env *env,
		 const struct profile_files *files, const char *profile, const char *service,
		 const char *region, char **ret, bool *ret_is_custom, struct fault *reterr);

/* ---- asking ---- */

/* What every source needs. Borrowed for the call. */
struct aws_context {
	struct http_client *client;
	const struct profile_env *env;
	const struct profile_files *files;
	const struct auth_endpoints *endpoints;
	const char *profile; /* in use */
	const char *region;  /* of the options; NULL */
	int64_t now_ns;
	struct http_cancel *cancel; /* may be NULL */
};

int aws_fetch(const struct aws_context *context, const struct aws_source *source, struct auth_keys *ret,
	      struct fault *reterr);
int aws_sts_fetch(const struct aws_context *context, const struct aws_source *source, struct auth_keys *ret,
		  struct fault *reterr);
/* Who these keys are: their ARN, new. Everybody may ask that. -EACCES: STS does not know or not accept them. */
int aws_sts_identity(const struct aws_context *context, const struct auth_keys *keys, char **ret,
		     struct fault *reterr);
int aws_sso_fetch(const struct aws_context *context, const struct aws_source *source, struct auth_keys *ret,
		  struct fault *reterr);
int aws_process_fetch(const struct aws_context *context, const struct aws_source *source,
		      struct auth_keys *ret, struct fault *reterr);
int aws_container_fetch(const struct aws_context *context, const struct aws_source *source,
			struct auth_keys *ret, struct fault *reterr);
int aws_instance_fetch(const struct aws_context *context, const struct aws_source *source,
		       struct auth_keys *ret, struct fault *reterr);
/* placement/region. New text. */
int aws_instance_region(const struct aws_context *context, char **ret, struct fault *reterr);

/*
 * {"AccessKeyId", "SecretAccessKey", `token_name`, "Expiration"} of containers, instances and processes; the strings
 * are wiped in `json`. -EBADMSG: something is missing or no date.
 */
int aws_keys_from_json(json_t *json, const char *token_name, struct auth_keys *ret);
