/* SPDX-License-Identifier: MIT */
/* From outside a supervisor: starting one, and ending what one left that was killed. */
#include "local/launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"
#include "local/store.h"
#include "str.h"

enum { LAUNCH_ORPHAN_ROUNDS = 5 };

extern char **environ;

char *launch_key(const struct store *store, int64_t seq)
{
	char *key;
	uint64_t hash = str_hash(STR_HASH_START, store->state_dir, strlen(store->state_dir));
	return str_format(&key, "%016llx.%lld", (unsigned long long)hash, (long long)seq) < 0 ? NULL : key;
}

/* Between fork and exec of a threaded program: async-signal-safe calls only. */
static void launch_exec(const char *program, char *const *argv, char *const *envp, const char *dir,
			int lock_fd)
{
	sigset_t none;
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setsid();
	pid_t pid = fork();
	if (pid)
		_exit(pid < 0 ? 1 : 0);
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || chdir(dir) < 0)
		_exit(1);
	/* out of the way of 0 to 3 first: the lock or null may be one of them */
	int lock = fcntl(lock_fd, F_DUPFD, 10);
	int zero = fcntl(null, F_DUPFD, 10);
	if (lock < 0 || zero < 0 || dup2(zero, 0) < 0 || dup2(zero, 1) < 0 || dup2(zero, 2) < 0 ||
	    dup2(lock, LAUNCH_LOCK_FD) < 0)
		_exit(1);
	(void)syscall(SYS_close_range, LAUNCH_LOCK_FD + 1, ~0U, 0);
	execve(program, argv, envp);
	_exit(127);
}

/* What it inherits: not the mark of a job that the daemon itself may run in. */
static char **launch_environ(void)
{
	size_t n = 0;
	while (environ[n])
		n++;
	char **copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0, j = 0; copy && i < n; i++)
		if (!str_has_prefix(environ[i], "TRAINFS_JOB_"))
			copy[j++] = environ[i];
	return copy;
}

int launch_supervisor(const struct store *store, const char *id, int lock_fd)
{
	cleanup_free char *dir = store_path(store, "jobs/%s", id);
	cleanup_free char **envp = launch_environ();
	if (!dir || !envp)
		return -ENOMEM;
	const char *argv[] = {HELPER_ARGV0, "supervise", store->state_dir, id, NULL};
	const char *program = helper_program();
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		launch_exec(program, (char *const *)argv, envp, dir, lock_fd);
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 0; /* a daemon that ignores SIGCHLD: the status is lost, the lock will tell */
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EAGAIN;
}

/* ---- orphans of a killed supervisor */

static bool launch_has_key(const char *pid, const char *mark, size_t n_mark)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%.20s/environ", pid);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	cleanup_free char *text = fd < 0 ? NULL : malloc(256 << 10);
	size_t len = 0;
	ssize_t n;
	while (text && len < 256 << 10 && (n = read(fd, text + len, (256 << 10) - len)) > 0)
		len += (size_t)n;
	/* the mark has its NUL: the whole value must be the same */
	return text && memmem(text, len, mark, n_mark);
}

static int launch_kill_round(const char *mark)
{
	int n = 0;
	cleanup_closedir DIR *dir = opendir("/proc");
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		int64_t pid;
		if (str_to_int(entry->d_name, 1, INT32_MAX, &pid) < 0 || pid == getpid())
			continue;
		cleanup_close int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
		/* looked at after it was opened: it is this very process that is signalled */
		if (fd >= 0 && launch_has_key(entry->d_name, mark, strlen(mark) + 1) &&
		    syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0)
			n++;
	}
	return n;
}

int launch_kill_orphans(const struct store *store, const char *id, int64_t seq)
{
	cleanup_free char *key = launch_key(store, seq);
	cleanup_free char *mark = NULL;
	if (!key || str_format(&mark, "TRAINFS_JOB_KEY=%s", key) < 0)
		return 0;
	int n_killed = 0;
	for (int i = 0; i < LAUNCH_ORPHAN_ROUNDS; i++) {
		int n = launch_kill_round(mark);
		n_killed += n;
		if (!n)
			break;
	}
	return n_killed;
}
