/* SPDX-License-Identifier: MIT */
/*
 * How renames go on when a phase has ended, and what their callers are told. A failure that time may mend is tried
 * again, unless somebody still waits for the rename: he is told, and nothing has changed.
 */
#include "renames_private.h"

#include "cleanup.h"
#include "clock.h"
#include "remote.h"
#include "serve_private.h"
#include "upload.h"

#include <errno.h>
#include <string.h>

enum { TICK_MS = 100 };

/* ---- answers ---- */

static int errno_of_rename(int r)
{
	if (r == -EINVAL)
		return -EBADMSG;
	return r == -EOPNOTSUPP || r == -ENOSYS || r == -EXDEV ? -EPERM : r;
}

static void tick(void *arg)
{
	struct objects *objects = arg;
	int64_t now = clock_mono_ms();
	struct request *row = NULL;
	{
		LOCK_SCOPE(&objects->lock);
		objects->is_tick_due = false;
		for (struct rename *rename = objects->renames; rename; rename = rename->next) {
			if (now < rename->begun_ms + RENAME_PATIENCE_MS || !rename->callers.first)
				continue;
			row = waiters_join(waiters_take(&rename->callers), row); /* one, as a rule */
		}
		renames_kick_locked(objects);
	}
	waiters_finish(row);
}

void renames_plan_tick_locked(struct objects *objects)
{
	if (!objects->is_tick_due)
		objects->is_tick_due = timers_in(objects->remote->serve->timers, TICK_MS, tick, objects) == 0;
}

/* ---- the end of a phase ---- */

static bool may_mend(int r)
{
	return fault_is_passing(r) || r == -EACCES || r == -ENOMEM || r == -EINTR;
}

static void explain(struct rename *rename, const char *end)
{
	cleanup_str struct str what = {0};
	struct fault own = rename->fault;
	(void)rename_tell(rename, &what); /* without memory the sentence is shorter */
	if (!own.text[0])
		fault_set(&own, -rename->result, "%s", strerrordesc_np(-rename->result));
	rename->result = errno_of_rename(rename->result);
	fault_set(&rename->fault, -rename->result, "%.400s failed, %s: %.400s", what.data ? what.data : "it",
		  end, own.text);
}

static void fail_locked(struct rename *rename, const char *end, struct rename **dead)
{
	struct objects *objects = rename->objects;
	bool is_shown_back = rename->phase != RENAME_REMOVING;
	for (struct rename *later = objects->last_rename; is_shown_back && later != rename;) {
		if (later->phase == RENAME_UNDOING || !rename_follows(later, rename)) {
			later = later->prev;
			continue;
		}
		later->result = rename->result;
		later->fault = rename->fault;
		fail_locked(later, "as what came before it did", dead);
		later = objects->last_rename;
	}
	explain(rename, end);
	rename_leave_locked(rename);
	if (is_shown_back)
		rename_revert_locked(rename);
	else
		for (size_t i = 0; i < rename->n_steps; i++)
			if (rename->step[i].key)
				objects_unlist_locked(objects, rename->step[i].bucket, rename->step[i].key);
	rename->next = *dead;
	*dead = rename;
}

static bool has_copies(const struct rename *rename)
{
	for (size_t i = 0; i < rename->n_steps; i++)
		if (rename->step[i].made)
			return true;
	return false;
}

/* What is to be told of a rename: one that goes on may be at its end before it is. */
struct failure {
	char *bucket, *key; /* NULL: nobody is told but who waits */
	int result;
	struct fault fault;
};

static void take_failure_locked(const struct rename *rename, bool is_news, struct failure *ret)
{
	const struct rename_step *first = rename_first(rename);
	const char *key = rename->from ? rename->to : first->to_key ? first->to_key : first->key;
	*ret = (struct failure){
		.bucket = is_news ? strdup(first->to_key ? first->to_bucket : first->bucket) : NULL,
		.key = is_news ? strdup(key) : NULL,
		.result = rename->result,
		.fault = rename->fault,
	};
}

/* Told to who waits, else to errors. The lock is not held; the failure is released. */
static void tell_failure(struct objects *objects, struct failure *failure, struct request *row)
{
	if (failure->bucket && failure->key && !waiters_are_heard(row))
		objects_report(objects, failure->bucket, failure->key, -failure->result, failure->fault.text);
	waiters_fail(row, failure->result, &failure->fault);
	free(failure->bucket);
	free(failure->key);
}

/* The copies that were made are removed before it is forgotten. */
static void begin_undo(struct rename *rename)
{
	struct objects *objects = rename->objects;
	if (rename_note(rename, NULL, "undo", NULL) < 0) {
		rename_forget(rename); /* the copies stay */
		rename_free(rename);
		return;
	}
	LOCK_SCOPE(&objects->lock);
	rename->phase = RENAME_UNDOING;
	rename_queue_locked(rename);
	rename_start_locked(rename, RENAME_UNDOING);
	if (rename->n_running > 0)
		return;
	rename_leave_locked(rename); /* no pool any more: the next mount does */
	pthread_cond_broadcast(&objects->settled);
}

static void bury(struct rename *dead)
{
	while (dead) {
		struct rename *rename = dead;
		struct objects *objects = rename->objects;
		struct failure failure;
		struct request *row;
		dead = rename->next;
		rename->next = NULL;
		{
			LOCK_SCOPE(&objects->lock);
			row = waiters_join(waiters_take(&rename->callers), waiters_take(&rename->waiters));
			take_failure_locked(rename, true, &failure);
		}
		tell_failure(objects, &failure, row);
		if (rename->phase == RENAME_COPYING && has_copies(rename)) {
			begin_undo(rename);
			continue;
		}
		rename_forget(rename);
		rename_free(rename);
	}
}

/* Uploads that had to wait for what is over now. */
static void begin_uploads_locked(struct objects *objects)
{
	for (struct spool *spool = objects->spool; spool; spool = spool->next)
		if (spool->is_wanted && spool->n_writers == 0)
			upload_begin_locked(spool);
}

static void done(struct rename *rename)
{
	struct objects *objects = rename->objects;
	struct request *callers, *row;
	rename_forget(rename);
	{
		LOCK_SCOPE(&objects->lock);
		rename_leave_locked(rename);
		callers = waiters_take(&rename->callers);
		row = waiters_take(&rename->waiters);
		if (rename->phase != RENAME_UNDOING)
			rename_settled_locked(rename);
		renames_kick_locked(objects);
		begin_uploads_locked(objects);
	}
	waiters_finish(callers);
	waiters_resume(row);
	rename_free(rename);
}

static void retry_locked(struct rename *rename)
{
	rename->retry_ms = clock_mono_ms() + remote_retry_ms(rename->n_failures++);
	rename->phase = rename->phase == RENAME_COPYING ? RENAME_WAITING : RENAME_COPIED;
	explain(rename, "and is tried again");
	renames_kick_locked(rename->objects);
}

static void failed(struct rename *rename)
{
	struct objects *objects = rename->objects;
	struct rename *dead = NULL;
	struct request *row = NULL;
	struct failure failure;
	bool goes_on;
	{
		LOCK_SCOPE(&objects->lock);
		bool is_removing = rename->phase == RENAME_REMOVING;
		bool is_news = rename->n_failures == 0;
		goes_on = may_mend(rename->result) &&
			  (is_removing || !waiters_are_heard(rename->callers.first));
		if (goes_on) {
			retry_locked(rename);
			row = waiters_take(&rename->waiters);
			take_failure_locked(rename, is_news, &failure);
		} else {
			fail_locked(rename, is_removing ? "both are there" : "nothing has changed", &dead);
		}
	}
	if (goes_on) {
		tell_failure(objects, &failure, row);
		return;
	}
	bury(dead);
	LOCK_SCOPE(&objects->lock);
	renames_kick_locked(objects);
	begin_uploads_locked(objects);
}

/* Nobody else changes the phase meanwhile. */
void rename_end(struct rename *rename)
{
	struct objects *objects = rename->objects;
	int r;
	enum rename_phase phase;
	{
		LOCK_SCOPE(&objects->lock);
		r = rename->result;
		phase = rename->phase;
		if (r == 0 && phase == RENAME_COPYING) {
			rename->phase = RENAME_COPIED;
			rename->n_failures = 0;
			renames_kick_locked(objects);
			return;
		}
	}
	if (r == 0 || phase == RENAME_UNDOING)
		done(rename);
	else
		failed(rename);
}
