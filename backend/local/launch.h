/* SPDX-License-Identifier: MIT */
/* From outside a supervisor: starting one, and ending what one left that was killed. */
#pragma once

#include <stdint.h>

struct store;

enum { LAUNCH_LOCK_FD = 3 }; /* where a supervisor finds its job's lock */

/*
 * Starts the supervisor of a job that was claimed for it; it is nobody's child. `lock_fd` (borrowed) is the claimed
 * lock, which lives on in the supervisor. -errno when no process could be made. Callable from any thread.
 */
int launch_supervisor(const struct store *store, const char *id, int lock_fd);

/* The value of TRAINFS_JOB_KEY that all processes of a job inherit, in new memory; NULL without. */
char *launch_key(const struct store *store, int64_t seq);

/* Ends the processes that a job left whose supervisor was killed: those that still carry its key. Their number. */
int launch_kill_orphans(const struct store *store, const char *id, int64_t seq);
