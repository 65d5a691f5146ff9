/* SPDX-License-Identifier: MIT */
/*
 * Decides which source of AWS keys is in force. The order is boto3's, so that what `aws sts get-caller-identity` shows
 * is what the mount uses: keys in the environment; of the profile: role, web identity, single sign-on, keys in the
 * credentials file, process, keys in the config file; then container, then instance.
 */
#include "auth/aws.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "clock.h"
#include "str.h"

struct chain {
	const struct profile_env *env;
	const struct profile_files *files;
	bool is_explicit;
	const char *visited[AWS_ROLE_DEPTH_MAX];
	size_t n_visited;
	struct fault *fault;
};

void aws_source_free(struct aws_source *source)
{
	while (source) {
		struct aws_source *next = source->source;
		auth_keys_release(&source->keys);
		char *const owned[] = {source->from,          source->profile,     source->role_arn,
				       source->session_name,  source->external_id, source->token_file,
				       source->sso_cache_key, source->sso_region,  source->sso_account,
				       source->sso_role,      source->command};
		for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); i++)
			free(owned[i]);
		free(source);
		source = next;
	}
}

static void cleanup_source_(struct aws_source **source)
{
	aws_source_free(*source);
}
#define cleanup_source __attribute__((cleanup(cleanup_source_)))

const char *aws_profile_name(const struct profile_env *env, const char *profile)
{
	return profile ?: profile_env_get(env, "AWS_DEFAULT_PROFILE")
				  ?: profile_env_get(env, "AWS_PROFILE") ?: "default";
}

/* `from` is printed into source->from. */
static struct aws_source *source_new(enum aws_kind kind, const char *profile, const char *from,
				     const char *in)
{
	struct aws_source *source = calloc(1, sizeof(*source));
	if (!source)
		return NULL;
	source->kind = kind;
	source->profile = profile ? strdup(profile) : NULL;
	if ((profile && !source->profile) || str_format(&source->from, "%s%s", from, in) < 0) {
		aws_source_free(source);
		return NULL;
	}
	return source;
}

static struct aws_source *source_of_profile(enum aws_kind kind, const char *profile, const char *what,
					    const char *path)
{
	cleanup_free char *from = NULL;
	if (str_format(&from, "%s of profile %s in ", what, profile) < 0)
		return NULL;
	return source_new(kind, profile, from, path ?: "?");
}

/* ---- keys ---- */

static int set_keys(struct aws_source *source, const char *id, const char *secret, const char *token)
{
	int r = str_dup(id, &source->keys.id);
	if (r == 0)
		r = secret_set(&source->keys.secret, secret, strlen(secret));
	if (r == 0 && token)
		r = secret_set(&source->keys.token, token, strlen(token));
	return r;
}

/* -ENOENT: not set. */
static int chain_env(struct chain *chain, struct aws_source **ret)
{
	const struct profile_env *env = chain->env;
	const char *id = profile_env_get(env, "AWS_ACCESS_KEY_ID");
	const char *secret = profile_env_get(env, "AWS_SECRET_ACCESS_KEY");
	const char *token =
		profile_env_get(env, "AWS_SESSION_TOKEN") ?: profile_env_get(env, "AWS_SECURITY_TOKEN");
	const char *expiration = profile_env_get(env, "AWS_CREDENTIAL_EXPIRATION");
	if (!id)
		return -ENOENT;
	if (!secret)
		return fault_set(
			chain->fault, EACCES,
			"AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not: set both or none");
	cleanup_source struct aws_source *source =
		source_new(AWS_STATIC, NULL, "AWS_ACCESS_KEY_ID", " in the environment");
	int r = source ? set_keys(source, id, secret, token) : -ENOMEM;
	if (r < 0)
		return r;
	if (expiration && clock_parse(expiration, &source->keys.expires_ns) < 0)
		return fault_set(chain->fault, EINVAL, "AWS_CREDENTIAL_EXPIRATION is no date");
	*ret = STEAL(source);
	return 0;
}

static int chain_keys(struct chain *chain, const char *profile, bool is_credentials, struct aws_source **ret)
{
	const char *value[3];
	static const char *const key[] = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"};
	const char *path = is_credentials ? chain->files->credentials_path : chain->files->config_path;
	for (size_t i = 0; i < 3; i++)
		value[i] = is_credentials
				   ? profile_get_credentials(chain->files, profile, key[i])
				   : profile_get_config(chain->files, PROFILE_PLAIN, profile, key[i], NULL);
	if (!value[0])
		return -ENOENT;
	if (!value[1])
		return fault_set(
			chain->fault, EACCES,
			"profile %s in %s has an aws_access_key_id but no aws_secret_access_key: `aws "
			"configure --profile %s`",
			profile, path, profile);
	cleanup_source struct aws_source *source = source_of_profile(AWS_STATIC, profile, "keys", path);
	int r = source ? set_keys(source, value[0], value[1], value[2]) : -ENOMEM;
	if (r == 0)
		*ret = STEAL(source);
	return r;
}

static bool has_static_keys(const struct chain *chain, const char *profile)
{
	return profile_get(chain->files, profile, "aws_access_key_id") ||
	       profile_get(chain->files, profile, "aws_secret_access_key");
}

/* ---- container and instance: asked when nothing else is set up ---- */

static bool has_container(const struct chain *chain)
{
	return profile_env_get(chain->env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") ||
	       profile_env_get(chain->env, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

static int chain_container(struct aws_source **ret)
{
	*ret = source_new(AWS_CONTAINER, NULL, "the container's role", "");
	return *ret ? 0 : -ENOMEM;
}

static int chain_instance(struct aws_source **ret)
{
	*ret = source_new(AWS_INSTANCE, NULL, "the instance's role", " (EC2 metadata)");
	return *ret ? 0 : -ENOMEM;
}

/* ---- roles ---- */

static int chain_profile(struct chain *chain, const char *profile, bool is_source, struct aws_source **ret);

static int role_source_named(struct chain *chain, const char *profile, const char *name,
			     struct aws_source **ret)
{
	int r = -ENOENT;
	if (!strcmp(name, "Environment"))
		r = chain_env(chain, ret);
	else if (!strcmp(name, "Ec2InstanceMetadata"))
		return chain_instance(ret);
	else if (strcmp(name, "EcsContainer") != 0)
		return fault_set(chain->fault, EINVAL,
				 "profile %s: credential_source is %s: Environment, Ec2InstanceMetadata or "
				 "EcsContainer is wanted",
				 profile, name);
	else if (has_container(chain))
		return chain_container(ret);
	if (r == -ENOENT)
		return fault_set(chain->fault, EACCES,
				 "profile %s: credential_source is %s, but no credentials are there", profile,
				 name);
	return r;
}

/* A profile may lead to itself only when it holds keys: those sign. */
static int role_check_visited(struct chain *chain, const char *profile, const char *source)
{
	if (!profile_exists(chain->files, source))
		return fault_set(chain->fault, EINVAL, "profile %s: its source_profile %s does not exist",
				 profile, source);
	if (!strcmp(profile, source) && has_static_keys(chain, source))
		return 0;
	for (size_t i = 0; i < chain->n_visited; i++) {
		if (!strcmp(chain->visited[i], source))
			return fault_set(chain->fault, EINVAL,
					 "profile %s: its source_profile %s leads back to it", profile,
					 source);
	}
	if (chain->n_visited == AWS_ROLE_DEPTH_MAX)
		return fault_set(chain->fault, EINVAL, "profile %s: more than %d roles one after the other",
				 profile, AWS_ROLE_DEPTH_MAX);
	return 0;
}

static int role_source_profile(struct chain *chain, const char *profile, const char *source,
			       struct aws_source **ret)
{
	int r = role_check_visited(chain, profile, source);
	if (r == 0)
		r = chain_profile(chain, source, true, ret);
	if (r == -ENOENT)
		return fault_set(chain->fault, EACCES, "profile %s: its source_profile %s has no credentials",
				 profile, source);
	return r;
}

static int role_duration(struct chain *chain, const char *profile, int64_t *ret)
{
	const char *text = profile_get(chain->files, profile, "duration_seconds");
	if (!text || str_to_int(text, 900, 43200, ret) == 0)
		return 0;
	return fault_set(chain->fault, EINVAL,
			 "profile %s: duration_seconds: a number from 900 to 43200 is wanted", profile);
}

static int role_check(struct chain *chain, const char *profile, const char *source, const char *kind)
{
	if (source && kind)
		return fault_set(chain->fault, EINVAL,
				 "profile %s has a source_profile and a credential_source: one is wanted",
				 profile);
	if (!source && !kind)
		return fault_set(
			chain->fault, EINVAL,
			"profile %s has a role_arn, but neither source_profile nor credential_source",
			profile);
	if (profile_get(chain->files, profile, "mfa_serial"))
		return fault_set(
			chain->fault, EACCES,
			"profile %s wants a code (mfa_serial), which a mount cannot ask for: use `aws sso "
			"login`, or a profile with `credential_process = aws configure export-credentials "
			"--profile %s`",
			profile, profile);
	return 0;
}

static int chain_role(struct chain *chain, const char *profile, struct aws_source **ret)
{
	const struct profile_files *files = chain->files;
	const char *arn = profile_get(files, profile, "role_arn");
	if (!arn || profile_get(files, profile, "web_identity_token_file"))
		return -ENOENT;
	const char *source_profile = profile_get(files, profile, "source_profile");
	const char *named = profile_get(files, profile, "credential_source");
	int r = role_check(chain, profile, source_profile, named);
	if (r < 0)
		return r;
	cleanup_source struct aws_source *source =
		source_of_profile(AWS_ROLE, profile, "role", files->config_path);
	r = source ? str_dup(arn, &source->role_arn) : -ENOMEM;
	if (r == 0)
		r = str_dup(profile_get(files, profile, "role_session_name"), &source->session_name);
	if (r == 0)
		r = str_dup(profile_get(files, profile, "external_id"), &source->external_id);
	if (r == 0)
		r = role_duration(chain, profile, &source->duration_s);
	if (r == 0 && chain->n_visited < AWS_ROLE_DEPTH_MAX)
		chain->visited[chain->n_visited++] = profile;
	if (r == 0 && source_profile)
		r = role_source_profile(chain, profile, source_profile, &source->source);
	else if (r == 0)
		r = role_source_named(chain, profile, named, &source->source);
	if (r == 0)
		*ret = STEAL(source);
	return r;
}

/* ---- web identity, single sign-on, process ---- */

static int chain_web(struct chain *chain, const char *profile, const char *arn, const char *file,
		     const char *session, struct aws_source **ret)
{
	if (!file)
		return -ENOENT;
	if (!arn)
		return fault_set(chain->fault, EINVAL,
				 "a web identity token file is set, but no role (AWS_ROLE_ARN, role_arn)");
	cleanup_source struct aws_source *source =
		profile ? source_of_profile(AWS_WEB, profile, "web identity", chain->files->config_path)
			: source_new(AWS_WEB, NULL, "AWS_WEB_IDENTITY_TOKEN_FILE", " in the environment");
	int r = source ? str_dup(arn, &source->role_arn) : -ENOMEM;
	if (r == 0)
		r = str_dup(session, &source->session_name);
	if (r == 0)
		r = str_dup(file, &source->token_file);
	if (r == 0)
		*ret = STEAL(source);
	return r;
}

static int chain_web_env(struct chain *chain, struct aws_source **ret)
{
	return chain_web(chain, NULL, profile_env_get(chain->env, "AWS_ROLE_ARN"),
			 profile_env_get(chain->env, "AWS_WEB_IDENTITY_TOKEN_FILE"),
			 profile_env_get(chain->env, "AWS_ROLE_SESSION_NAME"), ret);
}

static int chain_web_profile(struct chain *chain, const char *profile, struct aws_source **ret)
{
	return chain_web(chain, profile, profile_get(chain->files, profile, "role_arn"),
			 profile_get(chain->files, profile, "web_identity_token_file"),
			 profile_get(chain->files, profile, "role_session_name"), ret);
}

static int chain_sso(struct chain *chain, const char *profile, struct aws_source **ret)
{
	const struct profile_files *files = chain->files;
	const char *account = profile_get(files, profile, "sso_account_id");
	const char *role = profile_get(files, profile, "sso_role_name");
	const char *session = profile_get(files, profile, "sso_session");
	if (!account && !role)
		return -ENOENT;
	const char *url =
		session ? profile_get_config(files, PROFILE_SSO_SESSION, session, "sso_start_url", NULL)
			: profile_get(files, profile, "sso_start_url");
	const char *region =
		session ? profile_get_config(files, PROFILE_SSO_SESSION, session, "sso_region", NULL)
			: profile_get(files, profile, "sso_region");
	if (!account || !role || !url || !region)
		return fault_set(
			chain->fault, EINVAL,
			"profile %s: %s is missing for single sign-on: `aws configure sso --profile %s`",
			profile,
			!account ? "sso_account_id"
			: !role  ? "sso_role_name"
			: !url   ? "sso_start_url"
				 : "sso_region",
			profile);
	cleanup_source struct aws_source *source =
		source_of_profile(AWS_SSO, profile, "single sign-on", files->config_path);
	int r = source ? str_dup(session ?: url, &source->sso_cache_key) : -ENOMEM;
	if (r == 0)
		r = str_dup(region, &source->sso_region);
	if (r == 0)
		r = str_dup(account, &source->sso_account);
	if (r == 0)
		r = str_dup(role, &source->sso_role);
	if (r < 0)
		return r;
	source->is_sso_session = session;
	*ret = STEAL(source);
	return 0;
}

static int chain_login(struct chain *chain, const char *profile)
{
	if (!profile_get(chain->files, profile, "login_session"))
		return -ENOENT;
	return fault_set(chain->fault, EACCES,
			 "profile %s is one of `aws login`, which is not supported: add a profile with "
			 "`credential_process = aws configure export-credentials --profile %s`",
			 profile, profile);
}

static int chain_process(struct chain *chain, const char *profile, struct aws_source **ret)
{
	const char *command = profile_get(chain->files, profile, "credential_process");
	if (!command)
		return -ENOENT;
	cleanup_source struct aws_source *source =
		source_of_profile(AWS_PROCESS, profile, "credential_process", chain->files->config_path);
	int r = source ? str_dup(command, &source->command) : -ENOMEM;
	if (r == 0)
		*ret = STEAL(source);
	return r;
}

/* ---- the order ---- */

/* -ENOENT: the profile has no credentials. `is_source`: another profile's role is signed by it; its keys come first. */
static int chain_profile(struct chain *chain, const char *profile, bool is_source, struct aws_source **ret)
{
	int r = is_source && has_static_keys(chain, profile) ? -ENOENT : chain_role(chain, profile, ret);
	if (r == -ENOENT && !is_source && !chain->is_explicit)
		r = chain_web_env(chain, ret);
	if (r == -ENOENT)
		r = chain_web_profile(chain, profile, ret);
	if (r == -ENOENT)
		r = chain_sso(chain, profile, ret);
	if (r == -ENOENT)
		r = chain_keys(chain, profile, true, ret);
	if (r == -ENOENT)
		r = chain_login(chain, profile);
	if (r == -ENOENT)
		r = chain_process(chain, profile, ret);
	if (r == -ENOENT)
		r = chain_keys(chain, profile, false, ret);
	return r;
}

int aws_chain(const struct profile_env *env, const struct profile_files *files, const char *profile,
	      struct aws_source **ret, struct fault *reterr)
{
	struct chain chain = {.env = env, .files = files, .is_explicit = profile, .fault = reterr};
	const char *name = aws_profile_name(env, profile);
	int r = profile ? -ENOENT : chain_env(&chain, ret);
	if (r == -ENOENT && strcmp(name, "default") != 0 && !profile_exists(files, name))
		return fault_set(
			reterr, EACCES,
			"profile %s is in neither %s nor %s: `aws configure --profile %s`, or name another",
			name, files->config_path ?: "~/.aws/config",
			files->credentials_path ?: "~/.aws/credentials", name);
	if (r == -ENOENT)
		r = chain_profile(&chain, name, false, ret);
	if (r == -ENOENT && has_container(&chain))
		r = chain_container(ret);
	if (r == -ENOENT && !profile_env_is_true(env, "AWS_EC2_METADATA_DISABLED"))
		r = chain_instance(ret);
	if (r == -ENOENT)
		return fault_set(
			reterr, EACCES,
			"no AWS credentials in the environment or profile %s: `aws configure`, `aws sso "
			"login`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
			name);
	return r;
}
