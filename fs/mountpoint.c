// SPDX-License-Identifier: MIT
/*
 * What the rest of the system knows about a mount point. A dead or stuck mount must not take its observer with it:
 * the mount table is read instead of the tree, and the one look into the tree is left to a child with a time limit.
 */
#include "mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "options.h"
#include "str.h"

extern char **environ;

void mountpoint_release(struct mountpoint *mountpoint)
{
	free(mountpoint->type);
	free(mountpoint->source);
	*mountpoint = (struct mountpoint){0};
}

/* ---- names ---- */

int mountpoint_resolve(const char *dir, char **ret)
{
	char *real = realpath(dir, NULL);

	if (real) {
		*ret = real;
		return 0;
	}
	if (errno != ENOTCONN && errno != ECONNABORTED)
		return -errno;
	/* The last part is a dead mount: only what leads to it can be looked at. */
	cleanup_free char *copy = strdup(dir), *parent = NULL;
	if (!copy)
		return -ENOMEM;
	size_t len = strlen(copy);
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	char *name = strrchr(copy, '/');
	if (name)
		*name++ = '\0';
	else
		name = copy;
	parent = realpath(name == copy ? "." : copy[0] ? copy : "/", NULL);
	if (!parent)
		return -errno;
	return str_format(ret, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name);
}

/* Undoes the table's \040 for blanks and the like, in place. */
static void unescape(char *text)
{
	char *out = text;

	for (const char *in = text; *in; in++) {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' &&
		    in[3] >= '0' && in[3] <= '7') {
			*out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 3;
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
}

/* ---- the mount table ---- */

struct table_row {
	unsigned major, minor;
	char *path, *type, *source; /* borrowed from the line */
};

/* "36 35 98:0 /root /path options tag... - type source superoptions" */
static bool parse_row(char *line, struct table_row *ret)
{
	char *field[6] = {NULL}, *rest = line;
	unsigned number[2];

	for (int i = 0; i < 6; i++)
		field[i] = strsep(&rest, " ");
	if (!field[4] || !rest)
		return false;
	if (sscanf(field[2], "%u:%u", &number[0], &number[1]) != 2)
		return false;
	const char *tag;
	do
		tag = strsep(&rest, " ");
	while (tag && strcmp(tag, "-") != 0);
	ret->type = strsep(&rest, " ");
	ret->source = strsep(&rest, " \n");
	if (!ret->type || !ret->source)
		return false;
	ret->major = (unsigned)number[0];
	ret->minor = (unsigned)number[1];
	ret->path = field[4];
	unescape(ret->path);
	unescape(ret->source);
	return true;
}

/* Calls `visit` with each row, in the order of mounting; a negative return ends the walk. */
static int walk_table(int (*visit)(void *arg, const struct table_row *row), void *arg)
{
	cleanup_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	size_t size = 0;

	if (!f)
		return -errno;
	while (getline(&line, &size, f) >= 0) {
		struct table_row row;
		int r = parse_row(line, &row) ? visit(arg, &row) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

struct search {
	const char *path;
	struct mountpoint found;
};

static int visit_find(void *arg, const struct table_row *row)
{
	struct search *search = arg;

	if (strcmp(row->path, search->path) != 0)
		return 0;
	mountpoint_release(&search->found);
	search->found.major = row->major;
	search->found.minor = row->minor;
	search->found.type = strdup(row->type);
	search->found.source = strdup(row->source);
	return search->found.type && search->found.source ? 0 : -ENOMEM;
}

int mountpoint_find(const char *path, struct mountpoint *ret)
{
	struct search search = {.path = path};
	int r = walk_table(visit_find, &search);

	if (r == 0 && !search.found.type)
		r = -ENOENT;
	if (r < 0) {
		mountpoint_release(&search.found);
		return r;
	}
	*ret = search.found;
	return 0;
}

struct search_below {
	const char *path;
	struct str found;
};

static int visit_below(void *arg, const struct table_row *row)
{
	struct search_below *search = arg;
	size_t len = strlen(search->path);

	if (strncmp(row->path, search->path, len) != 0 || row->path[len] != '/')
		return 0;
	str_append(&search->found, row->path);
	return str_append(&search->found, "\n");
}

int mountpoint_find_below(const char *path, char **ret)
{
	struct search_below search = {.path = path};
	int r = walk_table(visit_below, &search);

	if (r == 0)
		r = str_steal(&search.found, ret);
	str_release(&search.found);
	return r;
}

/* ---- is it alive ---- */

int mountpoint_probe(const char *path, int timeout_ms)
{
	int end[2];

	if (pipe2(end, O_CLOEXEC) < 0)
		return -errno;
	cleanup_close int from = end[0];
	pid_t pid = fork();
	if (pid < 0) {
		close(end[1]);
		return -errno;
	}
	if (pid == 0) {
		struct statfs st; /* a stat may be answered from the kernel's memory */
		int err = statfs(path, &st) < 0 ? errno : 0;
		ssize_t n = write(end[1], &err, sizeof(err));
		_exit(n == sizeof(err) ? 0 : 1);
	}
	close(end[1]);

	int err = ETIMEDOUT;
	struct pollfd wait = {.fd = from, .events = POLLIN};
	int n = poll(&wait, 1, timeout_ms);
	if (n > 0 && read(from, &err, sizeof(err)) != sizeof(err))
		err = EIO;
	(void)kill(pid, SIGKILL); /* it may have ended */
	/* One that hangs in the mount is not waited for: init collects it when we are gone. */
	(void)waitpid(pid, NULL, n > 0 ? 0 : WNOHANG);
	return -err;
}

/* ---- taking it away ---- */

/* Runs fusermount3 and gives its words; its exit status, or -errno. */
static int run_fusermount(const char *path, bool lazily, char **ret_words)
{
	char *argv[] = {"fusermount3", "-u", lazily ? "-z" : "-u", "--", (char *)path, NULL};
	char *c_locale = "LC_ALL=C",
	     *env[] = {c_locale, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", NULL};
	cleanup_free char *program = NULL;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int end[2];
	pid_t pid;

	int r = options_find_program("fusermount3", &program);
	if (r < 0)
		return r;
	if (pipe2(end, O_CLOEXEC) < 0)
		return -errno;
	cleanup_close int from = end[0];
	(void)posix_spawn_file_actions_init(
		&actions); /* these fail for want of memory only, then the spawn does */
	(void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	(void)posix_spawn_file_actions_adddup2(&actions, end[1], 1);
	(void)posix_spawn_file_actions_adddup2(&actions, end[1], 2);
	(void)posix_spawnattr_init(&attr);
	(void)sigemptyset(&none);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawn(&pid, program, &actions, &attr, argv, env);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attr);
	close(end[1]);
	if (r != 0)
		return -r;

	cleanup_str struct str words = {.max = 4096};
	char chunk[512];
	ssize_t n;
	while ((n = read(from, chunk, sizeof(chunk))) > 0)
		(void)str_append_n(&words, chunk, (size_t)n); /* what is too much is left out */
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	words.err = 0;
	r = str_steal(&words, ret_words);
	return r < 0 ? r : WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int detach_as_user(const char *path, bool lazily, struct fault *reterr)
{
	cleanup_free char *words = NULL;
	int r = run_fusermount(path, lazily, &words);

	if (r == 0)
		return 0;
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT,
				 "fusermount3 is not on PATH, and only root can unmount without it: "
				 "install the package fuse3");
	if (r < 0)
		return fault_set(reterr, -r, "cannot run fusermount3: %s", strerror(-r));
	words[strcspn(words, "\n")] = '\0';
	if (strstr(words, "/etc/mtab"))
		return fault_set(reterr, ENOENT, "%s (as root: `ln -s /proc/self/mounts /etc/mtab`)", words);
	int err = strstr(words, "busy") ? EBUSY : strstr(words, "not found in") ? EINVAL : EPERM;
	return fault_set(reterr, err, "%s", words[0] ? words : "fusermount3 failed");
}

int mountpoint_detach(const char *path, bool lazily, struct fault *reterr)
{
	if (umount2(path, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno == EPERM)
		return detach_as_user(path, lazily, reterr);
	return fault_set(reterr, errno, "cannot unmount %s: %s", path, strerror(errno));
}

/* ---- who serves it ---- */

static int record_dir(char **ret)
{
	cleanup_free char *state = NULL;
	int r = options_state_dir(&state);

	return r < 0 ? r : str_format(ret, "%s/mounts", state);
}

static int make_dirs(const char *path)
{
	cleanup_free char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int mountpoint_record(const char *path, unsigned major, unsigned minor, char **ret)
{
	cleanup_free char *dir = NULL, *file = NULL, *text = NULL;
	int r = record_dir(&dir);

	if (r == 0)
		r = make_dirs(dir);
	if (r == 0)
		r = str_format(&file, "%s/%d", dir, (int)getpid());
	if (r == 0)
		r = str_format(&text, "%u:%u %s", major, minor, path);
	if (r < 0)
		return r;
	(void)unlink(file); /* of an earlier process of this number */
	/* The descriptor stays open, and the lock with it, as long as the process lives. */
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(fd, F_SETLK, &lock) < 0 || write(fd, text, strlen(text)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret = STEAL(file);
	return 0;
}

/* The living process that holds the record, if that says `text`; a record without a holder is swept away. */
static pid_t record_holder(int dir_fd, const char *name, const char *text)
{
	char content[PATH_MAX + 64];
	cleanup_close int fd = openat(dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return 0;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(fd, F_GETLK, &lock) < 0)
		return 0;
	if (lock.l_type == F_UNLCK) {
		int64_t maker; /* alive: it is about to take the lock */
		if (str_to_int(name, 1, INT_MAX, &maker) == 0 && kill((pid_t)maker, 0) < 0 && errno == ESRCH)
			(void)unlinkat(dir_fd, name, 0);
		return 0;
	}
	ssize_t n = read(fd, content, sizeof(content) - 1);
	if (n < 0)
		return 0;
	content[n] = '\0';
	return strcmp(content, text) == 0 ? lock.l_pid : 0;
}

int mountpoint_daemon(const char *path, const struct mountpoint *mountpoint, pid_t *ret)
{
	cleanup_free char *name = NULL, *text = NULL;
	const struct dirent *entry;
	pid_t pid = 0;

	int r = record_dir(&name);
	if (r == 0)
		r = str_format(&text, "%u:%u %s", mountpoint->major, mountpoint->minor, path);
	if (r < 0)
		return r;
	cleanup_closedir DIR *dir = opendir(name);
	if (!dir)
		return -errno;
	while (pid <= 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			pid = record_holder(dirfd(dir), entry->d_name, text);
	if (pid <= 0)
		return -ENOENT;
	*ret = pid;
	return 0;
}
