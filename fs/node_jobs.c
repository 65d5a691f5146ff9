/* SPDX-License-Identifier: MIT */
/* jobs/: every job, and the drafts that are being made there under the id they shall have. */
#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "drafts.h"
#include "jobs.h"
#include "kinds.h"
#include "process.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>

enum { AFTER_REFUSAL_MS = 1000 };

static int jobs_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct remote *remote = n->obj;
	node_stat(c, n, 0755, jobs_changed_ns(remote->jobs), &ret->st);
	ret->entry_ttl = TTL_FIXED;
	ret->attr_ttl = TTL_LIVE;
	return 0;
}

static bool is_there(struct job *job)
{
	struct job_row row;
	if (!job)
		return false;
	job_row_get(job, &row);
	return !row.is_gone;
}

static struct child job_child(struct job *job)
{
	return (struct child){.kind = &kind_job, .remote = job->remote, .obj = job, .type = S_IFDIR};
}

static int jobs_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct remote *remote = dir->obj;
	struct job *job = jobs_find(remote->jobs, name);
	if (is_there(job)) {
		*ret = job_child(job);
		return 0;
	}
	struct draft *draft = drafts_find(remote->drafts, PLACE_JOBS, "", name);
	if (draft)
		return draft_child(draft, ret);
	int r = jobs_ready(c, remote->jobs);
	return r < 0 ? r : -ENOENT;
}

struct jobs_list {
	struct listing *listing;
	struct remote *remote;
};

static int list_draft(void *arg, struct draft *draft)
{
	const struct jobs_list *list = arg;
	struct child child = {.kind = &kind_disk, .remote = list->remote, .type = S_IFDIR};
	if (draft->place != PLACE_JOBS || is_there(jobs_find(list->remote->jobs, draft->name)))
		return 0;
	return listing_add(list->listing, draft->name, &child);
}

static int jobs_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct remote *remote = dir->obj;
	struct jobs_list list = {ret, remote};
	cleanup_free struct job **job = NULL;
	size_t n = 0;
	int r = jobs_ready(c, remote->jobs);
	if (r == 0)
		r = jobs_snapshot(remote->jobs, &job, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct child child = job_child(job[i]);
		r = listing_add(ret, job[i]->id, &child);
	}
	return r < 0 ? r : drafts_each(remote->drafts, list_draft, &list);
}

static enum ttl jobs_missing_ttl(const struct node *dir)
{
	return TTL_NONE; /* a name may be about to become a job's */
}

static int jobs_mkdir(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret)
{
	struct remote *remote = dir->obj;
	struct draft *draft;
	int r = jobs_ready(c, remote->jobs);
	if (r == 0 && is_there(jobs_find(remote->jobs, name)))
		r = -EEXIST;
	if (r == 0)
		r = draft_make(c, remote->drafts, PLACE_JOBS, "", name, mode, &draft);
	return r < 0 ? r : draft_child(draft, ret);
}

/* rm -r and its like go on after refusals: who was refused below a directory a moment ago does not mean this rmdir. */
static int was_refused(struct call *c, struct job *job)
{
	struct process process;
	if (!c->pid || process_of(c->pid, &process) < 0)
		return 0;
	jobs_lock(job->remote->jobs);
	bool is_same = job->refused.tgid == process.tgid && job->refused.started == process.started &&
		       clock_mono_ms() - job->refused_ms < AFTER_REFUSAL_MS;
	jobs_unlock(job->remote->jobs);
	if (!is_same)
		return 0;
	return fault_set(&c->fault, EPERM,
			 "nothing of job %s was deleted: rm -r does not delete jobs, rmdir jobs/%s does",
			 job->id, job->id);
}

int job_delete(struct call *c, struct job *job)
{
	struct job_row row;
	struct backend *be;
	job_row_get(job, &row);
	if (row.is_gone)
		return -ENOENT;
	if (!job_state_is_ended(row.state) && row.state != JOB_UNKNOWN)
		return fault_set(&c->fault, EBUSY,
				 "job %s is %s: cancel it first (echo cancel > jobs/%s/ctl)", job->id,
				 job_state_name(row.state), job->id);
	int r = call_may_block(c, job->remote);
	if (r == 0)
		r = remote_backend(job->remote, &be, &c->fault);
	if (r == 0)
		r = backend_job_remove(be, job->id, &c->fault);
	if (r < 0)
		return r;
	struct job_entry gone = {.id = job->id, .is_gone = true};
	return jobs_apply(job->remote->jobs, &gone, false);
}

static int jobs_rmdir(struct call *c, struct node *dir, const char *name)
{
	struct remote *remote = dir->obj;
	struct job *job = jobs_find(remote->jobs, name);
	if (is_there(job)) {
		int r = was_refused(c, job);
		return r < 0 ? r : job_delete(c, job);
	}
	struct draft *draft = drafts_find(remote->drafts, PLACE_JOBS, "", name);
	return draft ? draft_remove(c, draft) : -ENOENT;
}

static int jobs_create(struct call *c, struct node *dir, const char *name, mode_t mode, int flags,
		       struct child *ret, int *ret_fd)
{
	return fault_set(&c->fault, EPERM,
			 "only directories go in here, one a job: copy the package's directory itself");
}

static int jobs_rename(struct call *c, struct node *dir, const char *name, struct node *newdir,
		       const char *newname, unsigned flags)
{
	struct remote *remote = dir->obj;
	if (is_there(jobs_find(remote->jobs, name)))
		return fault_set(&c->fault, EPERM,
				 "a job keeps its name; cp -r jobs/%s train/NAME runs it again", name);
	struct draft *draft = drafts_find(remote->drafts, PLACE_JOBS, "", name);
	return draft ? draft_rename(c, draft, newdir, newname, flags) : -ENOENT;
}

const struct node_kind kind_jobs = {
	.name = "jobs",
	.type = S_IFDIR,
	.getattr = jobs_getattr,
	.lookup = jobs_lookup,
	.list = jobs_list,
	.missing_ttl = jobs_missing_ttl,
	.mkdir = jobs_mkdir,
	.rmdir = jobs_rmdir,
	.create = jobs_create,
	.rename = jobs_rename,
};
