// SPDX-License-Identifier: MIT
/*
 * How the mount leaves the terminal: `trainfs mount` returns when the tree answers, so the parent waits on a pipe for
 * one byte (the exit code) and the sentence that goes with it. libfuse's own fuse_daemonize says "fine" too early.
 */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "log.h"
#include "options.h"

enum {
	END_TIMEOUT_MS = 6000, /* from SIGTERM to SIGKILL, for a mount that was not wanted after all */
};

/* ---- the verdict ---- */

pid_t daemon_fork(int *ret_fd)
{
	int end[2];

	if (pipe2(end, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid < 0) {
		int err = errno;
		close(end[0]);
		close(end[1]);
		return -err;
	}
	if (pid == 0) {
		close(end[0]);
		(void)setsid(); /* fails only for a group leader, which a child is not */
		*ret_fd = end[1];
		return 0;
	}
	close(end[1]);
	*ret_fd = end[0];
	return pid;
}

void daemon_tell(int *fd, int code, const char *text)
{
	char message[FAULT_TEXT_MAX + 8];

	if (*fd < 0) {
		if (text)
			fprintf(stderr, "trainfs: %s\n", text);
		return;
	}
	message[0] = (char)code;
	int n = snprintf(message + 1, sizeof(message) - 1, "%s", text ? text : "");
	/* Less than PIPE_BUF, so it is written whole; if the parent is gone nobody wants to know. */
	ssize_t written = write(*fd, message, 1 + (size_t)(n < FAULT_TEXT_MAX ? n : FAULT_TEXT_MAX));
	(void)written;
	close(*fd);
	*fd = -1;
}

/* Everything the child has to say; 0 bytes if it ended without a word. */
static size_t read_verdict(int fd, char *buffer, size_t size)
{
	size_t len = 0;

	while (len < size - 1) {
		ssize_t n = read(fd, buffer + len, size - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	buffer[len] = '\0';
	return len;
}

static int judge_silence(pid_t child)
{
	int status = 0;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		fprintf(stderr, "trainfs: the daemon was ended by signal %d (%s) before it had mounted\n",
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		fprintf(stderr, "trainfs: the daemon ended before it had mounted (exit status %d)\n",
			WEXITSTATUS(status));
	return EXIT_CODE_INTERNAL;
}

/* The user does not want it any more: the child gets time to clean up, and not too much of it. */
static int give_up(pid_t child, int fd)
{
	char rest[FAULT_TEXT_MAX + 8];
	struct pollfd wait = {.fd = fd, .events = POLLIN};

	(void)kill(child, SIGTERM);
	if (poll(&wait, 1, END_TIMEOUT_MS) > 0)
		(void)read_verdict(fd, rest, sizeof(rest)); /* only that it came matters */
	else
		(void)kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	fprintf(stderr, "trainfs: interrupted, nothing is mounted\n");
	return EXIT_CODE_INTERRUPT;
}

int daemon_await(pid_t child, int verdict_fd)
{
	char verdict[FAULT_TEXT_MAX + 8];
	cleanup_close int fd = verdict_fd;
	cleanup_close int signals = -1;
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	struct pollfd wait[2] = {{.fd = fd, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	while (poll(wait, 2, -1) < 0 && errno == EINTR)
		;
	if (!wait[0].revents)
		return give_up(child, fd);

	size_t n = read_verdict(fd, verdict, sizeof(verdict));
	if (n == 0)
		return judge_silence(child);
	if (verdict[0] == EXIT_CODE_OK)
		return EXIT_CODE_OK;
	fprintf(stderr, "trainfs: %s\n", verdict + 1);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		; /* so that nothing of it is left when we return */
	return (unsigned char)verdict[0];
}

/* ---- manners of a daemon ---- */

void daemon_let_go(bool is_in_front)
{
	if (chdir("/") < 0)
		log_warning("cannot leave the working directory: %s, ignoring", strerror(errno));
	if (is_in_front)
		return;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0) {
		log_warning("cannot open /dev/null: %s, ignoring", strerror(errno));
		return;
	}
	for (int fd = 0; fd <= 2; fd++)
		(void)dup2(null, fd); /* both are open: it cannot fail */
	if (null > 2)
		close(null);
}

void daemon_notify(const char *socket_name, const char *text)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (!socket_name)
		return;
	size_t len = strlen(socket_name);
	if (len < 2 || len >= sizeof(address.sun_path) || !strchr("/@", socket_name[0])) {
		log_warning("NOTIFY_SOCKET=%s is not a socket's name, ignoring", socket_name);
		return;
	}
	memcpy(address.sun_path, socket_name, len);
	if (address.sun_path[0] == '@')
		address.sun_path[0] = '\0';
	cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	if (fd < 0 || sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0)
		log_warning("cannot tell systemd %s: %s, ignoring", text, strerror(errno));
}

void daemon_set_limits(void)
{
	struct rlimit files, none = {0, 0};
	const rlim_t many = 1 << 20;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		struct rlimit more = {many, files.rlim_max > many ? files.rlim_max : many};
		files.rlim_cur = files.rlim_max;
		if (geteuid() != 0 || setrlimit(RLIMIT_NOFILE, &more) < 0)
			(void)setrlimit(RLIMIT_NOFILE, &files); /* up to the hard limit is always allowed */
	}
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		log_warning("cannot turn off core dumps: %s, ignoring", strerror(errno));
}

/* ---- first contact ---- */

static void __attribute__((noreturn)) look(const char *path, int go_fd, int answer_fd)
{
	struct stat st;
	char go;

	if (read(go_fd, &go, 1) != 1)
		_exit(0); /* there will be no mount */
	int err = stat(path, &st) < 0 ? errno : 0;
	ssize_t n = write(answer_fd, &err, sizeof(err));
	_exit(n == sizeof(err) ? 0 : 1);
}

int contact_start(const char *path, int closed_fd, struct contact *ret)
{
	int go[2], answer[2];

	if (pipe2(go, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(answer, O_CLOEXEC) < 0) {
		int err = errno;
		close(go[0]);
		close(go[1]);
		return -err;
	}
	pid_t pid = fork();
	int err = errno;
	if (pid == 0) {
		close(go[1]);
		close(answer[0]);
		if (closed_fd >= 0)
			close(closed_fd);
		look(path, go[0], answer[1]);
	}
	close(go[0]);
	close(answer[1]);
	*ret = (struct contact){.pid = pid, .go_fd = go[1], .answer_fd = answer[0]};
	if (pid < 0) {
		ret->pid = 0;
		close(go[1]);
		close(answer[0]);
		return -err;
	}
	return 0;
}

void contact_go(struct contact *contact)
{
	ssize_t n = write(contact->go_fd, "", 1); /* a reader that is gone shows at answer_fd */

	contact->is_looking = n == 1;
}

int contact_answer(struct contact *contact)
{
	int err;
	ssize_t n = read(contact->answer_fd, &err, sizeof(err));

	contact->is_looking = false;
	return n == sizeof(err) ? -err : -EIO;
}

void contact_end(struct contact *contact)
{
	if (contact->pid <= 0)
		return;
	(void)kill(contact->pid, SIGKILL); /* it may have ended */
	close(contact->go_fd);
	close(contact->answer_fd);
	/* One that hangs in the mount goes when the mount does; nobody waits for it here. */
	(void)waitpid(contact->pid, NULL, contact->is_looking ? WNOHANG : 0);
	*contact = (struct contact){0};
}
