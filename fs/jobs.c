/* SPDX-License-Identifier: MIT */
/*
 * The table of a remote's jobs.
 *
 * One lock over rows, facts and waiters; it is held for moments only, never over a call of the backend, a reply or a
 * notification. A change goes: row under the lock, then the kernel is told (notify queue), then, behind that in the same
 * queue, those who wait for an end go on. So nobody who was woken by an end reads what was true before it.
 */
#include "jobs.h"

#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "jobs_private.h"
#include "kinds.h"
#include "logstream.h"
#include "notify.h"
#include "remote.h"
#include "report.h"
#include "serve_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { READY_DEADLINE_MS = 15000 };

void jobs_lock(struct jobs *jobs)
{
	pthread_mutex_lock(&jobs->lock);
}

void jobs_unlock(struct jobs *jobs)
{
	pthread_mutex_unlock(&jobs->lock);
}

int jobs_new(struct remote *remote, struct jobs **ret)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));
	if (!jobs)
		return -ENOMEM;
	jobs->remote = remote;
	jobs->n_buckets = 1024;
	jobs->bucket = calloc(jobs->n_buckets, sizeof(*jobs->bucket));
	if (!jobs->bucket) {
		free(jobs);
		return -ENOMEM;
	}
	pthread_mutex_init(&jobs->lock, NULL);
	jobs->changed_ns = remote->serve->started_ns;
	*ret = jobs;
	return 0;
}

static void job_free(struct job *job)
{
	job_facts_unref(job->facts);
	if (job->poll_handle)
		fuse_pollhandle_destroy(job->poll_handle);
	logstream_free(job->log);
	free((char *)job->row.model);
	while (job->cost) {
		struct job_cost *cost = job->cost;
		job->cost = cost->older;
		free(cost);
	}
	free(job->id);
	free(job);
}

void jobs_let_go(struct jobs *jobs)
{
	for (size_t i = 0; jobs && i < jobs->n_jobs; i++) {
		struct job *job = jobs->job[i];
		pthread_mutex_lock(&jobs->lock);
		struct request *row = waiters_take(&job->for_end);
		pthread_mutex_unlock(&jobs->lock);
		waiters_resume(row);
		logstream_wake(job);
	}
}

void jobs_free(struct jobs *jobs)
{
	if (!jobs)
		return;
	for (size_t i = 0; i < jobs->n_jobs; i++)
		job_free(jobs->job[i]);
	free(jobs->job);
	free(jobs->bucket);
	pthread_mutex_destroy(&jobs->lock);
	free(jobs);
}

static size_t bucket_of(const struct jobs *jobs, const char *id)
{
	return str_hash(STR_HASH_START, id, strlen(id)) & (jobs->n_buckets - 1);
}

static struct job *find_locked(struct jobs *jobs, const char *id)
{
	for (struct job *job = jobs->bucket[bucket_of(jobs, id)]; job; job = job->next_hash)
		if (strcmp(job->id, id) == 0)
			return job;
	return NULL;
}

struct job *jobs_find(struct jobs *jobs, const char *id)
{
	LOCK_SCOPE(&jobs->lock);
	return find_locked(jobs, id);
}

static int rehash_locked(struct jobs *jobs)
{
	size_t n = jobs->n_buckets * 4;
	struct job **bucket = calloc(n, sizeof(*bucket));
	if (!bucket)
		return -ENOMEM;
	free(jobs->bucket);
	jobs->bucket = bucket;
	jobs->n_buckets = n;
	for (size_t i = 0; i < jobs->n_jobs; i++) {
		struct job *job = jobs->job[i];
		size_t at = bucket_of(jobs, job->id);
		job->next_hash = bucket[at];
		bucket[at] = job;
	}
	return 0;
}

static int add_locked(struct jobs *jobs, const char *id, const char *model, struct job **ret)
{
	if (jobs->n_jobs == jobs->capacity) {
		size_t capacity = jobs->capacity ? jobs->capacity * 2 : 256;
		struct job **job = realloc(jobs->job, capacity * sizeof(*job));
		if (!job)
			return -ENOMEM;
		jobs->job = job;
		jobs->capacity = capacity;
	}
	if (jobs->n_jobs > jobs->n_buckets && rehash_locked(jobs) < 0)
		return -ENOMEM;
	cleanup_free struct job *job = calloc(1, sizeof(*job));
	cleanup_free char *model_copy = strdup(model);
	if (!job || !model_copy || !(job->id = strdup(id)))
		return -ENOMEM;
	job->remote = jobs->remote;
	job->row = (struct job_row){
		.model = STEAL(model_copy), .state = JOB_UNKNOWN, .exit = JOB_EXIT_UNKNOWN, .cost = ""};
	size_t at = bucket_of(jobs, id);
	job->next_hash = jobs->bucket[at];
	jobs->bucket[at] = job;
	*ret = jobs->job[jobs->n_jobs++] = job;
	job = NULL;
	return 0;
}

int jobs_ready(struct call *c, struct jobs *jobs)
{
	struct remote *remote = jobs->remote;
	LOCK_SCOPE(&jobs->lock);
	if (jobs->is_known)
		return 0;
	if (!remote->be || jobs->has_failed) {
		LOCK_SCOPE(&remote->lock);
		if (remote->fault.err)
			return fault_set(&c->fault, remote->fault.err, "%s", remote->fault.text);
	}
	if (!c->request)
		return -EAGAIN;
	request_park(c->request, READY_DEADLINE_MS);
	waiters_add(&jobs->for_list, c->request);
	return CALL_PARKED;
}

void jobs_set_ready(struct jobs *jobs, bool is_known)
{
	pthread_mutex_lock(&jobs->lock);
	jobs->is_known |= is_known;
	jobs->has_failed = !is_known;
	struct request *row = waiters_take(&jobs->for_list);
	pthread_mutex_unlock(&jobs->lock);
	waiters_resume(row);
}

static int newer_first(const void *a, const void *b)
{
	const struct job *x = *(struct job *const *)a, *y = *(struct job *const *)b;
	if (x->row.created_ns != y->row.created_ns)
		return x->row.created_ns < y->row.created_ns ? 1 : -1;
	return -strcmp(x->id, y->id);
}

int jobs_snapshot(struct jobs *jobs, struct job ***ret, size_t *ret_n)
{
	LOCK_SCOPE(&jobs->lock);
	struct job **job = malloc((jobs->n_jobs + 1) * sizeof(*job));
	if (!job)
		return -ENOMEM;
	size_t n = 0;
	for (size_t i = jobs->n_jobs; i-- > 0;)
		if (!jobs->job[i]->row.is_gone)
			job[n++] = jobs->job[i];
	qsort(job, n, sizeof(*job), newer_first);
	*ret = job;
	*ret_n = n;
	return 0;
}

void job_row_get(struct job *job, struct job_row *ret)
{
	LOCK_SCOPE(&job->remote->jobs->lock);
	*ret = job->row;
}

uint64_t jobs_revision(struct jobs *jobs)
{
	LOCK_SCOPE(&jobs->lock);
	return jobs->revision;
}

int64_t jobs_changed_ns(struct jobs *jobs)
{
	LOCK_SCOPE(&jobs->lock);
	return jobs->changed_ns;
}

/* ---- changes ---- */

/* The end is told to the kernel already: now to those who wait for it. */
static void end_was_told(void *arg)
{
	struct job *job = arg;
	struct jobs *jobs = job->remote->jobs;
	pthread_mutex_lock(&jobs->lock);
	job->is_end_told = true;
	struct request *row = waiters_take(&job->for_end);
	pthread_mutex_unlock(&jobs->lock);
	waiters_resume(row);
	logstream_wake(job);
}

void job_log_is_complete(struct job *job)
{
	struct notify *notify = job->remote->serve->notify;
	notify_attr(notify, &kind_job_file, job, JOB_FILE_LOG, NULL);
	/* out of memory: they ask again by themselves or are interrupted */
	(void)notify_then(notify, end_was_told, job);
}

static void tell_kernel(struct job *job)
{
	struct remote *remote = job->remote;
	struct notify *notify = remote->serve->notify;
	for (uint32_t file = 0; file < JOB_FILE_MAX; file++)
		notify_attr(notify, &kind_job_file, job, file, NULL);
	notify_names(notify, &kind_job, job, 0);
	notify_names(notify, &kind_jobs, remote, 0);
	notify_attr(notify, &kind_remote_file, remote, REMOTE_FILE_JOBS, NULL);
}

static void tell_change(struct job *job, enum job_state from, const struct job_row *now, bool is_new,
			void *poll_handle)
{
	struct remote *remote = job->remote;
	tell_kernel(job);
	if (now->is_gone) {
		logstream_end(job);
		return;
	}
	if (from == now->state && !is_new)
		return;
	if (!job_state_is_ended(now->state))
		logstream_begin(job);
	report_event(remote->serve->report, remote->conf->name, job->id, is_new ? NULL : job_state_name(from),
		     job_state_name(now->state));
	report_touch(remote, "jobs/%s/state", job->id);
	report_touch(remote, "jobs");
	if (poll_handle)
		notify_poll(remote->serve->notify, poll_handle);
	if (job_state_is_ended(now->state))
		logstream_end(job);
}

/* The older texts are kept: somebody may be reading one. Out of memory the text stays as it is. */
static void take_cost(struct job *job, const char *text)
{
	size_t size = strlen(text) + 1;
	struct job_cost *cost = malloc(sizeof(*cost) + size);
	if (!cost)
		return;
	memcpy(cost->text, text, size);
	cost->older = job->cost;
	job->cost = cost;
	job->row.cost = cost->text;
}

static bool row_take(struct job *job, const struct job_entry *entry)
{
	struct job_row *row = &job->row;
	const char *cost = entry->cost ? entry->cost : "";
	bool is_same = row->state == entry->state && row->created_ns == entry->created_ns &&
		       row->started_ns == entry->started_ns && row->ended_ns == entry->ended_ns &&
		       row->exit == entry->exit && row->is_gone == entry->is_gone &&
		       row->changed_ns == entry->changed_ns;
	if (strcmp(row->cost, cost) != 0) {
		take_cost(job, cost);
		is_same = false;
	}
	row->state = entry->state;
	row->created_ns = entry->created_ns;
	row->started_ns = entry->started_ns;
	row->ended_ns = entry->ended_ns;
	row->changed_ns = entry->changed_ns;
	row->exit = entry->exit;
	row->is_gone = entry->is_gone;
	return !is_same;
}

/* With the lock held. True if anything is different now. */
static bool apply_locked(struct jobs *jobs, struct job *job, const struct job_entry *entry)
{
	job->is_pending = false;
	if (entry->is_gone) {
		bool was_gone = job->row.is_gone;
		job->row.is_gone = true;
		jobs->revision++;
		job->revision++;
		return !was_gone;
	}
	(void)row_take(job, entry);
	jobs->revision++; /* also when the row is the same: the backend says that something is new, so facts are old */
	job->revision++;
	if (entry->changed_ns > jobs->changed_ns)
		jobs->changed_ns = entry->changed_ns;
	return true;
}

int jobs_apply(struct jobs *jobs, const struct job_entry *entry, bool is_quiet)
{
	pthread_mutex_lock(&jobs->lock);
	struct job *job = find_locked(jobs, entry->id);
	bool is_new = !job || job->row.is_gone;
	int r = 0;
	if (is_new && !entry->is_gone) /* an id that is used again is another job, with its own end and log */
		r = add_locked(jobs, entry->id, entry->model ? entry->model : "", &job);
	if (r < 0 || !job) {
		pthread_mutex_unlock(&jobs->lock);
		return r;
	}
	enum job_state from = job->row.state;
	bool has_changed = apply_locked(jobs, job, entry);
	job->is_end_told |= is_quiet && job_state_is_ended(job->row.state);
	struct job_row now = job->row;
	void *poll_handle = NULL;
	if (from != now.state)
		poll_handle = STEAL(job->poll_handle);
	pthread_mutex_unlock(&jobs->lock);
	if (has_changed && !is_quiet)
		tell_change(job, from, &now, is_new, poll_handle);
	return 0;
}

void jobs_forget_facts(struct jobs *jobs, const char *id)
{
	pthread_mutex_lock(&jobs->lock);
	struct job *job = find_locked(jobs, id);
	if (job)
		job->revision++;
	pthread_mutex_unlock(&jobs->lock);
	if (job)
		tell_kernel(job);
}

int jobs_add_pending(struct jobs *jobs, const char *id, const char *model)
{
	struct job_entry entry = {
		.id = id, .model = model, .state = JOB_SUBMITTING, .exit = JOB_EXIT_UNKNOWN};
	entry.created_ns = entry.changed_ns = clock_wall_ns();
	struct job *job = jobs_find(jobs, id);
	struct job_row row;
	if (job)
		job_row_get(job, &row);
	if (job && !row.is_gone)
		return -EEXIST;
	int r = jobs_apply(jobs, &entry, false);
	if (r < 0)
		return r;
	LOCK_SCOPE(&jobs->lock);
	job = find_locked(jobs, id);
	job->is_pending = job->row.state == JOB_SUBMITTING;
	return 0;
}

void jobs_drop_pending(struct jobs *jobs, const char *id)
{
	struct job_entry entry = {.id = id, .is_gone = true};
	pthread_mutex_lock(&jobs->lock);
	struct job *job = find_locked(jobs, id);
	bool is_pending = job && job->is_pending;
	pthread_mutex_unlock(&jobs->lock);
	if (is_pending)
		(void)jobs_apply(jobs, &entry, false); /* of a known job: cannot fail */
}

void jobs_confirm(struct jobs *jobs, const char *id)
{
	struct job_entry entry = {.id = id, .state = JOB_QUEUED, .exit = JOB_EXIT_UNKNOWN};
	pthread_mutex_lock(&jobs->lock);
	struct job *job = find_locked(jobs, id);
	bool is_pending = job && job->is_pending;
	if (is_pending)
		entry.created_ns = job->row.created_ns;
	pthread_mutex_unlock(&jobs->lock);
	entry.changed_ns = clock_wall_ns();
	if (is_pending)
		(void)jobs_apply(jobs, &entry, false); /* of a known job: cannot fail */
}

/* ---- the end ---- */

int job_wait_end(struct call *c, struct job *job)
{
	struct jobs *jobs = job->remote->jobs;
	LOCK_SCOPE(&jobs->lock);
	if (job->row.is_gone)
		return -ENOENT;
	if (job->is_end_told)
		return 0;
	request_park(c->request, 0);
	waiters_add(&job->for_end, c->request);
	return CALL_PARKED;
}

bool job_end_is_told(struct job *job)
{
	LOCK_SCOPE(&job->remote->jobs->lock);
	return job->is_end_told || job->row.is_gone;
}

enum open_mode job_entries_mode(struct job *job)
{
	LOCK_SCOPE(&job->remote->jobs->lock);
	if (!job->is_end_told)
		return OPEN_DIRECT;
	bool is_same = job->listed_revision == job->revision;
	job->listed_revision = job->revision;
	return is_same ? OPEN_KEEP : OPEN_CACHED;
}

/* ---- poll(2) on state ---- */

void job_state_was_read(struct job *job)
{
	LOCK_SCOPE(&job->remote->jobs->lock);
	job->told_revision = (uint64_t)job->row.state + 1;
}

unsigned job_poll_state(struct job *job, void *kernel_handle)
{
	pthread_mutex_lock(&job->remote->jobs->lock);
	bool is_new = job->told_revision != (uint64_t)job->row.state + 1;
	void *old = NULL;
	if (kernel_handle) {
		old = job->poll_handle;
		job->poll_handle = kernel_handle;
	}
	pthread_mutex_unlock(&job->remote->jobs->lock);
	if (old)
		fuse_pollhandle_destroy(old);
	return POLLIN | POLLRDNORM | (is_new ? POLLPRI | POLLERR : 0);
}
