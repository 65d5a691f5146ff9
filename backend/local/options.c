/* SPDX-License-Identifier: MIT */
/* The fields of a remote of type `local` in config.yaml, and what stands in for those not given. */
#include "local/options.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "str.h"

enum { OPTIONS_SLOTS_MAX = 1024, OPTIONS_GPUS_MAX = 64, OPTIONS_GRACE_MS = 10000 };

/* /dev/nvidia0, nvidia1, ...; nvidiactl and the like are no GPUs. */
static int64_t options_count_gpus(void)
{
	int64_t n = 0;
	cleanup_closedir DIR *dir = opendir("/dev");
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		int64_t number;
		if (str_has_prefix(entry->d_name, "nvidia") &&
		    str_to_int(entry->d_name + strlen("nvidia"), 0, OPTIONS_GPUS_MAX - 1, &number) == 0)
			n++;
	}
	return n;
}

/* A scalar of YAML may arrive as a number or as a text. */
static int options_int(const char *name, const json_t *value, int64_t min, int64_t max, int64_t *ret,
		       struct fault *reterr)
{
	if (json_is_integer(value) && json_integer_value(value) >= min && json_integer_value(value) <= max) {
		*ret = json_integer_value(value);
		return 0;
	}
	if (json_is_string(value) && str_to_int(json_string_value(value), min, max, ret) == 0)
		return 0;
	return fault_set(reterr, EINVAL, "%s: a number from %lld to %lld is wanted", name, (long long)min,
			 (long long)max);
}

static int options_duration(const char *name, const json_t *value, int64_t *ret, struct fault *reterr)
{
	if (json_is_integer(value) && json_integer_value(value) >= 0 &&
	    json_integer_value(value) < INT32_MAX) {
		*ret = json_integer_value(value) * 1000;
		return 0;
	}
	if (json_is_string(value) && str_to_duration_ms(json_string_value(value), ret) == 0)
		return 0;
	return fault_set(reterr, EINVAL, "%s: a duration is wanted, as 90s, 5m, 3h or 2d", name);
}

static int options_keep_one(const json_t *value, struct settings *settings, struct fault *reterr)
{
	const char *text = json_string_value(value);
	int64_t number;
	/* a bare number could be either */
	bool is_bare = !text || str_to_int(text, INT64_MIN, INT64_MAX, &number) == 0;
	if (!is_bare && str_to_duration_ms(text, &number) == 0 && number > 0)
		settings->keep_ms = number;
	else if (!is_bare && str_to_size(text, &number) == 0 && number > 0)
		settings->keep_bytes = number;
	else
		return fault_set(reterr, EINVAL,
				 "keep: a duration (30d), a size (50GB), or a list of both is wanted");
	return 0;
}

static int options_keep(const json_t *value, struct settings *settings, struct fault *reterr)
{
	if (!json_is_array(value))
		return options_keep_one(value, settings, reterr);
	size_t i;
	const json_t *item;
	json_array_foreach (value, i, item) {
		int r = options_keep_one(item, settings, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

static int options_one(const char *name, const json_t *value, struct settings *settings, char **python,
		       struct fault *reterr)
{
	if (!strcmp(name, "slots"))
		return options_int(name, value, 1, OPTIONS_SLOTS_MAX, &settings->slots, reterr);
	if (!strcmp(name, "gpus"))
		return options_int(name, value, 0, OPTIONS_GPUS_MAX, &settings->gpus, reterr);
	if (!strcmp(name, "grace"))
		return options_duration(name, value, &settings->grace_ms, reterr);
	if (!strcmp(name, "keep"))
		return options_keep(value, settings, reterr);
	if (strcmp(name, "python") != 0)
		return fault_set(reterr, EINVAL,
				 "%s: no such option of a local remote (slots, gpus, grace, keep, python)",
				 name);
	if (!json_is_string(value) || !*json_string_value(value))
		return fault_set(reterr, EINVAL, "python: the name or path of an interpreter is wanted");
	free(*python);
	*python = strdup(json_string_value(value));
	return *python ? 0 : -ENOMEM;
}

int local_options_parse(const json_t *options, struct settings *ret, char **ret_python, struct fault *reterr)
{
	struct settings settings = {.slots = 0, .gpus = options_count_gpus(), .grace_ms = OPTIONS_GRACE_MS};
	cleanup_free char *python = NULL;
	const char *name;
	json_t *value;
	json_object_foreach ((json_t *)options, name, value) {
		int r = options_one(name, value, &settings, &python, reterr);
		if (r < 0)
			return r;
	}
	if (!settings.slots) {
		/* a slot for each GPU: then a job that asks for none gets one all the same */
		settings.slots = settings.gpus ? settings.gpus : 1;
		settings.is_gpu_each = settings.gpus;
	}
	*ret = settings;
	*ret_python = STEAL(python);
	return 0;
}

int local_options_defaults(const json_t *options, json_t **ret, struct fault *reterr)
{
	struct settings settings;
	cleanup_free char *python = NULL;
	cleanup_free char *grace = NULL;
	int r = local_options_parse(options, &settings, &python, reterr);
	if (r == 0)
		r = str_format(&grace, "%ds", OPTIONS_GRACE_MS / 1000);
	if (r < 0)
		return r;
	/* with GPUs, no number of slots is not the same as that number: see is_gpu_each */
	json_t *slots = settings.is_gpu_each ? NULL : json_integer(settings.slots);
	json_t *defaults = json_pack("{s:o*, s:I, s:s, s:[]}", "slots", slots, "gpus",
				     (json_int_t)settings.gpus, "grace", grace, "keep");
	if (!defaults)
		return -ENOMEM;
	*ret = defaults;
	return 0;
}
