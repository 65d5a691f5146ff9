/* SPDX-License-Identifier: MIT */
/* The rules by which a package without job.yaml is understood, and the check of an entry that was named. */
#include "recognise.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "quote.h"
#include "str.h"
#include "yaml.h"

static bool has_file(const struct package_list *list, const char *path)
{
	return package_list_find(list, path) == PACKAGE_FILE;
}

/* ---- without an entry */

/* Is `path` DIR/task.py? */
static bool is_task(const char *path)
{
	const char *slash = strchr(path, '/');
	return slash && strcmp(slash, "/task.py") == 0;
}

static size_t count_tasks(const struct package_list *list, const char *ret_path[static 2])
{
	size_t n = 0;
	for (size_t i = 0; i < list->n_paths; i++) {
		if (list->is_dir[i] || !is_task(list->path[i]))
			continue;
		if (n < 2)
			ret_path[n] = list->path[i];
		n++;
	}
	return n;
}

static bool is_identifier(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c < 0x80 && c != '_' && !(i > 0 ? isalnum(c) : isalpha(c)))
			return false;
	}
	return n > 0;
}

static int task_module(const char *path, char **ret, struct fault *reterr)
{
	char shown[QUOTE_MAX];
	size_t n = strcspn(path, "/");
	if (!is_identifier(path, n))
		return fault_set(reterr, EBADMSG,
				 "`%s` cannot be run as a module: its directory's name is no name of Python; "
				 "rename it",
				 quote(path, shown));
	return str_format(ret, "%.*s.task", (int)n, path);
}

static bool file_defines_main(int dir_fd, const char *name)
{
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup_free char *text = NULL;
	struct stat st;
	size_t n;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || yaml_read(fd, &text, &n) < 0)
		return false;
	return recognise_main(text, n);
}

/* Nothing fits: what is there, at the top of the package. */
static int entry_none(const struct package_list *list, const char *task, struct fault *reterr)
{
	char found[FAULT_TEXT_MAX / 2] = "", shown[QUOTE_MAX];
	size_t used = 0, n = 0, n_more = 0;
	for (size_t i = 0; i < list->n_paths; i++) {
		const char *path = list->path[i];
		if (strchr(path, '/') && path != task)
			continue;
		quote(path, shown);
		if (n == 8 || used + strlen(shown) + 8 > sizeof(found)) {
			n_more++;
			continue;
		}
		used += (size_t)snprintf(found + used, sizeof(found) - used, "%s%s%s", n ? ", " : "", shown,
					 list->is_dir[i] ? "/" : "");
		n++;
	}
	if (n_more > 0)
		snprintf(found + used, sizeof(found) - used, " and %zu more", n_more);
	return fault_set(
		reterr, EBADMSG,
		"nothing to run was recognised: wanted setup.py with one */task.py, main.py, train.py, "
		"train.ipynb or train.sh; found %s; name it in job.yaml by `entry:` or `command:`",
		n > 0 ? found : "nothing");
}

int recognise_entry(int dir_fd, const struct package_list *list, char **ret, struct fault *reterr)
{
	static const char *const names[] = {"main.py", "train.py", "train.ipynb", "train.sh"};
	const char *task[2] = {NULL, NULL};
	char first[QUOTE_MAX], second[QUOTE_MAX];
	size_t n_tasks = count_tasks(list, task);
	if (has_file(list, "setup.py") || has_file(list, "pyproject.toml")) {
		if (n_tasks == 1)
			return task_module(task[0], ret, reterr);
		if (n_tasks > 1)
			return fault_set(
				reterr, EBADMSG,
				"%zu modules could be meant: `%s`, `%s`%s; name one in job.yaml by `entry:`",
				n_tasks, quote(task[0], first), quote(task[1], second),
				n_tasks > 2 ? ", ..." : "");
	}
	if (has_file(list, "main.py") && file_defines_main(dir_fd, "main.py"))
		return str_format(ret, "main.py:main");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (has_file(list, names[i]))
			return str_format(ret, "%s", names[i]);
	return entry_none(list, task[0], reterr);
}

/* ---- a given entry */

int recognise_path(const char *path, char **ret)
{
	cleanup_str struct str clean = {0};
	if (*path == '/')
		return -EINVAL;
	while (*path) {
		size_t n = strcspn(path, "/");
		if (n == 2 && strncmp(path, "..", 2) == 0)
			return -EINVAL;
		if (n > 0 && !(n == 1 && *path == '.')) {
			if (clean.len > 0)
				(void)str_append(&clean, "/"); /* its error is sticky */
			(void)str_append_n(&clean, path, n);
		}
		path += n + (path[n] == '/');
	}
	if (clean.len == 0)
		return clean.err ? clean.err : -EINVAL;
	return str_steal(&clean, ret);
}

static bool is_module_name(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, ".");
		if (!is_identifier(s, n))
			return false;
		if (s[n] == '\0')
			return true;
		s += n + 1;
	}
}

static bool has_known_ending(const char *entry)
{
	static const char *const endings[] = {".py", ".sh", ".ipynb", ".exe", ".bin", ".pyc"};
	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++)
		if (str_has_suffix(entry, endings[i]))
			return true;
	return false;
}

static int module_find(const struct package_list *list, const char *module, const char *ending)
{
	cleanup_free char *path = NULL;
	int r = str_format(&path, "%s%s", module, ending);
	if (r < 0)
		return r;
	for (char *s = path; s < path + strlen(module); s++)
		if (*s == '.')
			*s = '/';
	return has_file(list, path);
}

static int given_function(const struct package_list *list, const char *entry, const char *colon, char **ret,
			  struct fault *reterr)
{
	char shown[QUOTE_MAX];
	cleanup_free char *file = strndup(entry, (size_t)(colon - entry));
	cleanup_free char *path = NULL;
	if (!file)
		return -ENOMEM;
	if (!is_identifier(colon + 1, strlen(colon + 1)) || !str_has_suffix(file, ".py"))
		return fault_set(reterr, EBADMSG,
				 "entry `%s` is not understood: a function is named as FILE.py:FUNCTION",
				 quote(entry, shown));
	int r = recognise_path(file, &path);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || !has_file(list, path))
		return fault_set(reterr, EBADMSG, "entry `%s`: there is no such file in the package",
				 quote(entry, shown));
	return str_format(ret, "%s:%s", path, colon + 1);
}

static int given_missing(const struct package_list *list, const char *entry, struct fault *reterr)
{
	char shown[QUOTE_MAX];
	const char *hint = "";
	if (strpbrk(entry, " \t\n"))
		hint = "; a command line is written as `command: [program, argument]`";
	else if (*entry == '/')
		hint = "; it must be a path in the package";
	else if (package_list_find(list, entry) == PACKAGE_DIR)
		hint = "; a directory is run when it holds __main__.py";
	else if (is_module_name(entry) && module_find(list, entry, "/__init__.py") > 0)
		hint = "; a Python package is run when it holds __main__.py";
	return fault_set(reterr, EBADMSG, "entry `%s` is neither a file nor a module of the package%s",
			 quote(entry, shown), hint);
}

/* Will something be installed, so that a module may come from there? */
static bool has_installation(const struct package_list *list)
{
	return has_file(list, "requirements.txt") || has_file(list, "setup.py") ||
	       has_file(list, "pyproject.toml");
}

int recognise_given(const struct package_list *list, const char *entry, bool has_requirements, char **ret,
		    struct fault *reterr)
{
	cleanup_free char *path = NULL;
	int r = recognise_path(entry, &path);
	if (r == -ENOMEM)
		return r;
	if (path && has_file(list, path)) {
		*ret = STEAL(path);
		return 0;
	}
	const char *colon = strrchr(entry, ':');
	if (colon)
		return given_function(list, entry, colon, ret, reterr);
	if (!path || !is_module_name(path))
		return given_missing(list, path ? path : entry, reterr);
	if (module_find(list, path, ".py") > 0 || module_find(list, path, "/__main__.py") > 0 ||
	    (!has_known_ending(path) && module_find(list, path, "/__init__.py") == 0 &&
	     package_list_find(list, path) == PACKAGE_NONE && (has_requirements || has_installation(list)))) {
		*ret = STEAL(path);
		return 0;
	}
	return given_missing(list, path, reterr);
}
