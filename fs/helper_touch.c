// SPDX-License-Identifier: MIT
/*
 * Both ends of the pipe to the touching helper. The helper keeps nothing of the mount: its working directory is /, the
 * mount point is not on its command line, and it has no descriptor but the pipe. Each touch has a time limit, and it
 * ends when the daemon does, because the pipe does.
 */
#include "helper_touch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "clock.h"
#include "helper.h"
#include "log.h"

enum {
	TOUCH_LIMIT_S = 5,
	RESTART_INTERVAL_MS = 1000,
};

struct touch {
	pthread_mutex_t lock;
	/* protected by lock */
	int pipe_fd; /* -1: no helper */
	pid_t pid;   /* 0: no helper */
	int64_t started_ms;
};

/* ---- the daemon's end ---- */

static int spawn_helper(int input_fd, pid_t *ret)
{
	char *argv[] = {HELPER_ARGV0, "touch", NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, usual;

	/* These fail for want of memory only, and then the spawn does. */
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, input_fd, 0);
	(void)posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	(void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	(void)posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	(void)posix_spawn_file_actions_addchdir_np(&actions, "/");
	(void)posix_spawnattr_init(&attr);
	(void)sigemptyset(&none);
	(void)sigemptyset(&usual);
	(void)sigaddset(&usual, SIGPIPE);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &usual);
	(void)posix_spawnattr_setflags(&attr,
				       POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	int r = posix_spawn(ret, helper_program(), &actions, &attr, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attr);
	return -r;
}

static int start_locked(struct touch *touch)
{
	int end[2];

	touch->started_ms = clock_mono_ms();
	if (pipe2(end, O_CLOEXEC) < 0)
		return -errno;
	int r = spawn_helper(end[0], &touch->pid);
	close(end[0]);
	if (r == 0 && fcntl(end[1], F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	if (r < 0) {
		close(end[1]);
		return r;
	}
	touch->pipe_fd = end[1];
	return 0;
}

static void stop_locked(struct touch *touch)
{
	if (touch->pipe_fd < 0)
		return;
	(void)kill(touch->pid, SIGKILL); /* first: it would begin to end by itself when the pipe does */
	close(touch->pipe_fd);
	touch->pipe_fd = -1;
	(void)waitpid(touch->pid, NULL, WNOHANG);
	touch->pid = 0;
}

int touch_start(struct touch **ret)
{
	struct touch *touch = calloc(1, sizeof(*touch));

	if (!touch)
		return -ENOMEM;
	touch->pipe_fd = -1;
	int r = pthread_mutex_init(&touch->lock, NULL);
	if (r != 0) {
		free(touch);
		return -r;
	}
	r = start_locked(touch);
	if (r < 0) {
		touch_free(touch);
		return r;
	}
	*ret = touch;
	return 0;
}

void touch_path(struct touch *touch, const char *absolute_path)
{
	size_t size = strlen(absolute_path) + 1;

	if (size > PIPE_BUF) /* larger ones are not written whole */
		return;
	LOCK_SCOPE(&touch->lock);
	if (touch->pipe_fd < 0) {
		if (clock_mono_ms() - touch->started_ms < RESTART_INTERVAL_MS || start_locked(touch) < 0)
			return;
	}
	if (write(touch->pipe_fd, absolute_path, size) >= 0 || errno == EAGAIN || errno == EINTR)
		return;
	log_warning("the helper that touches files has ended, ignoring");
	stop_locked(touch);
	if (start_locked(touch) < 0)
		return;
	if (write(touch->pipe_fd, absolute_path, size) < 0)
		stop_locked(touch); /* twice at once: it does not work here, or not now */
}

void touch_free(struct touch *touch)
{
	if (!touch)
		return;
	stop_locked(touch);
	(void)pthread_mutex_destroy(&touch->lock); /* nobody holds it */
	free(touch);
}

/* ---- the helper ---- */

static void on_alarm(int number)
{
	(void)number; /* its arrival ends the call */
}

static void touch_file(const char *path)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};

	(void)alarm(TOUCH_LIMIT_S);
	(void)utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW); /* the file may have gone */
	(void)alarm(0);
}

int touch_helper_main(void)
{
	static char buffer[64 << 10];
	struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART */
	size_t len = 0;

	(void)sigaction(SIGALRM, &action, NULL);
	for (;;) {
		ssize_t n = read(0, buffer + len, sizeof(buffer) - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0;
		len += (size_t)n;
		char *path = buffer, *end;
		while ((end = memchr(path, '\0', len - (size_t)(path - buffer)))) {
			touch_file(path);
			path = end + 1;
		}
		len -= (size_t)(path - buffer);
		if (len == sizeof(buffer))
			return 1; /* no path is that long */
		memmove(buffer, path, len);
	}
}
