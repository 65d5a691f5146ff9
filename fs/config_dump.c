/* SPDX-License-Identifier: MIT */
/* Writes the effective configuration as YAML that config_load reads again, the masked values apart. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "cleanup.h"
#include "str.h"
#include "yaml.h"

static const char masked[] = "***";

/* Does a field of this name hold a secret? `key_file` and the like hold a path. */
static bool is_secret_name(const char *name)
{
	static const char *const words[] = {"password", "passwd", "token", "secret", "key", "credential"};
	if (str_has_suffix(name, "_file") || str_has_suffix(name, "_path") || str_has_suffix(name, "_env"))
		return false;
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strcasestr(name, words[i]))
			return true;
	return false;
}

/* A URL with a password in it: what stands before the @. */
static json_t *mask_text(const char *text)
{
	const char *host = strstr(text, "://");
	if (!host)
		return json_string(text);
	host += 3;
	size_t n = strcspn(host, "/?#");
	const char *at = memrchr(host, '@', n);
	if (!at)
		return json_string(text);
	return json_sprintf("%.*s%s%s", (int)(host - text), text, masked, at);
}

/* **new**; depth is bounded by the parser of the configuration. */
static json_t *mask(const json_t *value)
{
	const char *key;
	json_t *child;
	size_t i;
	if (json_is_string(value))
		return mask_text(json_string_value(value));
	if (!json_is_object(value) && !json_is_array(value))
		return json_incref((json_t *)value);
	cleanup_json json_t *copy = json_is_object(value) ? json_object() : json_array();
	if (!copy)
		return NULL;
	if (json_is_array(value)) {
		json_array_foreach (value, i, child)
			if (json_array_append_new(copy, mask(child)) < 0)
				return NULL;
		return STEAL(copy);
	}
	json_object_foreach ((json_t *)value, key, child)
		if (json_object_set_new(copy, key, is_secret_name(key) ? json_string(masked) : mask(child)) <
		    0)
			return NULL;
	return STEAL(copy);
}

/* Can it stand without quotes, and stay a text? */
static bool is_plain_text(const char *text)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-";
	static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strcasecmp(text, words[i]) == 0)
			return false;
	return (isalpha((unsigned char)*text) || *text == '/') && text[strspn(text, set)] == '\0';
}

static int dump_value(struct str *out, const json_t *value)
{
	if (json_is_string(value) && is_plain_text(json_string_value(value)))
		return str_append(out, json_string_value(value));
	cleanup_free char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS);
	return text ? str_append(out, text) : -ENOMEM;
}

static int dump_text(struct str *out, const char *indent, const char *name, const char *text)
{
	cleanup_json json_t *key = json_string(name);
	cleanup_json json_t *value = json_string(text);
	if (!key || !value)
		return -ENOMEM;
	(void)str_append(out, indent); /* errors of `out` are sticky */
	(void)dump_value(out, key);
	(void)str_append(out, ": ");
	(void)dump_value(out, value);
	return str_append(out, "\n");
}

static int dump_options(struct str *out, const json_t *options)
{
	const char *key;
	json_t *value;
	cleanup_json json_t *shown = mask(options);
	if (!shown)
		return -ENOMEM;
	json_object_foreach (shown, key, value) {
		cleanup_json json_t *name = json_string(key);
		(void)str_append(out, "    "); /* errors of `out` are sticky */
		int r = name ? dump_value(out, name) : -ENOMEM;
		(void)str_append(out, ": ");
		if (r == 0)
			r = dump_value(out, value);
		if (r < 0)
			return r;
		(void)str_append(out, "\n");
	}
	return out->err;
}

static int format_duration(int64_t ms, char ret[static 32])
{
	if (ms % 1000 == 0)
		return snprintf(ret, 32, "%llds", (long long)(ms / 1000));
	return snprintf(ret, 32, "%lldms", (long long)ms);
}

static int format_size(int64_t bytes, char ret[static 32])
{
	static const char *const unit[] = {"", "KB", "MB", "GB", "TB"};
	size_t i = 0;
	for (; i < 4 && bytes > 0 && bytes % 1000 == 0; i++)
		bytes /= 1000;
	return snprintf(ret, 32, "%lld%s", (long long)bytes, unit[i]);
}

static int dump_remote(struct str *out, const struct remote_conf *remote)
{
	char settle[32], metadata[32], max_package[32];
	cleanup_json json_t *name = json_string(remote->name);
	if (!name)
		return -ENOMEM;
	(void)format_duration(remote->settle_ms, settle);
	(void)format_duration(remote->metadata_ms, metadata);
	(void)format_size(remote->max_package_bytes, max_package);
	(void)str_append(out, "  "); /* errors of `out` are sticky */
	(void)dump_value(out, name);
	(void)str_append(out, ":\n");
	(void)dump_text(out, "    ", "type", remote->type);
	(void)dump_text(out, "    ", "state_dir", remote->state_dir);
	(void)str_printf(out, "    settle: %s\n", settle);
	(void)str_printf(out, "    metadata_time: %s\n", metadata);
	(void)str_printf(out, "    max_package: %s%s\n", max_package,
			 remote->max_package_bytes == 0 ? " # no limit" : "");
	(void)str_printf(out, "    confirm: %s\n", remote->confirm ? "true" : "false");
	return dump_options(out, remote->options);
}

int config_dump(const struct config *config, char **ret)
{
	cleanup_str struct str out = {0};
	char size[32], memory[32];
	(void)str_printf(&out, "# %s\n",
			 config->path ? config->path : "no configuration file: these are the defaults");
	(void)str_append(&out, "remotes:\n"); /* errors of `out` are sticky */
	for (size_t i = 0; i < config->n_remotes; i++) {
		int r = dump_remote(&out, &config->remote[i]);
		if (r < 0)
			return r;
	}
	(void)format_size(json_integer_value(json_object_get(config->cache, "size")), size);
	(void)format_size(json_integer_value(json_object_get(config->cache, "memory")), memory);
	(void)str_append(&out, "cache:\n");
	const char *dir = json_string_value(json_object_get(config->cache, "dir"));
	int r = dir ? dump_text(&out, "  ", "dir", dir) : 0;
	if (r < 0)
		return r;
	(void)str_printf(&out, "  size: %s\n  memory: %s\n", size, memory);
	return str_steal(&out, ret);
}
