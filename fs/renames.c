/* SPDX-License-Identifier: MIT */
/* The queue of renames, and what the tree shows while they are in it: renames.h. */
#include "renames_private.h"

#include "cleanup.h"
#include "clock.h"
#include "log.h"
#include "remote.h"

#include <errno.h>
#include <string.h>

/* ---- making ---- */

struct rename *rename_new(struct objects *objects, size_t max_steps)
{
	struct rename *rename = calloc(1, sizeof(*rename) + max_steps * sizeof(rename->step[0]));
	if (!rename)
		return NULL;
	rename->objects = objects;
	rename->capacity = max_steps;
	return rename;
}

static void step_release_locked(struct rename_step *step)
{
	if (step->file)
		object_file_unref_locked(step->file);
	free(step->bucket);
	free(step->key);
	free(step->to_bucket);
	free(step->to_key);
	free(step->if_version);
	free(step->version);
	free(step->made);
}

void rename_free(struct rename *rename)
{
	if (!rename)
		return;
	{
		LOCK_SCOPE(&rename->objects->lock);
		for (size_t i = 0; i < rename->n_steps; i++)
			step_release_locked(&rename->step[i]);
	}
	free(rename->path);
	free(rename->from);
	free(rename->to);
	free(rename);
}

int rename_add_locked(struct rename *rename, const struct rename_step *like)
{
	if (rename->n_steps == rename->capacity)
		return -EFBIG;
	struct rename_step *step = &rename->step[rename->n_steps++];
	*step = (struct rename_step){
		.rename = rename,
		.size_bytes = like->size_bytes,
		.changed_ns = like->changed_ns,
		.from_hash = like->key ? object_hash(like->bucket, like->key) : 0,
		.to_hash = like->to_key ? object_hash(like->to_bucket, like->to_key) : 0,
		.file = like->file,
	};
	if (step->file)
		step->file->n_refs++;
	return str_dup(like->bucket, &step->bucket)
		       ?: str_dup(like->key, &step->key)
		       ?: str_dup(like->to_bucket, &step->to_bucket)
		       ?: str_dup(like->to_key, &step->to_key)
		       ?: str_dup(like->version, &step->version)
		       ?: str_dup(like->if_version, &step->if_version);
}

/* ---- one step ---- */

bool rename_is_key(const struct rename_step *step, bool is_target, const char *bucket, const char *key)
{
	const char *own = is_target ? step->to_key : step->key;
	return own && strcmp(own, key) == 0 &&
	       strcmp(is_target ? step->to_bucket : step->bucket, bucket) == 0;
}

bool rename_is_marker(const char *key)
{
	return str_has_suffix(key, "/");
}

const struct rename_step *rename_first(const struct rename *rename)
{
	return &rename->step[0];
}

static bool is_below(const char *bucket, const char *key, const char *of_bucket, const char *prefix)
{
	return key && str_has_prefix(key, prefix) && strcmp(bucket, of_bucket) == 0;
}

bool rename_is_below(const struct rename_step *step, const char *bucket, const char *prefix)
{
	return is_below(step->bucket, step->key, bucket, prefix) ||
	       is_below(step->to_bucket, step->to_key, bucket, prefix);
}

/* ---- what is shown ---- */

/* Those that show: one that is undone does not. */
#define each_rename(at, of)                                              \
	for (struct rename *at = (of)->renames; (at); (at) = (at)->next) \
		if ((at)->phase != RENAME_UNDOING)

enum rename_view renames_view_key_locked(const struct objects *objects, const char *bucket, const char *key)
{
	enum rename_view view = RENAME_NO_VIEW;
	each_rename(rename, objects)
	{
		each_step(step, rename)
		{
			if (rename_is_key(step, false, bucket, key))
				view = RENAME_GONE;
			if (rename_is_key(step, true, bucket, key))
				view = RENAME_THERE;
		}
	}
	return view;
}

/* Does it take the directory of that prefix away? */
static bool takes_dir(const struct rename *rename, const char *bucket, const char *prefix)
{
	const struct rename_step *first = rename_first(rename);
	if (rename->from)
		return strcmp(first->bucket, bucket) == 0 && str_has_prefix(prefix, rename->from);
	return !first->to_key && rename_is_key(first, false, bucket, prefix);
}

enum rename_view renames_view_dir_locked(const struct objects *objects, const char *bucket,
					 const char *prefix)
{
	enum rename_view view = RENAME_NO_VIEW;
	each_rename(rename, objects)
	{
		if (takes_dir(rename, bucket, prefix))
			view = RENAME_GONE;
		each_step(step, rename)
		{
			if (step->to_key && strcmp(step->to_bucket, bucket) == 0 &&
			    str_has_prefix(step->to_key, prefix))
				view = RENAME_THERE;
		}
	}
	return view;
}

bool renames_each_below_locked(const struct objects *objects, const char *bucket, const char *prefix,
			       bool (*see)(void *arg, const struct rename_step *step), void *arg)
{
	each_rename(rename, objects)
	{
		each_step(step, rename)
		{
			if (step->to_key && strcmp(step->to_bucket, bucket) == 0 &&
			    str_has_prefix(step->to_key, prefix) &&
			    renames_view_key_locked(objects, bucket, step->to_key) == RENAME_THERE &&
			    !see(arg, step))
				return false;
		}
	}
	return true;
}

/* A key that ends in a slash: the directory, with all that is in it. */
static void hide_row(const struct object_dir *dir, const char *bucket, const char *key,
		     struct object_rows *rows)
{
	size_t skip = strlen(dir->prefix);
	char name[OBJECT_KEY_MAX + 1];
	if (strcmp(bucket, dir->bucket) != 0 || strncmp(key, dir->prefix, skip) != 0 || !key[skip])
		return;
	snprintf(name, sizeof(name), "%s", key + skip);
	char *slash = strchr(name, '/');
	if (slash && slash[1])
		return; /* deeper */
	if (slash)
		*slash = '\0';
	object_rows_remove(rows, name, slash);
}

static void hide_rows(const struct object_dir *dir, struct rename *rename, struct object_rows *rows)
{
	if (rename->from)
		hide_row(dir, rename_first(rename)->bucket, rename->from, rows);
	each_step(step, rename)
	{
		if (step->key && !(rename_is_marker(step->key) && step->to_key))
			hide_row(dir, step->bucket, step->key, rows);
	}
}

static int show_row(const struct object_dir *dir, const struct rename_step *step, struct object_rows *rows)
{
	size_t skip = strlen(dir->prefix);
	if (!step->to_key || strcmp(step->to_bucket, dir->bucket) != 0 ||
	    strncmp(step->to_key, dir->prefix, skip) != 0 || !step->to_key[skip])
		return 0;
	char name[OBJECT_KEY_MAX + 1];
	snprintf(name, sizeof(name), "%s", step->to_key + skip);
	char *slash = strchr(name, '/');
	if (slash)
		*slash = '\0';
	if (!object_name_is_good(name))
		return 0;
	const struct object_entry object = {.version = slash           ? ""
						       : step->version ? step->version
								       : "-",
					    .size_bytes = slash ? 0 : step->size_bytes,
					    .changed_ns = step->changed_ns,
					    .is_prefix = slash};
	return slash && object_rows_find_key(rows, name, true) ? 0 : object_rows_put(rows, name, &object);
}

int renames_list_locked(const struct object_dir *dir, struct object_rows *rows)
{
	int r = 0;
	each_rename(rename, dir->objects)
	{
		hide_rows(dir, rename, rows);
		each_step(step, rename)
		{
			if (r == 0)
				r = show_row(dir, step, rows);
		}
	}
	return r;
}

/* ---- the queue ---- */

void rename_queue_locked(struct rename *rename)
{
	struct objects *objects = rename->objects;
	rename->prev = objects->last_rename;
	*(rename->prev ? &rename->prev->next : &objects->renames) = rename;
	objects->last_rename = rename;
	objects->n_rename_steps += rename->n_steps;
	rename->begun_ms = clock_mono_ms();
}

void rename_leave_locked(struct rename *rename)
{
	struct objects *objects = rename->objects;
	*(rename->prev ? &rename->prev->next : &objects->renames) = rename->next;
	*(rename->next ? &rename->next->prev : &objects->last_rename) = rename->prev;
	rename->next = rename->prev = NULL;
	objects->n_rename_steps -= rename->n_steps;
}

bool rename_follows(const struct rename *later, const struct rename *rename)
{
	each_step(step, later)
	{
		each_step(before, rename)
		{
			if (step->from_hash && step->from_hash == before->to_hash)
				return true;
		}
	}
	return false;
}

bool renames_touch_locked(const struct objects *objects, const char *bucket, const char *key)
{
	uint64_t hash = object_hash(bucket, key);
	for (const struct rename *rename = objects->renames; rename; rename = rename->next)
		for (size_t i = 0; i < rename->n_steps; i++)
			if (rename->step[i].from_hash == hash || rename->step[i].to_hash == hash)
				return true;
	return false;
}

bool renames_touch_below_locked(const struct objects *objects, const char *bucket, const char *prefix)
{
	for (const struct rename *rename = objects->renames; rename; rename = rename->next)
		for (size_t i = 0; i < rename->n_steps; i++)
			if (rename_is_below(&rename->step[i], bucket, prefix))
				return true;
	return false;
}

bool renames_hold_locked(const struct object_file *file)
{
	struct object_place place = object_file_place_locked(file);
	uint64_t hash = object_hash(place.bucket, place.key);
	for (const struct rename *rename = file->objects->renames; rename; rename = rename->next)
		for (size_t i = 0; i < rename->n_steps; i++) {
			const struct rename_step *step = &rename->step[i];
			if ((step->from_hash == hash || step->to_hash == hash) &&
			    (step->file != file || step->version))
				return true;
		}
	return false;
}

struct object_file *renames_owner_locked(struct objects *objects, const char *bucket, const char *key,
					 const char *if_version)
{
	each_rename(rename, objects)
	{
		each_step(step, rename)
		{
			if (step->file && step->to_key && rename_is_key(step, false, bucket, key) &&
			    (!step->version || strcmp(step->version, if_version) == 0)) {
				step->file->n_refs++;
				return step->file;
			}
		}
	}
	return NULL;
}

/* ---- waiting, telling ---- */

static int wait_locked(struct call *c, struct rename *rename)
{
	if (!c->request)
		return -EAGAIN;
	request_park(c->request, 0);
	waiters_add(&rename->waiters, c->request);
	return CALL_PARKED;
}

int renames_wait(struct call *c, const struct object_file *file)
{
	LOCK_SCOPE(&file->objects->lock);
	for (struct rename *rename = file->objects->last_rename; rename; rename = rename->prev)
		for (size_t i = 0; rename->phase != RENAME_UNDOING && i < rename->n_steps; i++)
			if (rename->step[i].file == file)
				return wait_locked(c, rename);
	return 0;
}

int renames_wait_below(struct call *c, const struct object_dir *dir)
{
	LOCK_SCOPE(&dir->objects->lock);
	for (struct rename *rename = dir->objects->last_rename; rename; rename = rename->prev)
		for (size_t i = 0; rename->phase != RENAME_UNDOING && i < rename->n_steps; i++) {
			if (rename_is_below(&rename->step[i], dir->bucket, dir->prefix))
				return wait_locked(c, rename);
		}
	return 0;
}

int rename_tell(const struct rename *rename, struct str *ret)
{
	const struct rename_step *first = rename_first(rename);
	if (!first->key)
		return str_printf(ret, "making %s/%s", first->to_bucket, first->to_key);
	if (!first->to_key)
		return str_printf(ret, "removing %s/%s", first->bucket, first->key);
	return str_printf(ret, "renaming %s/%s to %s/%s", first->bucket,
			  rename->from ? rename->from : first->key, first->to_bucket,
			  rename->from ? rename->to : first->to_key);
}

static int render_one(const struct rename *rename, struct str *ret)
{
	static const char *const phase[] = {"waiting", "copying", "copied", "removing", "undoing"};
	const struct rename_step *first = rename_first(rename);
	int64_t done = 0, total = 0;
	cleanup_str struct str name = {0};
	for (size_t i = 0; i < rename->n_steps; i++) {
		total += rename->step[i].size_bytes;
		done += rename->step[i].made ? rename->step[i].size_bytes : 0;
	}
	const char *bucket = first->to_key ? first->to_bucket : first->bucket;
	const char *key = rename->from ? rename->to : first->to_key ? first->to_key : first->key;
	str_printf(&name, "%s/%s", bucket, key);
	str_append(ret, first->to_key ? "rename\t" : "remove\t");
	str_append_tsv(ret, name.data ? name.data : "");
	str_printf(ret, "\t%s\t%lld\t%lld\t", phase[rename->phase], (long long)done, (long long)total);
	str_append_tsv(ret, rename->n_failures ? rename->fault.text : "");
	return str_append(ret, "\n");
}

int renames_render(struct objects *objects, struct str *ret)
{
	int r = 0;
	LOCK_SCOPE(&objects->lock);
	for (const struct rename *rename = objects->renames; r == 0 && rename; rename = rename->next)
		r = render_one(rename, ret);
	return r;
}

/* ---- life ---- */

int rename_begin(struct call *c, struct rename *rename)
{
	struct objects *objects = rename->objects;
	enum { QUEUE_STEPS_MAX = 2000 };
	bool is_full;
	{
		LOCK_SCOPE(&objects->lock);
		is_full = objects->n_rename_steps > QUEUE_STEPS_MAX;
	}
	int r = 0;
	if (is_full)
		r = fault_set(&c->fault, EAGAIN, "too many renames wait for the service already");
	else if (c->request && !request_hold(c->request))
		r = -EINTR; /* its caller has left: nothing is begun */
	if (r == 0)
		r = rename_record(rename);
	if (r < 0) {
		rename_free(rename);
		return r;
	}
	LOCK_SCOPE(&objects->lock);
	rename_enter_locked(rename);
	if (c->request)
		waiters_add(&rename->callers, c->request);
	renames_kick_locked(objects);
	return c->request ? CALL_PARKED : 0;
}

void renames_name_locked(const struct objects *objects)
{
	for (const struct rename *rename = objects->renames; rename; rename = rename->next) {
		cleanup_str struct str what = {0};
		if (rename_tell(rename, &what) == 0)
			log_warning("%s: %s is not finished; the next mount goes on with it",
				    objects->remote->conf->name, what.data);
	}
}

void renames_free(struct objects *objects)
{
	renames_name_locked(objects); /* no thread is left */
	while (objects->renames) {
		struct rename *rename = objects->renames;
		{
			LOCK_SCOPE(&objects->lock);
			rename_leave_locked(rename);
		}
		rename_free(rename);
	}
}
