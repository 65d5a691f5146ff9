/* SPDX-License-Identifier: MIT */
/* What jobs.c and job_facts.c share. */
#pragma once

#include "jobs.h"

struct jobs {
	struct remote *remote; /* immutable */

	pthread_mutex_t lock;
	/* protected by lock */
	struct job **job; /* in the order in which they became known */
	size_t n_jobs, capacity;
	struct job **bucket;
	size_t n_buckets;
	uint64_t revision;
	int64_t changed_ns;
	bool is_known, has_failed;
	struct waiters for_list;
	struct job *newest_facts, *oldest_facts;
	size_t n_facts;
};
