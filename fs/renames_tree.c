/* SPDX-License-Identifier: MIT */
/* What a rename does to the tree when it is asked for, when it is done, and when it is taken back: renames_private.h. */
#include "renames_private.h"

#include "cleanup.h"
#include "clock.h"

#include <string.h>

static void forget_row_locked(struct objects *objects, const char *bucket, const char *key)
{
	char name[OBJECT_KEY_MAX + 1];
	objects_unlist_locked(objects, bucket, key);
	snprintf(name, sizeof(name), "%.*s", (int)(strlen(key) - rename_is_marker(key)), key);
	objects_missing_locked(objects, bucket, name, 0);
}

/* Has another file of ours that key, or will a later rename give it one? */
static bool is_taken_locked(struct objects *objects, const char *bucket, const char *key)
{
	struct object_file *file = object_file_find_locked(objects, bucket, key);
	bool is_taken = file && (file->spool || file->at_key);
	if (file)
		object_file_unref_locked(file);
	return is_taken || renames_view_key_locked(objects, bucket, key) == RENAME_THERE;
}

static void hide_locked(const struct rename_step *step)
{
	struct objects *objects = step->rename->objects;
	int64_t until_ms = clock_mono_ms() + OBJECTS_MISSING_MS;
	if (!step->key || is_taken_locked(objects, step->bucket, step->key))
		return;
	if (rename_is_marker(step->key) && step->to_key)
		return; /* its directory goes as a whole */
	objects_note_gone_locked(objects, step->bucket, step->key);
	if (!rename_is_marker(step->key))
		objects_missing_locked(objects, step->bucket, step->key, until_ms);
}

static void show_locked(const struct rename_step *step)
{
	struct objects *objects = step->rename->objects;
	if (step->to_key)
		objects_note_put_locked(objects, step->to_bucket, step->to_key,
					step->made      ? step->made
					: step->version ? step->version
							: "-",
					step->size_bytes, step->changed_ns);
}

static void move_file_locked(struct rename_step *step)
{
	struct object_file *file = step->file;
	if (!file)
		return;
	if (!file->at_key) {
		file->at_bucket = strdup(step->bucket);
		file->at_key = strdup(step->key);
	}
	if (!step->to_key) {
		object_file_detach_locked(file);
		return;
	}
	if (!file->at_key || !file->at_bucket ||
	    object_file_move_locked(file, step->to_bucket, step->to_key) < 0)
		object_file_make_stale_locked(file); /* without memory: to be looked up again */
}

/* What was at the new place has no name any more. */
static void clear_place_locked(struct rename_step *step)
{
	struct objects *objects = step->rename->objects;
	struct object_file *old =
		step->to_key ? object_file_find_locked(objects, step->to_bucket, step->to_key) : NULL;
	if (!old)
		return;
	if (old != step->file)
		object_file_detach_locked(old);
	object_file_unref_locked(old);
}

static void show_dir_locked(struct objects *objects, const char *bucket, const char *prefix)
{
	struct object_dir *dir = object_dir_known_locked(objects, bucket, prefix);
	if (dir)
		dir->seen_ms = clock_mono_ms();
	objects_note_put_locked(objects, bucket, prefix, "", 0, clock_wall_ns());
}

static void hide_dir_locked(struct objects *objects, const char *bucket, const char *prefix)
{
	char name[OBJECT_KEY_MAX + 1];
	objects_note_gone_locked(objects, bucket, prefix);
	snprintf(name, sizeof(name), "%.*s", (int)strlen(prefix) - 1, prefix);
	objects_missing_locked(objects, bucket, name, clock_mono_ms() + OBJECTS_MISSING_MS);
}

static void move_dir_locked(struct objects *objects, const char *bucket, const char *from,
			    const char *to_bucket, const char *to)
{
	hide_dir_locked(objects, bucket, from);
	object_dirs_move_locked(objects, bucket, from, to_bucket, to);
	show_dir_locked(objects, to_bucket, to);
}

void rename_settled_locked(struct rename *rename)
{
	const struct objects *objects = rename->objects;
	each_step(step, rename)
	{
		hide_locked(step);
		if (step->made &&
		    renames_view_key_locked(objects, step->to_bucket, step->to_key) != RENAME_GONE)
			show_locked(step);
	}
}

void rename_enter_locked(struct rename *rename)
{
	struct objects *objects = rename->objects;
	const struct rename_step *first = rename_first(rename);
	rename_queue_locked(rename);
	if (rename->from)
		move_dir_locked(objects, first->bucket, rename->from, first->to_bucket, rename->to);
	each_step(step, rename)
	{
		if (step->key && !step->file && !rename_is_marker(step->key))
			step->file = object_file_find_locked(objects, step->bucket, step->key);
		clear_place_locked(step);
		move_file_locked(step);
		hide_locked(step);
		show_locked(step);
	}
}

static void step_revert_locked(struct rename_step *step)
{
	struct objects *objects = step->rename->objects;
	struct object_file *file = step->file;
	if (step->to_key && !step->made)
		objects_note_gone_locked(objects, step->to_bucket, step->to_key);
	if (file && step->to_key && !file->is_gone && rename_is_key(step, true, file->bucket, file->key)) {
		if (is_taken_locked(objects, step->bucket, step->key) ||
		    object_file_move_locked(file, step->bucket, step->key) < 0)
			object_file_make_stale_locked(file);
		if (step->made && step->version) {
			object_file_home_locked(file, step->bucket, step->key);
			(void)object_file_set_locked(file, step->version, step->size_bytes, step->changed_ns,
						     true); /* else it is asked for */
		} else if (file->at_key) { /* the first of a row is back where the service has it */
			struct object_place place = object_file_place_locked(file);
			cleanup_free char *bucket = strdup(place.bucket), *key = strdup(place.key);
			if (bucket && key)
				object_file_home_locked(file, bucket, key);
		}
		file->fresh_ms = 0;
	}
	if (step->to_key)
		forget_row_locked(objects, step->to_bucket, step->to_key);
	if (step->key)
		forget_row_locked(objects, step->bucket, step->key);
}

void rename_revert_locked(struct rename *rename)
{
	struct objects *objects = rename->objects;
	const struct rename_step *first = rename_first(rename);
	for (size_t i = rename->n_steps; i > 0; i--)
		step_revert_locked(&rename->step[i - 1]);
	if (!rename->from)
		return;
	move_dir_locked(objects, first->to_bucket, rename->to, first->bucket, rename->from);
	forget_row_locked(objects, first->bucket, rename->from);
	forget_row_locked(objects, first->to_bucket, rename->to);
}
