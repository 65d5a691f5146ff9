/* SPDX-License-Identifier: MIT */
/*
 * How mem tells of jobs: listings, logs, and the wait for what is new.
 *
 * Each change of a job gets the next number, and the job remembers its last: a cursor is "EPOCH:NUMBER", and a
 * listing from it is the jobs with a greater number, in that order. A removed job stays as a stone, so that its
 * number can be told.
 */
#include "mem/state.h"

#include "cleanup.h"
#include "clock.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ---- listing ---- */

/* "EPOCH:", what a cursor of this instance begins with. */
static void cursor_prefix(uint64_t epoch, char ret[static 32])
{
	(void)snprintf(ret, 32, "%016" PRIx64 ":", epoch);
}

static int parse_cursor_locked(struct mem *mem, const char *cursor, uint64_t *ret, struct fault *reterr)
{
	char prefix[32];
	int64_t number = 0;

	cursor_prefix(mem->epoch, prefix);
	if (cursor[0] && (!str_has_prefix(cursor, prefix) ||
			  str_to_int(cursor + strlen(prefix), 0, INT64_MAX, &number) < 0))
		return fault_set(reterr, ESTALE, "%s: the cursor is of another time", mem->name);
	*ret = (uint64_t)number;
	return 0;
}

static int row_order(const void *a, const void *b)
{
	const struct mem_job *x = *(const struct mem_job *const *)a, *y = *(const struct mem_job *const *)b;

	return x->changed < y->changed ? -1 : x->changed > y->changed;
}

static struct job_entry row_of(const struct mem_job *job)
{
	return (struct job_entry){
		.id = job->id, /* lives as long as the backend */
		.model = job->model,
		.state = job->state,
		.created_ns = job->created_ns,
		.started_ns = job->started_ns,
		.ended_ns = job->ended_ns,
		.changed_ns = job->changed_ns,
		.exit = job->exit,
		.is_gone = job->is_gone,
	};
}

/* The rows of one page, so that the sink is called without the lock. */
static int collect_locked(struct mem *mem, uint64_t from, struct job_entry **ret, size_t *ret_n,
			  uint64_t *ret_to, bool *ret_more)
{
	size_t n = 0, i = 0;

	for (struct mem_job *job = mem->job; job; job = job->next)
		n += job->changed > from;
	cleanup_free const struct mem_job **found = calloc(n + 1, sizeof(const struct mem_job *));
	cleanup_free struct job_entry *row = calloc(n + 1, sizeof(*row));
	if (!found || !row)
		return -ENOMEM;
	for (struct mem_job *job = mem->job; job; job = job->next) {
		if (job->changed > from)
			found[i++] = job;
	}
	qsort(found, n, sizeof(const struct mem_job *), row_order);
	*ret_more = n > mem->page_rows;
	if (*ret_more)
		n = mem->page_rows;
	for (i = 0; i < n; i++)
		row[i] = row_of(found[i]);
	*ret_to = n > 0 ? found[n - 1]->changed : from;
	*ret = STEAL(row);
	*ret_n = n;
	return 0;
}

int mem_list_jobs(struct backend *be, const char *cursor, job_sink sink, void *arg, struct job_page *ret,
		  struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	cleanup_free struct job_entry *row = NULL;
	uint64_t from = 0, to = 0, epoch;
	char prefix[32];
	size_t n = 0;

	int r = mem_enter(mem, MEM_LIST, reterr);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&mem->lock);
		r = parse_cursor_locked(mem, cursor, &from, reterr);
		if (r == 0)
			r = collect_locked(mem, from, &row, &n, &to, &ret->has_more);
		epoch = mem->epoch;
	}
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (!row[i].is_gone || cursor[0])
			r = sink(arg, &row[i]);
	}
	if (r < 0)
		return r;
	cursor_prefix(epoch, prefix);
	(void)snprintf(ret->cursor, sizeof(ret->cursor), "%s%" PRIu64, prefix, to);
	return mem_leave(mem, MEM_LIST, 0, reterr);
}

/* ---- logs ---- */

/* At most a page of the log, from `from`; new memory. */
static int log_copy(struct mem *mem, const char *id, int64_t from, char **ret, size_t *ret_n, bool *ret_more,
		    struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_job *job = mem_job_find_locked(mem, id);
	if (!job)
		return mem_no_job(mem, id, reterr);
	if ((uint64_t)from > job->log.len)
		return fault_set(reterr, ESTALE, "%s: the log of %s is shorter than that", mem->name, id);
	size_t n = job->log.len - (size_t)from;
	*ret_more = n > mem->page_bytes;
	if (*ret_more)
		n = mem->page_bytes;
	char *bytes = malloc(n + 1);
	if (!bytes)
		return -ENOMEM;
	if (n > 0)
		memcpy(bytes, job->log.data + from, n);
	*ret = bytes;
	*ret_n = n;
	return 0;
}

int mem_log_fetch(struct backend *be, const char *id, const char *cursor, log_sink sink, void *arg,
		  struct job_page *ret, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	cleanup_free char *bytes = NULL;
	int64_t from = 0;
	size_t n = 0;

	int r = mem_enter(mem, MEM_LOG, reterr);
	if (r < 0)
		return r;
	if (cursor[0] && str_to_int(cursor, 0, INT64_MAX, &from) < 0)
		return fault_set(reterr, EINVAL, "%s: no cursor of a log: %s", mem->name, cursor);
	r = log_copy(mem, id, from, &bytes, &n, &ret->has_more, reterr);
	if (r == 0 && n > 0)
		r = sink(arg, bytes, n);
	if (r < 0)
		return r;
	(void)snprintf(ret->cursor, sizeof(ret->cursor), "%" PRId64, from + (int64_t)n);
	return mem_leave(mem, MEM_LOG, 0, reterr);
}

/* ---- watching ---- */

/* Looks at the control file now and then, since what it drives is told here. */
int mem_watch(struct backend *be, int timeout_ms)
{
	enum { CONTROL_POLL_MS = 20 };
	struct mem *mem = mem_of(be);
	int64_t end_ms = clock_mono_ms() + timeout_ms;

	for (;;) {
		mem_control_poll(mem);
		LOCK_SCOPE(&mem->lock);
		int64_t now_ms = clock_mono_ms(), until_ms = end_ms;
		if (mem->n_events != mem->n_seen || mem->is_woken || now_ms >= end_ms) {
			mem->n_seen = mem->n_events;
			mem->is_woken = false;
			return 0;
		}
		if (mem->control_path && until_ms > now_ms + CONTROL_POLL_MS)
			until_ms = now_ms + CONTROL_POLL_MS;
		(void)clock_wait(&mem->changed, &mem->lock, until_ms);
	}
}

void mem_wake(struct backend *be)
{
	struct mem *mem = mem_of(be);

	LOCK_SCOPE(&mem->lock);
	mem->n_wakes++;
	mem->is_woken = true;
	pthread_cond_broadcast(&mem->changed);
}
