/* SPDX-License-Identifier: MIT */
/* Renames at the service: each step is a task of the movers, begun when nothing has to come first. */
#include "renames_private.h"

#include "cleanup.h"
#include "clock.h"
#include "pool.h"
#include "remote.h"
#include "spool.h"
#include "upload.h"

#include <errno.h>
#include <string.h>

enum { COMPARE_BYTES = 4 << 20 };

/* ---- is the copy there already? ---- */

struct range {
	char *bytes;
	size_t n;
	bool is_compared, is_other;
};

static int take_range(void *arg, const void *bytes, size_t n)
{
	struct range *range = arg;
	if (n > COMPARE_BYTES - range->n)
		return -EIO;
	if (!range->is_compared)
		memcpy(range->bytes + range->n, bytes, n);
	else if (memcmp(range->bytes + range->n, bytes, n) != 0)
		range->is_other = true;
	range->n += n;
	return range->is_other ? -ESTALE : 0;
}

static int compare_at(struct backend *be, const struct rename_step *step, const char *version, int64_t at,
		      char *bytes)
{
	struct range range = {.bytes = bytes};
	int r = backend_object_read(be, step->bucket, step->key, step->version, at, COMPARE_BYTES, take_range,
				    &range, NULL, NULL);
	size_t n = range.n;
	range = (struct range){.bytes = bytes, .is_compared = true};
	if (r == 0)
		r = backend_object_read(be, step->to_bucket, step->to_key, version, at, COMPARE_BYTES,
					take_range, &range, NULL, NULL);
	return r == 0 && range.n != n ? -ESTALE : r;
}

/* An attempt whose end nobody knows went before. 0: the target has the source's bytes. */
static int look_at_copy(struct backend *be, const struct rename_step *step, struct object_detail *ret)
{
	struct object_detail source = {0}, target = {0};
	cleanup_free char *bytes = malloc(COMPARE_BYTES);
	int r = bytes ? 0 : -ENOMEM;
	if (r == 0)
		r = backend_object_get(be, step->bucket, step->key, &source, NULL);
	if (r == 0)
		r = backend_object_get(be, step->to_bucket, step->to_key, &target, NULL);
	if (r == 0 && (source.size_bytes != target.size_bytes || strcmp(source.version, step->version) != 0))
		r = -ESTALE;
	for (int64_t at = 0; r == 0 && at < source.size_bytes; at += COMPARE_BYTES)
		r = compare_at(be, step, target.version, at, bytes);
	object_detail_release(&source);
	if (r == 0)
		*ret = target;
	else
		object_detail_release(&target);
	return r;
}

/* ---- one step ---- */

/* Which version is to be copied or removed? -ENOENT: there is nothing. */
static int find_version(struct rename_step *step, struct backend *be, struct fault *fault)
{
	struct objects *objects = step->rename->objects;
	struct object_detail detail = {0};
	{
		LOCK_SCOPE(&objects->lock);
		const struct object_file *file = step->file;
		if (step->version)
			return 0;
		if (file && file->is_stale && step->to_key)
			return fault_set(fault, ESTALE, "%s was changed by somebody else", step->key);
		if (file && file->version)
			step->version = strdup(file->version);
		if (step->version)
			return rename_note(step->rename, step, "version", step->version);
	}
	int r = backend_object_get(be, step->bucket, step->key, &detail, fault);
	LOCK_SCOPE(&objects->lock);
	if (r == 0)
		step->version = STEAL(detail.version);
	object_detail_release(&detail);
	return r < 0 ? r : rename_note(step->rename, step, "version", step->version);
}

/* The file's bytes are elsewhere now, and what is to be written over them goes over the copy. */
static void follow_locked(struct rename_step *step, const struct object_detail *detail)
{
	struct object_file *file = step->file;
	if (!file)
		return;
	object_file_home_locked(file, step->to_bucket, step->to_key);
	if (!file->is_stale &&
	    object_file_set_locked(file, detail->version, detail->size_bytes, detail->changed_ns, true) < 0)
		file->fresh_ms = 0;
}

/* The next rename that takes the copy on is told its version. */
static struct rename_step *pass_on_locked(const struct rename_step *step)
{
	for (struct rename *later = step->rename->next; later; later = later->next)
		for (size_t i = 0; i < later->n_steps; i++) {
			struct rename_step *next = &later->step[i];
			if (rename_is_key(next, true, step->to_bucket, step->to_key) && next->if_version &&
			    step->version && strcmp(next->if_version, step->version) == 0) {
				char *copy = strdup(step->made);
				free(next->if_version); /* without memory: over anything */
				next->if_version = copy;
				return NULL;
			}
			if (!rename_is_key(next, false, step->to_bucket, step->to_key))
				continue;
			if (next->version)
				return NULL;
			next->version = strdup(step->made);
			return next->version ? next : NULL;
		}
	return NULL;
}

/* A spool that would be put over what was copied: it goes over the copy. Referenced; NULL: none any more. */
static struct spool *next_spool_locked(const struct rename_step *step, bool *ret_complete)
{
	for (struct spool *spool = step->rename->objects->spool; spool && step->version;
	     spool = spool->next) {
		if (!spool->file || strcmp(spool->if_version, step->version) != 0 ||
		    strcmp(step->version, step->made) == 0)
			continue;
		struct object_place place = object_file_place_locked(spool->file);
		char *copy = rename_is_key(step, true, place.bucket, place.key) ? strdup(step->made) : NULL;
		if (!copy)
			continue;
		free(spool->if_version);
		spool->if_version = copy;
		spool->n_refs++;
		*ret_complete = spool->is_complete;
		return spool;
	}
	return NULL;
}

static int rewrite_spools(const struct rename_step *step)
{
	struct objects *objects = step->rename->objects;
	bool is_complete;
	int r = 0;
	for (;;) {
		struct spool *spool;
		{
			LOCK_SCOPE(&objects->lock);
			spool = next_spool_locked(step, &is_complete);
		}
		if (!spool)
			return r;
		if (spool->is_dirty)
			r = spool_record(spool, is_complete);
		LOCK_SCOPE(&objects->lock);
		spool_unref_locked(spool);
	}
}

static int copied(struct rename_step *step, const struct object_detail *detail)
{
	struct objects *objects = step->rename->objects;
	struct rename_step *next;
	{
		LOCK_SCOPE(&objects->lock);
		step->made = strdup(detail->version);
		if (!step->made)
			return -ENOMEM;
		follow_locked(step, detail);
		next = pass_on_locked(step);
	}
	int r = rewrite_spools(step);
	if (r == 0 && next)
		r = rename_note(next->rename, next, "version", step->made);
	return r < 0 ? r : rename_note(step->rename, step, "made", step->made);
}

/* A directory's marker has no bytes to be copied: there is another at once. */
static int step_copy(struct rename_step *step, struct backend *be, struct fault *fault)
{
	struct object_detail detail = {0};
	if (!step->to_key || step->made || step->is_nothing)
		return 0;
	bool is_copy = step->key && (step->size_bytes > 0 || !str_has_suffix(step->key, "/"));
	int r = step->key ? find_version(step, be, fault) : 0;
	if (r == 0 && is_copy)
		r = backend_object_copy(be, step->bucket, step->key, step->version, step->to_bucket,
					step->to_key, step->if_version, &detail, fault);
	else if (r == 0)
		r = backend_object_put(be, step->to_bucket, step->to_key, step->rename->objects->empty_fd, 0,
				       step->if_version, &detail, fault);
	if (is_copy && (r == -ESTALE || r == -EEXIST) && step->may_be_there && step->version &&
	    look_at_copy(be, step, &detail) == 0)
		r = 0;
	if (!is_copy && r == -EEXIST)
		r = backend_object_get(be, step->to_bucket, step->to_key, &detail, fault);
	if (r == 0)
		r = copied(step, &detail);
	object_detail_release(&detail);
	return r;
}

/* Whoever changed it since the copy was made keeps what he has written. */
static int step_remove(struct rename_step *step, struct backend *be, struct fault *fault)
{
	if (!step->key || step->is_nothing || (step->to_key && !step->made))
		return 0;
	int r = find_version(step, be, fault);
	if (r == 0)
		r = backend_object_remove(be, step->bucket, step->key, step->version, fault);
	if (r == -ESTALE) {
		LOCK_SCOPE(&step->rename->objects->lock);
		objects_unlist_locked(step->rename->objects, step->bucket, step->key);
	}
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static int step_undo(struct rename_step *step, struct backend *be, struct fault *fault)
{
	if (!step->made)
		return 0;
	int r = backend_object_remove(be, step->to_bucket, step->to_key, step->made, fault);
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

/* ---- the tasks of a phase ---- */

static int run_step(struct rename_step *step, struct fault *fault)
{
	struct rename *rename = step->rename;
	struct backend *be;
	{
		LOCK_SCOPE(&rename->objects->lock);
		if (rename->result < 0 && rename->phase == RENAME_COPYING)
			return 0; /* another has failed */
	}
	int r = remote_backend(rename->objects->remote, &be, fault);
	if (r < 0)
		return r;
	if (rename->phase == RENAME_COPYING)
		return step_copy(step, be, fault);
	return rename->phase == RENAME_REMOVING ? step_remove(step, be, fault) : step_undo(step, be, fault);
}

static void step_task(void *arg)
{
	struct rename_step *step = arg;
	struct rename *rename = step->rename;
	struct objects *objects = rename->objects;
	struct fault fault = {0};
	int r = run_step(step, &fault);
	bool is_last;
	{
		LOCK_SCOPE(&objects->lock);
		if (r == -ENOENT && rename->phase == RENAME_COPYING && !step->version && step->key) {
			step->is_nothing = true; /* the upload that was to make it has never been */
			r = rename->n_steps > 1 ? 0 : r;
		}
		if (r < 0 && !step->made)
			step->may_be_there = true;
		if (r < 0 && rename->result == 0) {
			rename->result = r;
			rename->fault = fault;
		}
		is_last = --rename->n_running == 0;
	}
	if (is_last)
		rename_end(rename);
}

void rename_start_locked(struct rename *rename, enum rename_phase phase)
{
	rename->phase = phase;
	rename->result = 0;
	for (size_t i = 0; i < rename->n_steps; i++) {
		rename->n_running++;
		int r = pool_submit(rename->objects->movers, step_task, &rename->step[i]);
		if (r == 0)
			continue;
		rename->n_running--;
		rename->result = -EAGAIN;
		if (rename->n_running == 0 && phase != RENAME_UNDOING)
			rename->phase = phase == RENAME_COPYING ? RENAME_WAITING : RENAME_COPIED;
		rename->retry_ms = clock_mono_ms() + REMOTE_RETRY_MS;
		return;
	}
}

/* ---- when one may go on ---- */

/* Are they of one key? A directory goes after what was in it. */
static bool is_after(const struct rename_step *step, const struct rename_step *before)
{
	if (before->from_hash && (before->from_hash == step->from_hash || before->from_hash == step->to_hash))
		return true;
	if (before->to_hash && (before->to_hash == step->from_hash || before->to_hash == step->to_hash))
		return true;
	return !step->to_key && str_has_suffix(step->key, "/") &&
	       rename_is_below(before, step->bucket, step->key);
}

static bool is_behind(const struct rename *rename)
{
	for (const struct rename *before = rename->prev; before; before = before->prev)
		for (size_t i = 0; i < before->n_steps; i++)
			for (size_t k = 0; k < rename->n_steps; k++)
				if (is_after(&rename->step[k], &before->step[i]))
					return true;
	return false;
}

/* The object is being made by an upload, or read into a spool. */
static bool is_in_use(const struct rename_step *step)
{
	const struct spool *spool = step->file ? step->file->spool : NULL;
	if (!spool)
		return false;
	return spool->is_filling || spool->is_uploading ||
	       (!step->version && spool->is_dirty && step->to_key);
}

static bool may_go_locked(const struct rename *rename)
{
	if (rename->n_running > 0 || clock_mono_ms() < rename->retry_ms)
		return false;
	if (rename->phase != RENAME_WAITING && rename->phase != RENAME_COPIED)
		return false;
	for (size_t i = 0; i < rename->n_steps; i++)
		if (is_in_use(&rename->step[i]))
			return false;
	return rename->phase == RENAME_COPIED || !is_behind(rename);
}

static void go_on_locked(struct rename *rename)
{
	if (may_go_locked(rename))
		rename_start_locked(rename,
				    rename->phase == RENAME_WAITING ? RENAME_COPYING : RENAME_REMOVING);
}

void renames_kick_locked(struct objects *objects)
{
	for (struct rename *rename = objects->renames; rename; rename = rename->next)
		go_on_locked(rename);
	pthread_cond_broadcast(&objects->settled);
	if (objects->renames)
		renames_plan_tick_locked(objects);
}

/* ---- the beginning and the end of the mount ---- */

void renames_start(struct objects *objects)
{
	LOCK_SCOPE(&objects->lock);
	for (struct rename *rename = objects->renames; rename; rename = rename->next)
		if (rename->phase == RENAME_UNDOING)
			rename_start_locked(rename, RENAME_UNDOING);
	renames_kick_locked(objects);
}

static bool gets_on_locked(const struct objects *objects)
{
	for (const struct rename *rename = objects->renames; rename; rename = rename->next) {
		bool is_stuck = rename->n_running == 0 && (rename->n_failures > 0 || is_behind(rename));
		for (size_t i = 0; !is_stuck && i < rename->n_steps; i++) {
			const struct spool *spool = rename->step[i].file ? rename->step[i].file->spool : NULL;
			is_stuck = spool && is_in_use(&rename->step[i]) && !spool->is_uploading;
		}
		if (!is_stuck)
			return true;
	}
	return false;
}

void renames_drain(struct objects *objects)
{
	LOCK_SCOPE(&objects->lock);
	while (gets_on_locked(objects))
		pthread_cond_wait(&objects->settled, &objects->lock);
}
