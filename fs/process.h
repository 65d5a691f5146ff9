/* SPDX-License-Identifier: MIT */
/* What /proc tells of the processes that write to drafts. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One process for ever: a pid is used again, a pid with its start time is not. */
struct process {
	pid_t tgid;
	uint64_t started; /* clock ticks since boot */
};

/* The thread group that thread `pid` belongs to; -ESRCH when it is gone, -EACCES and others when it cannot be read. */
int process_of(pid_t pid, struct process *ret);

enum process_life { PROCESS_GONE, PROCESS_RUNS, PROCESS_IS_STOPPED };

/* A zombie is gone: it writes no more. What cannot be read counts as running. */
enum process_life process_life(const struct process *process);
