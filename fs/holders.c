// SPDX-License-Identifier: MIT
/*
 * What fuser and lsof would say, but by the text of the links in /proc alone: a stat of what they point at would ask
 * the very daemon that may have died.
 */
#include "holders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"

enum { HOLDERS_SHOWN_MAX = 20 };

/* Is `name` the directory `path`, or below it? */
static bool is_within(const char *name, const char *path)
{
	size_t len = strlen(path);

	return strncmp(name, path, len) == 0 && (name[len] == '/' || name[len] == '\0');
}

static bool link_is_within(int dir_fd, const char *name, const char *path, char target[static PATH_MAX])
{
	ssize_t n = readlinkat(dir_fd, name, target, PATH_MAX - 1);

	if (n < 0)
		return false; /* not ours to see, or gone */
	target[n] = '\0';
	return is_within(target, path);
}

static int open_process(const char *pid)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "/proc/%.20s", pid);
	return open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static bool find_open_file(int process_fd, const char *path, char target[static PATH_MAX])
{
	int fd = openat(process_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && link_is_within(dirfd(dir), entry->d_name, path, target))
			return true;
	return false;
}

/* Lines of maps: "7f00-7f01 r--p 00000000 00:2a 12   /the/file" */
static bool find_map(int process_fd, const char *path, char target[static PATH_MAX])
{
	int fd = openat(process_fd, "maps", O_RDONLY | O_CLOEXEC);
	cleanup_fclose FILE *f = fd >= 0 ? fdopen(fd, "re") : NULL;
	cleanup_free char *line = NULL;
	size_t size = 0;

	if (!f) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (getline(&line, &size, f) >= 0) {
		const char *name = strchr(line, '/');
		line[strcspn(line, "\n")] = '\0';
		if (name && is_within(name, path)) {
			(void)snprintf(target, PATH_MAX, "%s", name);
			return true;
		}
	}
	return false;
}

/* How the process uses `path`, or NULL; what exactly goes to `target`. */
static const char *find_use(int process_fd, const char *path, char target[static PATH_MAX])
{
	if (link_is_within(process_fd, "cwd", path, target))
		return "working directory";
	if (link_is_within(process_fd, "root", path, target))
		return "root directory";
	if (link_is_within(process_fd, "exe", path, target))
		return "program";
	if (find_open_file(process_fd, path, target))
		return "open file";
	if (find_map(process_fd, path, target))
		return "mapped file";
	return NULL;
}

static void read_command(int process_fd, char command[static 64])
{
	cleanup_close int fd = openat(process_fd, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, command, 63) : 0;

	command[n > 0 ? n : 0] = '\0';
	command[strcspn(command, "\n")] = '\0';
}

/* The next numbered directory of /proc that is not this process; NULL at the end. */
static const char *next_process(DIR *proc)
{
	const struct dirent *entry;

	while ((entry = readdir(proc))) {
		int64_t pid;
		if (str_to_int(entry->d_name, 1, INT_MAX, &pid) == 0 && pid != getpid())
			return entry->d_name;
	}
	return NULL;
}

int holders_list(const char *path, struct str *text, size_t *ret_n)
{
	cleanup_closedir DIR *proc = opendir("/proc");
	const char *pid;
	size_t n = 0;

	if (!proc)
		return -errno;
	while ((pid = next_process(proc))) {
		char target[PATH_MAX], command[64];
		cleanup_close int fd = open_process(pid);
		const char *use = fd >= 0 ? find_use(fd, path, target) : NULL;
		if (!use || ++n > HOLDERS_SHOWN_MAX)
			continue;
		read_command(fd, command);
		str_printf(text, "  %s %s: %s %s\n", pid, command, use, target);
	}
	if (n > HOLDERS_SHOWN_MAX)
		str_printf(text, "  and %zu more\n", n - HOLDERS_SHOWN_MAX);
	*ret_n = n;
	return text->err;
}

/* Is `argument` one of the command line's, which begins with a program named trainfs? */
static bool has_argument(int process_fd, const char *argument)
{
	char line[2 * PATH_MAX];
	cleanup_close int fd = openat(process_fd, "cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : 0;

	if (n <= 0)
		return false;
	line[n] = '\0';
	if (!strstr(line, "trainfs"))
		return false;
	for (const char *word = line; word < line + n; word += strlen(word) + 1)
		if (strcmp(word, argument) == 0)
			return true;
	return false;
}

int holders_find_daemon(const char *path, pid_t *ret)
{
	cleanup_closedir DIR *proc = opendir("/proc");
	const char *pid;

	if (!proc)
		return -errno;
	while ((pid = next_process(proc))) {
		char target[PATH_MAX];
		int64_t number;
		cleanup_close int fd = open_process(pid);
		if (fd < 0 || !has_argument(fd, path) || !find_open_file(fd, "/dev/fuse", target))
			continue;
		int r = str_to_int(pid, 1, INT_MAX, &number);
		if (r < 0)
			return r;
		*ret = (pid_t)number;
		return 0;
	}
	return -ENOENT;
}
