/* SPDX-License-Identifier: MIT */
/* A program in a process group of its own, read to its end or killed. */
#include "auth/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/secret.h"
#include "cleanup.h"
#include "clock.h"

enum { LOOK_MS = 100 };

/* ---- splitting ---- */

void command_free(char **argv)
{
	for (size_t i = 0; argv && argv[i]; i++)
		secret_free(argv[i]);
	free(argv);
}

/* One word, which `*p` is moved behind. */
static int take_word(const char **p, struct str *ret)
{
	char quote = '\0';
	for (; **p && (quote || !strchr(" \t\r\n", **p)); (*p)++) {
		char c = **p;
		if (c == quote) {
			quote = '\0';
			continue;
		}
		if (!quote && (c == '"' || c == '\'')) {
			quote = c;
			continue;
		}
		if (c == '\\' && quote != '\'' && (*p)[1] && (!quote || strchr("\"\\", (*p)[1])))
			c = *++*p;
		str_append_n(ret, &c, 1);
	}
	return quote ? -EINVAL : ret->err;
}

int command_split(const char *text, char ***ret)
{
	char **argv = calloc(COMMAND_ARGS_MAX + 1, sizeof(*argv));
	size_t n = 0;
	int r = argv ? 0 : -ENOMEM;
	while (r == 0) {
		cleanup_secret_str struct str word = {0};
		text += strspn(text, " \t\r\n");
		if (!*text)
			break;
		r = n < COMMAND_ARGS_MAX ? take_word(&text, &word) : -EINVAL;
		if (r == 0)
			r = str_steal(&word, &argv[n]);
		n += r == 0;
	}
	if (r == 0 && n == 0)
		r = -EINVAL;
	if (r < 0)
		command_free(argv);
	else
		*ret = argv;
	return r;
}

/* ---- running ---- */

static int spawn(char *const *argv, int out, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	if (posix_spawn_file_actions_init(&actions) != 0)
		return -ENOMEM;
	if (posix_spawnattr_init(&attributes) != 0) {
		(void)posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
							    POSIX_SPAWN_SETSIGDEF);
	(void)posix_spawnattr_setsigmask(&attributes, &none);
	(void)posix_spawnattr_setsigdefault(&attributes, &all);
	int err = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
			  ?: posix_spawn_file_actions_adddup2(&actions, out, 1)
			  ?: posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
			  ?: posix_spawnp(ret, argv[0], &actions, &attributes, argv, environ);
	(void)posix_spawnattr_destroy(&attributes);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -err;
}

/* Until the pipe's end: the program, and whom it started, have closed it. */
static int read_output(int fd, int limit_ms, const struct http_cancel *cancel, struct str *ret)
{
	int64_t until_ms = clock_mono_ms() + limit_ms;
	char bytes[4096];
	int r = 0;
	while (r == 0) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		int64_t left_ms = until_ms - clock_mono_ms();
		if (cancel && cancel->is_set)
			r = -EINTR;
		else if (left_ms <= 0)
			r = -ETIMEDOUT;
		else if (poll(&wait, 1, left_ms < LOOK_MS ? (int)left_ms : LOOK_MS) > 0) {
			ssize_t n = read(fd, bytes, sizeof(bytes));
			if (n == 0)
				break;
			r = n < 0 ? -errno : str_append_n(ret, bytes, (size_t)n);
			r = r == -EAGAIN ? 0 : r;
		}
	}
	explicit_bzero(bytes, sizeof(bytes));
	return r;
}

static int wait_end(pid_t pid, int *ret_exit)
{
	int status;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return 0; /* whoever ignores SIGCHLD loses the status: the output will tell */
	}
	*ret_exit = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return *ret_exit ? -ECHILD : 0;
}

int command_run(char *const *argv, int limit_ms, const struct http_cancel *cancel, struct str *ret,
		int *ret_exit)
{
	int pair[2];
	pid_t pid;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	cleanup_close int in = pair[0];
	int r = spawn(argv, pair[1], &pid);
	close(pair[1]);
	if (r < 0)
		return r;
	ret->max = COMMAND_OUTPUT_MAX;
	r = read_output(in, limit_ms, cancel, ret);
	if (r < 0)
		(void)kill(-pid, SIGKILL); /* it is not waited for yet: its group is still its own */
	int end = wait_end(pid, ret_exit);
	return r ?: end;
}
