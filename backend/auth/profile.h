/* SPDX-License-Identifier: MIT */
/*
 * What a person has set up on this machine for the clouds' own tools: environment variables, and the AWS files
 * ~/.aws/config and ~/.aws/credentials. The only place of auth/ that reads the environment.
 * https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "auth/ini.h"
#include "fault.h"

/* ---- the environment, as found ---- */

/* The variables that matter here (AWS_*, GOOGLE_*, HOME ...), "NAME=VALUE". */
struct profile_env {
	char **pair;
	size_t n;
};

/* This process's; HOME from the user database if it is not set. -ENOMEM. Not while another thread sets variables. */
int profile_env_read(struct profile_env *ret);
/* From "NAME=VALUE" texts, NULL at the end; for tests. -ENOMEM. */
int profile_env_from(const char *const *pairs, struct profile_env *ret);
void profile_env_release(struct profile_env *env); /* takes a zeroed one; wipes */
int profile_env_copy(const struct profile_env *env, struct profile_env *ret);
/* NULL when it is not set, or empty. Borrowed. */
const char *profile_env_get(const struct profile_env *env, const char *name);
/* "true", "1", "yes", "on" without case. */
bool profile_env_is_true(const struct profile_env *env, const char *name);
/* `path` with a leading "~/" made absolute; new. -ENOENT: no home directory is known. -ENOMEM. */
int profile_expand_home(const struct profile_env *env, const char *path, char **ret);

/*
 * A small file that a person or a tool keeps, symlinks followed, as text for secret_free. -ENOENT; -EFBIG over `max`;
 * -EACCES: it cannot be read, and why. The sentence names the path.
 */
int profile_read(const char *path, size_t max, char **ret, size_t *ret_len /* may be NULL */,
		 struct fault *reterr);

/* ---- the AWS files ---- */

struct profile_files {
	struct ini config, credentials;
	char *config_path, *credentials_path; /* for people too */
};

/* Reads both. A file that is not there is empty. -EINVAL, naming file and line; -EACCES: not readable; -EFBIG. */
int profile_files_read(const struct profile_env *env, struct profile_files *ret, struct fault *reterr);
void profile_files_release(struct profile_files *files); /* takes a zeroed one; wipes */

/* A profile's, session's or service group's settings in one of the files. */
enum profile_kind { PROFILE_PLAIN, PROFILE_SSO_SESSION, PROFILE_SERVICES };

bool profile_exists(const struct profile_files *files, const char *profile);
/* Of a profile: the credentials file's, else the config file's; NULL when not set, or empty. Borrowed. */
const char *profile_get(const struct profile_files *files, const char *profile, const char *key);
/* Of one file only: keys may come from one or the other. */
const char *profile_get_credentials(const struct profile_files *files, const char *profile, const char *key);
const char *profile_get_config(const struct profile_files *files, enum profile_kind kind, const char *name,
			       const char *key, const char *sub /* NULL: not nested */);
