/* SPDX-License-Identifier: MIT */
/* The jobs of `local` as the contract wants them, and what of it the supervisor shares. */
#pragma once

#include <stdint.h>

struct job_ops;
struct store;
struct transaction;

extern const struct job_ops local_job_ops;

/* Bytes that a job's directories take up. */
int64_t jobs_measure(const struct store *store, const char *id, const char *model);

/* Notes them, for the job and in the sum of all. */
int jobs_set_space(const struct transaction *t, int64_t seq, int64_t bytes);

/* Deletes an ended job. -EBUSY: it lives; -EADDRINUSE: a version is being made of it, or a job resumes it. */
int jobs_remove(struct store *store, const char *id);

/*
 * Removes ended jobs, oldest first, beyond what the settings let them keep; never one that a version is being made of,
 * or that a queued job resumes. Gives the number removed, or -errno.
 */
int jobs_keep(struct store *store);

/* Finishes deletions that were interrupted. */
void jobs_sweep(struct store *store);
