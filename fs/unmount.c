// SPDX-License-Identifier: MIT
/*
 * Unmounting as a person expects it: refused while in use, with the names of the users; over when it returns, so the
 * daemon's end is waited for; and possible when the daemon is dead or does not answer.
 */
#include "unmount.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>

#include "cleanup.h"
#include "holders.h"
#include "mountpoint.h"
#include "options.h"
#include "str.h"

enum {
	DAEMON_TIMEOUT_MS = 35000, /* it delivers for 30 s what is on its way */
	BUSY_RETRIES = 10,         /* for a use that ends by itself, as a touch by our helper */
	BUSY_PAUSE_MS = 50,
};

/* A handle on the daemon that stays right when its number is used again; -1 if it is not known. */
static int open_daemon(const char *path, const struct mountpoint *mountpoint, pid_t *ret_pid)
{
	pid_t pid, again;

	int r = mountpoint_daemon(path, mountpoint, &pid);
	if (r < 0 && holders_find_daemon(path, &pid) < 0)
		return -1;
	int fd = pidfd_open(pid, 0);
	if (fd >= 0 && r == 0 && (mountpoint_daemon(path, mountpoint, &again) < 0 || again != pid)) {
		close(fd); /* it ended between the two calls */
		return -1;
	}
	*ret_pid = pid;
	return fd;
}

static void await_daemon(int daemon_fd, pid_t pid)
{
	struct pollfd wait = {.fd = daemon_fd, .events = POLLIN};

	if (daemon_fd < 0)
		return;
	if (poll(&wait, 1, DAEMON_TIMEOUT_MS) == 0)
		fprintf(stderr, "trainfs: unmounted; the daemon (pid %d) has not ended yet\n", (int)pid);
}

static int tell_busy(const char *path)
{
	cleanup_str struct str text = {0};
	cleanup_free char *below = NULL;
	size_t n = 0;

	fprintf(stderr, "trainfs: %s is in use, not unmounted (--lazy detaches it all the same)\n", path);
	if (mountpoint_find_below(path, &below) == 0)
		for (char *rest = below, *name; (name = strsep(&rest, "\n")) && *name;)
			fprintf(stderr, "  mounted on it: %s\n", name);
	if (holders_list(path, &text, &n) == 0 && text.data)
		fputs(text.data, stderr);
	if (n == 0 && (!below || !below[0]))
		fputs(geteuid() == 0 ? "  by no process that can be seen from here (another container?)\n"
				     : "  by processes of other users, or in another container (root may see "
				       "them)\n",
		      stderr);
	return EXIT_CODE_FAILED;
}

static bool has_holders(const char *path)
{
	cleanup_str struct str text = {0};
	size_t n = 0;

	return holders_list(path, &text, &n) == 0 && n > 0;
}

/* A use that no process shows is over in a moment, as a rule. */
static int detach(const char *path, bool is_lazy, struct fault *reterr)
{
	const struct timespec pause = {.tv_nsec = BUSY_PAUSE_MS * 1000000L};
	int r = mountpoint_detach(path, is_lazy, reterr);

	for (int i = 0; r == -EBUSY && i < BUSY_RETRIES && !has_holders(path); i++) {
		(void)nanosleep(&pause, NULL); /* a shorter pause does no harm */
		r = mountpoint_detach(path, is_lazy, reterr);
	}
	return r;
}

static int unmount_at(const char *path, const struct mountpoint *there, bool is_lazy)
{
	struct fault fault = {0};
	pid_t pid = 0;
	cleanup_close int daemon_fd = open_daemon(path, there, &pid);

	int r = detach(path, is_lazy, &fault);
	if (r == -EBUSY)
		return tell_busy(path);
	if (r < 0) {
		fprintf(stderr, "trainfs: %s\n", fault.text);
		return r == -EPERM || r == -EACCES ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
	}
	/*
	 * Detached in use, or copied into another mount namespace, it would serve its last users; those who wait in it
	 * want an answer now. SIGHUP, because a second SIGTERM would skip what is on its way.
	 */
	if (daemon_fd >= 0)
		(void)pidfd_send_signal(daemon_fd, SIGHUP, NULL, 0); /* fails if it has ended */
	await_daemon(daemon_fd, pid);
	return EXIT_CODE_OK;
}

int unmount_command(const struct options *options)
{
	cleanup_free char *path = NULL;
	struct mountpoint there = {0};

	int r = mountpoint_resolve(options->dir, &path);
	if (r < 0) {
		fprintf(stderr, "trainfs: %s: %s\n", options->dir, strerror(-r));
		return EXIT_CODE_FAILED;
	}
	r = mountpoint_find(path, &there);
	if (r < 0) {
		fprintf(stderr,
			r == -ENOENT ? "trainfs: nothing is mounted at %s\n"
				     : "trainfs: cannot read the mount table to find %s\n",
			path);
		return EXIT_CODE_FAILED;
	}
	int code = EXIT_CODE_FAILED;
	if (strcmp(there.type, MOUNTPOINT_TYPE) != 0)
		fprintf(stderr, "trainfs: what is mounted at %s is not trainfs but %s; use umount\n", path,
			there.type);
	else
		code = unmount_at(path, &there, options->is_lazy);
	mountpoint_release(&there);
	return code;
}
