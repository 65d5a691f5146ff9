/* SPDX-License-Identifier: MIT */
/* One program and all that it starts, run to its end: output kept, time limited, stopped when asked, nothing left. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

struct joblog;

/* What is the same for every program that a supervisor runs. One thread's own. */
struct process_host {
	struct joblog *log;
	int signal_fd;  /* SIGCHLD, SIGTERM, SIGINT, all blocked */
	int changes_fd; /* inotify on the store's `changes`, or -1 */
	sigset_t child_mask;
	mode_t child_umask;
	struct rlimit child_core;
	int64_t grace_ms;
	bool is_terminated;               /* a SIGTERM came: the machine or the session ends */
	bool is_cancelled;                /* sticky */
	bool (*ask_cancelled)(void *arg); /* looked at after each change, and every few seconds */
	void *arg;
};

/*
 * Makes this process fit to be one: subreaper, no core dumps, its signals in a descriptor. The first three fields of
 * what it gives are then the caller's to set.
 */
int process_host_init(struct process_host *ret);
void process_host_release(struct process_host *host); /* takes a zeroed one with descriptors -1 */

struct process_program {
	char *const *argv; /* argv[0] is looked up on PATH of envp */
	char *const *envp;
	const char *dir;
	int64_t timeout_ms; /* 0: none */
};

struct process_end {
	int exec_errno; /* it could not be started; exit is 127 */
	int exit;       /* 0..255; 128+N for a signal, 124 after the time limit */
	int signal;     /* that ended it, or 0 */
	bool is_timeout;
	bool is_stopped;  /* because of a cancel or SIGTERM */
	bool was_oom;     /* the kernel ran out of memory meanwhile */
	int n_left;       /* processes that were still there when the program itself had ended */
	int64_t log_from; /* where its output begins in the log */
};

/* Runs it to its end. -errno only when nothing was started. */
int process_run(struct process_host *host, const struct process_program *program, struct process_end *ret);

/* Waits at most `timeout_ms` for a cancel; true if there is one, or a SIGTERM. */
bool process_wait_cancelled(struct process_host *host, int timeout_ms);
