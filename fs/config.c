/* SPDX-License-Identifier: MIT */
/*
 * Reads config.yaml into struct config: fields that fs/ knows are taken out and get their defaults, the rest of a
 * remote goes to its backend as it is. The only place that looks at the environment.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "quote.h"
#include "str.h"
#include "yaml.h"

enum { SETTLE_DEFAULT_MS = 1000, METADATA_DEFAULT_MS = 10000, METADATA_MIN_MS = 1000 };
#define MAX_PACKAGE_DEFAULT  INT64_C(500000000)
#define CACHE_SIZE_DEFAULT   INT64_C(10000000000)
#define CACHE_MEMORY_DEFAULT INT64_C(256000000)

static bool is_duration(const char *text)
{
	int64_t ms;
	return str_to_duration_ms(text, &ms) == 0;
}

static bool is_metadata_time(const char *text)
{
	int64_t ms;
	return str_to_duration_ms(text, &ms) == 0 && ms >= METADATA_MIN_MS;
}

static bool is_size(const char *text)
{
	int64_t bytes;
	return str_to_size(text, &bytes) == 0;
}

static bool is_path(const char *text)
{
	return *text == '/' || str_has_prefix(text, "~/");
}

#define A_PATH "a path that begins with / or ~/"
#define A_TIME "a time such as 500ms, 1s or 2m"
#define A_SIZE "a size such as 500MB or 10GB"

static const struct yaml_field cache_fields[] = {
	{"dir", YAML_FIELD_TEXT, .check = is_path, .expects = A_PATH},
	{"size", YAML_FIELD_TEXT, .check = is_size, .expects = A_SIZE},
	{"memory", YAML_FIELD_TEXT, .check = is_size, .expects = A_SIZE},
	{NULL},
};

static const struct yaml_field config_fields[] = {
	{"remotes", YAML_FIELD_ANY_MAP},
	{"settle", YAML_FIELD_TEXT, .check = is_duration, .expects = A_TIME},
	{"metadata_time", YAML_FIELD_TEXT, .check = is_metadata_time, .expects = "a time of 1s or more"},
	{"max_package", YAML_FIELD_TEXT, .check = is_size, .expects = A_SIZE},
	{"cache", YAML_FIELD_STRUCT, .fields = cache_fields},
	{NULL},
};

static const struct yaml_field remote_fields[] = {
	{"type", YAML_FIELD_TEXT, .check = str_is_plain_name, .expects = "a type such as local"},
	{"state_dir", YAML_FIELD_TEXT, .check = is_path, .expects = A_PATH},
	{"settle", YAML_FIELD_TEXT, .check = is_duration, .expects = A_TIME},
	{"metadata_time", YAML_FIELD_TEXT, .check = is_metadata_time, .expects = "a time of 1s or more"},
	{"max_package", YAML_FIELD_TEXT, .check = is_size, .expects = A_SIZE},
	{"confirm", YAML_FIELD_BOOL},
	{NULL},
};

/* ---- the environment */

const char *config_environment(const char *name)
{
	return getenv(name);
}

static int home_dir(char **ret)
{
	const char *home = getenv("HOME");
	if (home && *home == '/')
		return str_format(ret, "%s", home);
	struct passwd entry, *found = NULL;
	cleanup_free char *buffer = malloc(16384);
	if (!buffer)
		return -ENOMEM;
	if (getpwuid_r(geteuid(), &entry, buffer, 16384, &found) != 0 || !found || found->pw_dir[0] != '/')
		return -ENOENT;
	return str_format(ret, "%s", found->pw_dir);
}

/* An XDG directory with /trainfs behind it; `fallback` is below the home directory. */
static int xdg_dir(const char *variable, const char *fallback, char **ret)
{
	cleanup_free char *home = NULL;
	const char *dir = getenv(variable);
	if (dir && *dir == '/')
		return str_format(ret, "%s/trainfs", dir);
	int r = home_dir(&home);
	if (r < 0)
		return r;
	return str_format(ret, "%s/%s/trainfs", home, fallback);
}

int config_dir(char **ret)
{
	return xdg_dir("XDG_CONFIG_HOME", ".config", ret);
}

static int expand_home(const char *path, char **ret)
{
	cleanup_free char *home = NULL;
	if (!str_has_prefix(path, "~/"))
		return str_format(ret, "%s", path);
	int r = home_dir(&home);
	if (r < 0)
		return r;
	return str_format(ret, "%s/%s", home, path + 2);
}

/* What tells this machine from others that share a home directory. */
static int machine_name(char **ret)
{
	char text[256] = "";
	cleanup_fclose FILE *file = fopen("/etc/machine-id", "re");
	if (file && fgets(text, sizeof(text), file))
		text[strcspn(text, " \t\r\n")] = '\0';
	if (text[0] == '\0' && gethostname(text, sizeof(text) - 1) < 0)
		return -errno;
	return str_make_plain_name(text, ret);
}

/* ---- remotes */

static void remote_release(struct remote_conf *remote)
{
	free(remote->name);
	free(remote->type);
	json_decref(remote->options);
	free(remote->state_dir);
	memset(remote, 0, sizeof(*remote));
}

static void remote_release_local(struct remote_conf *remote)
{
	remote_release(remote);
}
#define cleanup_remote __attribute__((cleanup(remote_release_local)))

void config_release(struct config *config)
{
	for (size_t i = 0; i < config->n_remotes; i++)
		remote_release(&config->remote[i]);
	free(config->remote);
	free(config->path);
	json_decref(config->cache);
	memset(config, 0, sizeof(*config));
}

static void config_release_local(struct config *config)
{
	config_release(config);
}
#define cleanup_config __attribute__((cleanup(config_release_local)))

static int default_state_dir(const struct remote_conf *remote, char **ret)
{
	cleanup_free char *data = NULL;
	cleanup_free char *machine = NULL;
	int r = xdg_dir("XDG_DATA_HOME", ".local/share", &data);
	if (r < 0)
		return r;
	if (strcmp(remote->type, "local") != 0)
		return str_format(ret, "%s/%s", data, remote->name);
	r = machine_name(&machine);
	if (r < 0)
		return r;
	return str_format(ret, "%s/%s/%s", data, remote->name, machine);
}

/* `~/` at the beginning of an option is the home directory, whatever its backend makes of it. */
static int expand_options(json_t *options)
{
	const char *key;
	json_t *value;
	void *next;
	json_object_foreach_safe(options, next, key, value)
	{
		cleanup_free char *path = NULL;
		if (!json_is_string(value) || !str_has_prefix(json_string_value(value), "~/"))
			continue;
		int r = expand_home(json_string_value(value), &path);
		if (r < 0)
			return r;
		if (json_object_set_new(options, key, json_string(path)) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* A field of the remote, else of the top, else NULL. */
static const char *setting(const json_t *remote, const json_t *top, const char *name)
{
	const char *text = json_string_value(json_object_get(remote, name));
	return text ? text : json_string_value(json_object_get(top, name));
}

/* `given` are the fields of remote_fields, `top` those of config_fields; both may be NULL. */
static int remote_fill(struct remote_conf *remote, const json_t *given, const json_t *top)
{
	const char *settle = setting(given, top, "settle");
	const char *metadata = setting(given, top, "metadata_time");
	const char *max_package = setting(given, top, "max_package");
	const char *state_dir = json_string_value(json_object_get(given, "state_dir"));
	bool is_local = strcmp(remote->type, "local") == 0;
	remote->settle_ms = SETTLE_DEFAULT_MS;
	remote->metadata_ms = METADATA_DEFAULT_MS;
	remote->max_package_bytes = is_local ? 0 : MAX_PACKAGE_DEFAULT;
	remote->confirm = json_is_true(json_object_get(given, "confirm"));
	if (settle && str_to_duration_ms(settle, &remote->settle_ms) < 0)
		return -EINVAL;
	if (metadata && str_to_duration_ms(metadata, &remote->metadata_ms) < 0)
		return -EINVAL;
	if (max_package && str_to_size(max_package, &remote->max_package_bytes) < 0)
		return -EINVAL;
	int r = expand_options(remote->options);
	if (r < 0)
		return r;
	return state_dir ? expand_home(state_dir, &remote->state_dir)
			 : default_state_dir(remote, &remote->state_dir);
}

static int config_add(struct config *config, struct remote_conf *remote)
{
	struct remote_conf *grown = reallocarray(config->remote, config->n_remotes + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	config->remote = grown;
	config->remote[config->n_remotes++] = *remote;
	memset(remote, 0, sizeof(*remote));
	return 0;
}

static const struct remote_conf *find_state_dir(const struct config *config, const char *state_dir)
{
	for (size_t i = 0; i < config->n_remotes; i++)
		if (strcmp(config->remote[i].state_dir, state_dir) == 0)
			return &config->remote[i];
	return NULL;
}

static int check_remote_name(const struct yaml *yaml, const struct yaml_node *node, struct fault *reterr)
{
	char shown[QUOTE_MAX];
	const char *name = node->key->text;
	if (!str_is_plain_name(name))
		return yaml_fault(
			yaml, node->key, reterr,
			"`%s` cannot be a remote's name: that is at most 128 letters, digits, `.`, `_` and "
			"`-`, the first a letter or digit",
			quote(name, shown));
	if (strcmp(name, "README.md") == 0)
		return yaml_fault(yaml, node->key, reterr,
				  "`README.md` is a file of the mount, not a remote's name");
	return 0;
}

static int config_remote(struct config *config, const struct yaml *yaml, const struct yaml_node *node,
			 const json_t *top, struct fault *reterr)
{
	cleanup_remote struct remote_conf remote = {0};
	cleanup_json json_t *given = NULL;
	const char *name = node->key->text;
	int r = check_remote_name(yaml, node, reterr);
	if (r < 0)
		return r;
	r = yaml_walk(yaml, node, remote_fields, &given, &remote.options, reterr);
	if (r < 0)
		return r;
	const char *type = json_string_value(json_object_get(given, "type"));
	if (!type && strcmp(name, "local") != 0)
		return yaml_fault(yaml, node->key, reterr, "the remote `%s` has no `type`", name);
	remote.name = strdup(name);
	remote.type = strdup(type ? type : "local");
	if (!remote.name || !remote.type)
		return -ENOMEM;
	r = remote_fill(&remote, given, top);
	if (r < 0)
		return r;
	const struct remote_conf *other = find_state_dir(config, remote.state_dir);
	if (other)
		return yaml_fault(yaml, node->key, reterr,
				  "the remotes `%s` and `%s` have the same state_dir", other->name, name);
	return config_add(config, &remote);
}

/* The remote `local` is always there. */
static int config_add_local(struct config *config, const json_t *top)
{
	cleanup_remote struct remote_conf remote = {0};
	for (size_t i = 0; i < config->n_remotes; i++)
		if (strcmp(config->remote[i].name, "local") == 0)
			return 0;
	remote.name = strdup("local");
	remote.type = strdup("local");
	remote.options = json_object();
	if (!remote.name || !remote.type || !remote.options)
		return -ENOMEM;
	int r = remote_fill(&remote, NULL, top);
	if (r < 0)
		return r;
	return config_add(config, &remote);
}

static int64_t size_or(const json_t *object, const char *name, int64_t otherwise)
{
	const char *text = json_string_value(json_object_get(object, name));
	int64_t bytes;
	return text && str_to_size(text, &bytes) == 0 ? bytes : otherwise;
}

static int config_cache(struct config *config, const json_t *top)
{
	cleanup_free char *dir = NULL;
	const json_t *cache = json_object_get(top, "cache");
	const char *given = json_string_value(json_object_get(cache, "dir"));
	int r = given ? expand_home(given, &dir) : xdg_dir("XDG_CACHE_HOME", ".cache", &dir);
	if (r < 0)
		return r;
	config->cache = json_pack("{s:s, s:I, s:I}", "dir", dir, "memory",
				  (json_int_t)size_or(cache, "memory", CACHE_MEMORY_DEFAULT), "size",
				  (json_int_t)size_or(cache, "size", CACHE_SIZE_DEFAULT));
	return config->cache ? 0 : -ENOMEM;
}

static int config_fill(struct config *config, const struct yaml *yaml, struct fault *reterr)
{
	cleanup_json json_t *top = NULL;
	int r = yaml_walk(yaml, yaml->root, config_fields, &top, NULL, reterr);
	if (r < 0)
		return r;
	const struct yaml_node *remotes = yaml_get(yaml->root, "remotes");
	for (const struct yaml_node *node = remotes ? remotes->child : NULL; node; node = node->next) {
		r = config_remote(config, yaml, node, top, reterr);
		if (r < 0)
			return r;
	}
	r = config_add_local(config, top);
	if (r < 0)
		return r;
	return config_cache(config, top);
}

/* ---- the file */

/* The path to read; `ret_is_given`: it was asked for, so it must be there. */
static int config_find(const char *path, char **ret, bool *ret_is_given)
{
	cleanup_free char *dir = NULL;
	const char *given = path ? path : getenv("TRAINFS_CONFIG");
	*ret_is_given = given && *given;
	if (*ret_is_given)
		return str_format(ret, "%s", given);
	int r = config_dir(&dir);
	if (r < 0)
		return r;
	return str_format(ret, "%s/config.yaml", dir);
}

/* The text of the file; -ENOENT without a sentence when it is not there and need not be. */
static int config_read(const char *path, bool is_given, char **ret, size_t *ret_n, struct fault *reterr)
{
	struct stat st;
	char shown[QUOTE_MAX];
	quote(path, shown);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && !is_given && (errno == ENOENT || errno == ENOTDIR))
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_set(reterr, errno, "the configuration %s cannot be read: %s", shown,
				 strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
		return fault_set(reterr, EINVAL, "the configuration %s is no plain file", shown);
	int r = yaml_read(fd, ret, ret_n);
	if (r == -EFBIG)
		return fault_set(reterr, EFBIG, "the configuration %s is larger than 1 MiB", shown);
	if (r < 0)
		return fault_set(reterr, -r, "the configuration %s cannot be read: %s", shown, strerror(-r));
	return 0;
}

static int load(const char *path, struct config *config, struct fault *reterr)
{
	cleanup_free char *found = NULL;
	cleanup_free char *text = NULL;
	cleanup_yaml struct yaml yaml = {0};
	size_t n = 0;
	bool is_given;
	int r = config_find(path, &found, &is_given);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT,
				 "there is no home directory: set HOME, or XDG_CONFIG_HOME and "
				 "XDG_DATA_HOME");
	if (r < 0)
		return r;
	r = config_read(found, is_given, &text, &n, reterr);
	if (r < 0 && (r != -ENOENT || is_given))
		return r;
	if (r == 0) {
		r = yaml_parse(found, text, n, str_has_suffix(found, ".json"), EINVAL, &yaml, reterr);
		if (r < 0)
			return r;
		config->path = STEAL(found);
	}
	return config_fill(config, &yaml, reterr);
}

int config_load(const char *path, struct config *ret, struct fault *reterr)
{
	cleanup_config struct config config = {0};
	struct fault fault = {0};
	int r = load(path, &config, &fault);
	if (r < 0) {
		if (fault.err == 0)
			(void)fault_set(&fault, -r, "the configuration cannot be made: %s", strerror(-r));
		if (reterr)
			*reterr = fault;
		return r;
	}
	*ret = config;
	memset(&config, 0, sizeof(config));
	return 0;
}
