/* SPDX-License-Identifier: MIT */
/*
 * The queue. It has no process of its own: whoever changes something (a submission, a cancel, the end of a job, a
 * daemon that starts) runs it, so that it moves on while no daemon lives.
 */
#pragma once

#include <stdint.h>

struct store;
struct transaction;

/*
 * Settles the jobs whose supervisor is gone, then claims queued jobs, oldest first, as long as there are slots and
 * GPUs for the first of them, and starts a supervisor for each. Callable from any thread and process. Gives the number
 * of jobs that it settled or started, or -errno.
 */
int schedule_run(struct store *store);

/* Why a queued job waits: "2nd in the queue, 1 of 1 slots busy". Within a transaction. */
int schedule_why(const struct transaction *t, int64_t seq, int64_t wants_gpus, char **ret);

/* "0,2" -> bits. */
uint64_t schedule_parse_gpus(const char *text);

/*
 * The `n` lowest of `gpus` that are not in `busy`, as text ("" for n = 0) in new memory; -EAGAIN if there are not as
 * many.
 */
int schedule_lease_gpus(int64_t gpus, uint64_t busy, int64_t n, char **ret);
