/* SPDX-License-Identifier: MIT */
/* Finds settings: in the environment, and in two files whose sections are named in two ways. */
#include "auth/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "auth/secret.h"
#include "cleanup.h"
#include "file.h"
#include "str.h"

enum { PASSWD_MAX = 16 << 10 };

/* ---- the environment ---- */

static bool env_is_wanted(const char *pair)
{
	static const char *const prefix[] = {
		"AWS_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "GCE_", "NO_GCE_CHECK=", "STORAGE_EMULATOR_HOST=",
		"HOME="};
	for (size_t i = 0; i < sizeof(prefix) / sizeof(prefix[0]); i++) {
		if (str_has_prefix(pair, prefix[i]))
			return true;
	}
	return false;
}

static int env_add(struct profile_env *env, const char *pair)
{
	char **more = reallocarray(env->pair, env->n + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	env->pair = more;
	env->pair[env->n] = strdup(pair);
	if (!env->pair[env->n])
		return -ENOMEM;
	env->n++;
	return 0;
}

static int env_add_all(const char *const *pairs, struct profile_env *ret)
{
	struct profile_env env = {0};
	for (; pairs && *pairs; pairs++) {
		if (!env_is_wanted(*pairs) || env_add(&env, *pairs) == 0)
			continue;
		profile_env_release(&env);
		return -ENOMEM;
	}
	*ret = env;
	return 0;
}

/* A daemon started by fstab has no HOME. */
static int env_add_home(struct profile_env *env)
{
	struct passwd entry, *found = NULL;
	cleanup_free char *text = malloc(PASSWD_MAX);
	cleanup_free char *pair = NULL;
	if (!text)
		return -ENOMEM;
	if (getpwuid_r(geteuid(), &entry, text, PASSWD_MAX, &found) != 0 || !found)
		return 0;
	int r = str_format(&pair, "HOME=%s", entry.pw_dir);
	return r ?: env_add(env, pair);
}

int profile_env_read(struct profile_env *ret)
{
	struct profile_env env = {0};
	int r = env_add_all((const char *const *)environ, &env);
	if (r == 0 && !profile_env_get(&env, "HOME"))
		r = env_add_home(&env);
	if (r < 0)
		profile_env_release(&env);
	else
		*ret = env;
	return r;
}

int profile_env_from(const char *const *pairs, struct profile_env *ret)
{
	return env_add_all(pairs, ret);
}

int profile_env_copy(const struct profile_env *env, struct profile_env *ret)
{
	struct profile_env copy = {0};
	for (size_t i = 0; i < env->n; i++) {
		if (env_add(&copy, env->pair[i]) == 0)
			continue;
		profile_env_release(&copy);
		return -ENOMEM;
	}
	*ret = copy;
	return 0;
}

void profile_env_release(struct profile_env *env)
{
	for (size_t i = 0; i < env->n; i++)
		secret_free(env->pair[i]);
	free(env->pair);
	*env = (struct profile_env){0};
}

const char *profile_env_get(const struct profile_env *env, const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < env->n; i++) {
		const char *pair = env->pair[i];
		if (!strncmp(pair, name, n) && pair[n] == '=')
			return pair[n + 1] ? pair + n + 1 : NULL;
	}
	return NULL;
}

bool profile_env_is_true(const struct profile_env *env, const char *name)
{
	const char *value = profile_env_get(env, name);
	return value && (!strcasecmp(value, "true") || !strcasecmp(value, "yes") ||
			 !strcasecmp(value, "on") || !strcmp(value, "1"));
}

int profile_expand_home(const struct profile_env *env, const char *path, char **ret)
{
	if (!str_has_prefix(path, "~/"))
		return str_dup(path, ret);
	const char *home = profile_env_get(env, "HOME");
	return home ? str_format(ret, "%s%s", home, path + 1) : -ENOENT;
}

/* ---- the AWS files ---- */

int profile_read(const char *path, size_t max, char **ret, size_t *ret_len, struct fault *reterr)
{
	cleanup_free char *real = realpath(path, NULL); /* the reader itself follows no symlink */
	int r = real ? file_read_all(AT_FDCWD, real, max, ret, ret_len) : -errno;
	if (r == 0 || r == -ENOMEM)
		return r;
	int err = r == -ENOENT || r == -ENOTDIR ? ENOENT : r == -EFBIG ? EFBIG : EACCES;
	return fault_set(reterr, err, "%s cannot be read: %s", path, strerrordesc_np(-r));
}

static int read_file(const char *path, struct ini *ret, struct fault *reterr)
{
	cleanup_secret_free char *text = NULL;
	size_t n;
	struct fault fault = {0};
	if (strcmp(path, "/dev/null") == 0) /* how people say: none */
		return 0;
	int r = profile_read(path, INI_SIZE_MAX, &text, &n, reterr);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = ini_parse(text, n, ret, &fault);
	if (r < 0 && r != -ENOMEM)
		return fault_set(reterr, -r, "%s, %s", path, fault.text);
	return r;
}

static int find_file(const struct profile_env *env, const char *variable, const char *usual, char **ret)
{
	return profile_expand_home(env, profile_env_get(env, variable) ?: usual, ret);
}

int profile_files_read(const struct profile_env *env, struct profile_files *ret, struct fault *reterr)
{
	struct profile_files files = {0};
	int r = find_file(env, "AWS_CONFIG_FILE", "~/.aws/config", &files.config_path);
	if (r == 0)
		r = read_file(files.config_path, &files.config, reterr);
	if (r == 0 || r == -ENOENT)
		r = find_file(env, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials",
			      &files.credentials_path);
	if (r == 0)
		r = read_file(files.credentials_path, &files.credentials, reterr);
	if (r == -ENOENT)
		r = 0; /* no home directory: no files */
	if (r < 0)
		profile_files_release(&files);
	else
		*ret = files;
	return r;
}

void profile_files_release(struct profile_files *files)
{
	ini_release(&files->config);
	ini_release(&files->credentials);
	free(files->config_path);
	free(files->credentials_path);
	*files = (struct profile_files){0};
}

/* NAME, 'NAME' or "NAME" (with \" and \\ in it) stand for `name`. */
static bool is_quoted_name(const char *text, const char *name)
{
	char quote = *text == '"' || *text == '\'' ? *text++ : '\0';
	for (; *text && *text != quote; text++, name++) {
		if (quote == '"' && *text == '\\' && (text[1] == '"' || text[1] == '\\'))
			text++;
		if (*text != *name)
			return false;
	}
	return *name == '\0' && (quote ? text[0] == quote && text[1] == '\0' : *text == '\0');
}

/* "profile NAME" and the like: the blank between them may be any. */
static bool is_prefixed(const char *section, const char *prefix, const char *name)
{
	size_t n = strlen(prefix);
	if (strncmp(section, prefix, n) != 0 || (section[n] != ' ' && section[n] != '\t'))
		return false;
	return is_quoted_name(section + n + strspn(section + n, " \t"), name);
}

static bool is_section(const char *section, enum profile_kind kind, const char *name)
{
	switch (kind) {
	case PROFILE_SSO_SESSION:
		return is_prefixed(section, "sso-session", name);
	case PROFILE_SERVICES:
		return is_prefixed(section, "services", name);
	case PROFILE_PLAIN:
		break;
	}
	return is_prefixed(section, "profile", name) || (!strcmp(name, "default") && !strcmp(section, name));
}

static const char *empty_is_none(const char *value)
{
	return value && *value ? value : NULL;
}

const char *profile_get_config(const struct profile_files *files, enum profile_kind kind, const char *name,
			       const char *key, const char *sub)
{
	for (size_t i = files->config.n; i-- > 0;) {
		const struct ini_value *value = &files->config.value[i];
		bool is_same_sub = sub ? value->sub && !strcmp(value->sub, sub) : !value->sub;
		if (is_same_sub && !strcmp(value->key, key) && is_section(value->section, kind, name))
			return empty_is_none(value->value);
	}
	return NULL;
}

const char *profile_get_credentials(const struct profile_files *files, const char *profile, const char *key)
{
	for (size_t i = files->credentials.n; i-- > 0;) {
		const struct ini_value *value = &files->credentials.value[i];
		if (!value->sub && !strcmp(value->key, key) && !strcmp(value->section, profile))
			return empty_is_none(value->value);
	}
	return NULL;
}

const char *profile_get(const struct profile_files *files, const char *profile, const char *key)
{
	return profile_get_credentials(files, profile, key)
		       ?: profile_get_config(files, PROFILE_PLAIN, profile, key, NULL);
}

bool profile_exists(const struct profile_files *files, const char *profile)
{
	for (size_t i = 0; i < files->config.n; i++) {
		if (is_section(files->config.value[i].section, PROFILE_PLAIN, profile))
			return true;
	}
	for (size_t i = 0; i < files->credentials.n; i++) {
		if (!strcmp(files->credentials.value[i].section, profile))
			return true;
	}
	return false;
}
