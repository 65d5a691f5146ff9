/* SPDX-License-Identifier: MIT */
/* From what a user wrote (or an earlier job left) to the one canonical specification that every backend gets. */
#include "spec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "quote.h"
#include "recognise.h"
#include "str.h"

enum { COUNT_MAX = 1000000 };

static bool is_not_empty(const char *text)
{
	return *text != '\0';
}

static bool is_one_line(const char *text)
{
	return *text != '\0' && !strpbrk(text, "\r\n");
}

static bool is_duration(const char *text)
{
	int64_t ms;
	return str_to_duration_ms(text, &ms) == 0 && ms > 0;
}

/* Of the environment. */
static bool is_variable(const char *text)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
	return *text && !isdigit((unsigned char)*text) && text[strspn(text, set)] == '\0';
}

#define A_PLAIN_NAME "a name of at most 128 letters, digits, `.`, `_` and `-`, the first a letter or digit"
#define A_VARIABLE   "a name of letters, digits and `_`, the first no digit"

static const struct yaml_field resource_fields[] = {
	{"machine", YAML_FIELD_TEXT, .check = is_one_line, .expects = "a machine type"},
	{"accelerator", YAML_FIELD_TEXT, .check = is_one_line, .expects = "a type of accelerator"},
	{"accelerators", YAML_FIELD_INT, 0, COUNT_MAX},
	{"workers", YAML_FIELD_INT, 0, COUNT_MAX},
	{"parameter_servers", YAML_FIELD_INT, 0, COUNT_MAX},
	{NULL},
};

static const struct yaml_field spec_fields[] = {
	{"model", YAML_FIELD_TEXT, .check = str_is_plain_name, .expects = A_PLAIN_NAME},
	{"entry", YAML_FIELD_TEXT, .check = is_one_line,
	 .expects = "a module, a script, a notebook or an executable"},
	{"command", YAML_FIELD_TEXT_LIST, .min = 1},
	{"args", YAML_FIELD_TEXT_LIST},
	{"env", YAML_FIELD_TEXT_MAP, .check_key = is_variable, .expects_key = A_VARIABLE},
	{"secrets", YAML_FIELD_TEXT_LIST, .check = is_variable, .expects = A_VARIABLE},
	{"python", YAML_FIELD_TEXT, .check = is_one_line, .expects = "the name of a Python"},
	{"inputs", YAML_FIELD_TEXT_MAP, .check = is_one_line, .expects = "a path or URL",
	 .check_key = str_is_plain_name, .expects_key = A_PLAIN_NAME},
	{"output", YAML_FIELD_TEXT, .check = is_one_line, .expects = "a path or URL"},
	{"resources", YAML_FIELD_STRUCT, .fields = resource_fields},
	{"timeout", YAML_FIELD_TEXT, .check = is_duration, .expects = "a time such as 90s, 30m, 3h or 2d"},
	{"spot", YAML_FIELD_BOOL},
	{"retries", YAML_FIELD_INT, 0, 100},
	{"resume", YAML_FIELD_TEXT, .check = str_is_plain_name, .expects = "a job's id"},
	{"labels", YAML_FIELD_TEXT_MAP, .check_key = is_not_empty, .expects_key = "a name"},
	{"requirements", YAML_FIELD_TEXT, .check = is_one_line, .expects = "a file of the package"},
	{"google", YAML_FIELD_ANY_MAP},
	{"sagemaker", YAML_FIELD_ANY_MAP},
	{"ddl", YAML_FIELD_ANY_MAP},
	{"slurm", YAML_FIELD_ANY_MAP},
	{"trainfs", YAML_FIELD_INT, 1, 1},
	{NULL},
};

/* ---- the text */

static int spec_check_together(const struct yaml *yaml, const json_t *spec, struct fault *reterr)
{
	char shown[QUOTE_MAX];
	const json_t *secrets = json_object_get(spec, "secrets");
	if (json_object_get(spec, "entry") && json_object_get(spec, "command"))
		return yaml_fault(yaml, yaml_get(yaml->root, "command")->key, reterr,
				  "`entry` and `command` exclude each other");
	for (size_t i = 0; i < json_array_size(secrets); i++) {
		const char *name = json_string_value(json_array_get(secrets, i));
		for (size_t j = 0; j < i; j++)
			if (strcmp(name, json_string_value(json_array_get(secrets, j))) == 0)
				return yaml_fault(yaml, yaml_get(yaml->root, "secrets"), reterr,
						  "`%s` is in `secrets` twice", quote(name, shown));
	}
	return 0;
}

int spec_parse(const char *name, const char *text, size_t n, struct yaml *ret_yaml, json_t **ret,
	       struct fault *reterr)
{
	cleanup_yaml struct yaml yaml = {0};
	cleanup_json json_t *spec = NULL;
	int r = yaml_parse(name, text, n, str_has_suffix(name, ".json"), EBADMSG, &yaml, reterr);
	if (r < 0)
		return r;
	r = yaml_walk(&yaml, yaml.root, spec_fields, &spec, NULL, reterr);
	if (r < 0)
		return r;
	r = spec_check_together(&yaml, spec, reterr);
	if (r < 0)
		return r;
	*ret_yaml = yaml;
	memset(&yaml, 0, sizeof(yaml));
	*ret = STEAL(spec);
	return 0;
}

/* -ENOENT without a sentence when there is none. */
static int spec_read(int dir_fd, const char *name, char **ret, size_t *ret_n, struct fault *reterr)
{
	struct stat st;
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 && errno == ELOOP)
		return fault_set(reterr, EBADMSG, "%s is a symbolic link; it must be a plain file", name);
	if (fd < 0)
		return fault_set(reterr, EBADMSG, "%s cannot be read: %s", name, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return fault_set(reterr, EBADMSG, "%s must be a plain file", name);
	int r = yaml_read(fd, ret, ret_n);
	if (r == -EFBIG)
		return fault_set(reterr, EBADMSG, "%s is larger than 1 MiB", name);
	if (r < 0 && r != -ENOMEM)
		return fault_set(reterr, EBADMSG, "%s cannot be read: %s", name, strerror(-r));
	return r;
}

static int spec_load(int dir_fd, const char *name, struct yaml *ret_yaml, json_t **ret, struct fault *reterr)
{
	cleanup_free char *text = NULL;
	size_t n;
	int r = spec_read(dir_fd, name, &text, &n, reterr);
	if (r == -ENOENT)
		return fault_set(reterr, EBADMSG, "%s went away while it was read", name);
	if (r < 0)
		return r;
	return spec_parse(name, text, n, ret_yaml, ret, reterr);
}

/* Which file of the package holds the specification; NULL if none does. */
static int spec_choose(int dir_fd, const struct package_list *list, const char **ret, struct fault *reterr)
{
	struct stat st;
	bool has_yaml = fstatat(dir_fd, "job.yaml", &st, AT_SYMLINK_NOFOLLOW) == 0;
	bool has_json = fstatat(dir_fd, "job.json", &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (has_yaml && has_json)
		return fault_set(reterr, EBADMSG, "there are job.yaml and job.json; keep one of them");
	if (!has_yaml && !has_json && package_list_find(list, "job.yml") == PACKAGE_FILE)
		return fault_set(reterr, EBADMSG,
				 "job.yml is not read: name it job.yaml (or put it into .trainfsignore)");
	*ret = has_yaml ? "job.yaml" : has_json ? "job.json" : NULL;
	return 0;
}

/* Meant as one: a text that says "trainfs" but is no JSON is a mistake in editing, to be told. */
bool spec_is_rerun(int dir_fd)
{
	cleanup_free char *text = NULL;
	size_t n;
	if (spec_read(dir_fd, "spec.json", &text, &n, NULL) < 0)
		return false;
	cleanup_json json_t *json = json_loadb(text, n, 0, NULL);
	if (json)
		return json_object_get(json, "trainfs") != NULL;
	return memmem(text, n, "\"trainfs\"", 9) != NULL;
}

/* ---- completed by the package */

struct making {
	const struct yaml *yaml;
	json_t *spec;
	int package_fd;
	const struct package_list *list;
	struct fault *reterr;
};

static int set_text(json_t *spec, const char *name, const char *text)
{
	json_t *value = json_string(text);
	if (!value)
		return -EBADMSG;
	return json_object_set_new(spec, name, value) < 0 ? -ENOMEM : 0;
}

static int complete_entry(const struct making *making)
{
	cleanup_free char *entry = NULL;
	struct fault fault = {0};
	const char *given = json_string_value(json_object_get(making->spec, "entry"));
	bool has_requirements = json_object_get(making->spec, "requirements");
	int r;
	if (json_object_get(making->spec, "command"))
		return 0;
	if (given)
		r = recognise_given(making->list, given, has_requirements, &entry, &fault);
	else
		r = recognise_entry(making->package_fd, making->list, &entry, &fault);
	if (r < 0 && r != -ENOMEM && given)
		return yaml_fault(making->yaml, yaml_get(making->yaml->root, "entry"), making->reterr, "%s",
				  fault.text);
	if (r < 0 && making->reterr)
		*making->reterr = fault;
	if (r < 0)
		return r;
	r = set_text(making->spec, "entry", entry);
	if (r == -EBADMSG)
		return fault_set(making->reterr, EBADMSG,
				 "the name of what shall run is not UTF-8; rename it");
	return r;
}

static int complete_requirements(const struct making *making)
{
	cleanup_free char *path = NULL;
	char shown[QUOTE_MAX];
	const char *given = json_string_value(json_object_get(making->spec, "requirements"));
	if (!given)
		return 0;
	int r = recognise_path(given, &path);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || package_list_find(making->list, path) != PACKAGE_FILE)
		return yaml_fault(making->yaml, yaml_get(making->yaml->root, "requirements"), making->reterr,
				  "requirements `%s` is not a file of the package", quote(given, shown));
	return set_text(making->spec, "requirements", path);
}

/* "trainfs" first, then what the specification holds, sorted. */
static int spec_order(const json_t *spec, json_t **ret)
{
	cleanup_json json_t *sorted = yaml_json_sorted(spec);
	cleanup_json json_t *ordered = json_object();
	if (!sorted || !ordered)
		return -ENOMEM;
	(void)json_object_del(sorted, "trainfs"); /* mostly not there */
	if (json_object_set_new(ordered, "trainfs", json_integer(1)) < 0 ||
	    json_object_update(ordered, sorted) < 0)
		return -ENOMEM;
	*ret = STEAL(ordered);
	return 0;
}

int spec_make(int spec_fd, const char *file, int package_fd, const struct package_list *list,
	      const char *default_model, json_t **ret, struct fault *reterr)
{
	cleanup_yaml struct yaml yaml = {0};
	cleanup_json json_t *spec = NULL;
	int dir_fd = file ? spec_fd : package_fd;
	int r = file ? 0 : spec_choose(package_fd, list, &file, reterr);
	if (r < 0)
		return r;
	if (file)
		r = spec_load(dir_fd, file, &yaml, &spec, reterr);
	else
		spec = json_object();
	if (r < 0 || !spec)
		return r < 0 ? r : -ENOMEM;
	struct making making = {&yaml, spec, package_fd, list, reterr};
	r = complete_entry(&making);
	if (r < 0)
		return r;
	r = complete_requirements(&making);
	if (r < 0)
		return r;
	if (!json_object_get(spec, "model") && set_text(spec, "model", default_model) < 0)
		return -ENOMEM;
	return spec_order(spec, ret);
}
