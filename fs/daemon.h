/* SPDX-License-Identifier: MIT */
/* A process becomes a daemon in two steps: it forks, and it is let go of only when its work has proved itself. */
#pragma once

#include "fault.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * Forks. In the child (its own session): returns 0 and the descriptor to give daemon_tell. In the parent: the child's
 * pid, and the descriptor to give daemon_await. -errno. SIGINT, SIGTERM and SIGHUP are to be blocked before.
 */
pid_t daemon_fork(int *ret_fd);

/*
 * In the parent: waits for the verdict, writes an unhappy one to stderr and returns the exit code. Ctrl-C ends the
 * child, by SIGTERM and soon by SIGKILL. Takes ownership of `fd`.
 */
int daemon_await(pid_t child, int fd);

/*
 * The verdict, said once: exit code 0 and no text, or a code and the sentence that the parent shall print. In front
 * (fd -1) a sentence goes to stderr. Closes `fd`, sets it -1.
 */
void daemon_tell(int *fd, int code, const char *text);

/* Lets go of standard input and output, and of the terminal; `chdir` alone when the process stays in front. */
void daemon_let_go(bool is_in_front);

/* Tells systemd, if `socket` (the value of $NOTIFY_SOCKET) is not NULL: "READY=1". */
void daemon_notify(const char *socket, const char *text);

/* As many files as are allowed, and no core dump (secrets). */
void daemon_set_limits(void);

/*
 * A process that looks whether the mount answers, started before there is a mount: the daemon's own threads may never
 * wait for it, and a process forked later would hold the FUSE device open.
 */
struct contact {
	pid_t pid;
	int go_fd, answer_fd;
	bool is_looking;
};
int contact_start(const char *path, int closed_fd, struct contact *ret); /* closed_fd: -1 or not for it */
void contact_go(struct contact *contact);
/* After answer_fd became readable: 0 or -errno. */
int contact_answer(struct contact *contact);
void contact_end(struct contact *contact); /* takes a zeroed or ended one */
