/* SPDX-License-Identifier: MIT */
/* What the backend knows of a job beside its row: read when somebody asks, once for all who do, the newest kept. */
#include "backend.h"
#include "cleanup.h"
#include "jobs_private.h"
#include "remote.h"
#include "request.h"

#include <errno.h>

enum { FACTS_MAX = 16384 };

void job_facts_unref(struct job_facts *facts)
{
	if (!facts || --facts->n_refs > 0)
		return;
	job_detail_release(&facts->detail);
	free(facts);
}

static void unchain_facts_locked(struct jobs *jobs, struct job *job)
{
	if (job->newer_facts)
		job->newer_facts->older_facts = job->older_facts;
	else if (jobs->newest_facts == job)
		jobs->newest_facts = job->older_facts;
	if (job->older_facts)
		job->older_facts->newer_facts = job->newer_facts;
	else if (jobs->oldest_facts == job)
		jobs->oldest_facts = job->newer_facts;
	job->newer_facts = job->older_facts = NULL;
}

/* Keeps the newest FACTS_MAX. Takes ownership; returns what is to be released without the lock. */
static struct job_facts *keep_facts_locked(struct jobs *jobs, struct job *job, struct job_facts *facts)
{
	struct job_facts *old = job->facts;
	if (old)
		unchain_facts_locked(jobs, job);
	else
		jobs->n_facts++;
	job->facts = facts;
	job->older_facts = jobs->newest_facts;
	if (jobs->newest_facts)
		jobs->newest_facts->newer_facts = job;
	jobs->newest_facts = job;
	if (!jobs->oldest_facts)
		jobs->oldest_facts = job;
	if (!old && jobs->n_facts > FACTS_MAX) {
		struct job *oldest = jobs->oldest_facts;
		unchain_facts_locked(jobs, oldest);
		jobs->n_facts--;
		old = STEAL(oldest->facts);
	}
	return old;
}

static int load_facts(struct call *c, struct job *job, struct job_facts **ret)
{
	struct jobs *jobs = job->remote->jobs;
	struct job_facts *facts = calloc(1, sizeof(*facts));
	if (!facts)
		return -ENOMEM;
	facts->n_refs = 1;
	pthread_mutex_lock(&jobs->lock);
	uint64_t revision = job->revision, table_revision = jobs->revision;
	bool is_pending = job->is_pending;
	pthread_mutex_unlock(&jobs->lock);
	struct backend *be;
	int r = remote_backend(job->remote, &be, &c->fault);
	if (r == 0 && !is_pending)
		r = backend_job_get(be, job->id, &facts->detail, &c->fault);
	if (r < 0) {
		free(facts);
		return r;
	}
	pthread_mutex_lock(&jobs->lock);
	facts->n_refs++;
	struct job_facts *old = keep_facts_locked(jobs, job, facts);
	job->facts_revision = revision;
	job->facts_table_revision = table_revision;
	pthread_mutex_unlock(&jobs->lock);
	job_facts_unref(old);
	*ret = facts;
	return 0;
}

static void loading_is_over(struct job *job)
{
	struct jobs *jobs = job->remote->jobs;
	pthread_mutex_lock(&jobs->lock);
	job->is_loading = false;
	struct request *row = waiters_take(&job->for_facts);
	pthread_mutex_unlock(&jobs->lock);
	waiters_resume(row);
}

static bool has_fresh_facts_locked(const struct jobs *jobs, const struct job *job)
{
	return job->facts && job->facts_revision == job->revision &&
	       (job->row.state != JOB_QUEUED || job->facts_table_revision == jobs->revision);
}

int job_facts_get(struct call *c, struct job *job, struct job_facts **ret)
{
	struct jobs *jobs = job->remote->jobs;
	pthread_mutex_lock(&jobs->lock);
	if (has_fresh_facts_locked(jobs, job)) {
		job->facts->n_refs++;
		*ret = job->facts;
		pthread_mutex_unlock(&jobs->lock);
		return 0;
	}
	if (!c->may_block) {
		pthread_mutex_unlock(&jobs->lock);
		return call_may_block(c, job->remote);
	}
	if (job->is_loading && c->request) {
		waiters_add(&job->for_facts, c->request); /* it is parked: it was asked again from the pool */
		pthread_mutex_unlock(&jobs->lock);
		return CALL_PARKED;
	}
	job->is_loading = true;
	pthread_mutex_unlock(&jobs->lock);
	int r = load_facts(c, job, ret);
	loading_is_over(job);
	return r;
}
