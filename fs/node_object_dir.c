/* SPDX-License-Identifier: MIT */
/*
 * Prefixes as directories. mkdir puts a marker, an object of no bytes whose key ends in a slash; rmdir removes it. What
 * is answered here holds a lock of the kernel: each is one short call of the service, or takes its place among the renames.
 */
#include "node_object.h"

#include "cleanup.h"
#include "clock.h"
#include "inode.h"
#include "kinds.h"
#include "objects.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "spool.h"

#include <errno.h>
#include <string.h>

static struct object_dir *dir_of(const struct node *n)
{
	return n->obj;
}

static uint64_t dir_ino(const struct node *n)
{
	return dir_of(n)->ino;
}

static void dir_drop(void *obj)
{
	if (obj)
		object_dir_unref(obj);
}

static int dir_getattr(struct call *c, struct node *n, struct attr *ret)
{
	const struct object_dir *dir = dir_of(n);
	LOCK_SCOPE(&dir->objects->lock);
	node_stat(c, n, 0755, dir->changed_ns ? dir->changed_ns : c->serve->started_ns, &ret->st);
	ret->attr_ttl = ret->entry_ttl = objects_ttl(dir->objects);
	return 0;
}

static int dir_setattr(struct call *c, struct node *n, struct handle *h, const struct stat *st, int to_set,
		       struct attr *ret)
{
	return to_set & FUSE_SET_ATTR_SIZE ? -EISDIR : dir_getattr(c, n, ret);
}

static int dir_lookup(struct call *c, struct node *n, const char *name, struct child *ret)
{
	return object_dir_find(c, dir_of(n), name, ret);
}

static int dir_list(struct call *c, struct node *n, struct listing *ret)
{
	return object_dir_list(c, dir_of(n), ret);
}

/* ---- making ---- */

int object_new_key(struct call *c, const struct object_dir *dir, const char *name, bool is_dir,
		   char ret[static OBJECT_KEY_MAX + 1])
{
	cleanup_json json_t *text = json_string(name);
	if (!text)
		return fault_set(&c->fault, EINVAL, "the name is not UTF-8, as keys are");
	if (object_dir_key(dir, name, is_dir, ret) < 0)
		return fault_set(&c->fault, ENAMETOOLONG, "a key has %d bytes at most", OBJECT_KEY_MAX);
	return 0;
}

static int ask(struct call *c, const struct object_dir *dir, struct backend **ret)
{
	int r = call_may_block(c, dir->objects->remote);
	return r < 0 ? r : remote_backend(dir->objects->remote, ret, &c->fault);
}

static bool is_renamed(const struct object_dir *dir, const char *key)
{
	LOCK_SCOPE(&dir->objects->lock);
	return renames_touch_locked(dir->objects, dir->bucket, key);
}

/* A marker whose key renames are at work on is made, or removed, in its turn. */
static int queue_marker(struct call *c, const struct object_dir *dir, const char *key, bool is_made)
{
	struct rename *rename = rename_new(dir->objects, 1);
	struct rename_step step = {.changed_ns = clock_wall_ns()};
	if (!rename)
		return -ENOMEM;
	*(is_made ? &step.to_bucket : &step.bucket) = dir->bucket;
	*(is_made ? &step.to_key : &step.key) = (char *)key;
	int r;
	{
		LOCK_SCOPE(&dir->objects->lock);
		r = rename_add_locked(rename, &step);
	}
	if (r < 0) {
		rename_free(rename);
		return r;
	}
	struct call own = {.serve = c->serve}; /* answered at once: it is journalled */
	return rename_begin(is_made ? &own : c, rename);
}

static int dir_mkdir(struct call *c, struct node *n, const char *name, mode_t mode, struct child *ret)
{
	struct object_dir *dir = dir_of(n);
	struct objects *objects = dir->objects;
	char key[OBJECT_KEY_MAX + 1];
	struct object_detail detail = {0};
	struct backend *be;
	int r = object_new_key(c, dir, name, true, key);
	bool is_queued = r == 0 && is_renamed(dir, key);
	if (is_queued)
		r = queue_marker(c, dir, key, true);
	else if (r == 0)
		r = ask(c, dir, &be);
	if (r == 0 && !is_queued)
		r = backend_object_put(be, dir->bucket, key, objects->empty_fd, 0, "", &detail, &c->fault);
	if (r < 0)
		return r;
	LOCK_SCOPE(&objects->lock);
	if (!is_queued)
		objects_note_put_locked(objects, dir->bucket, key, detail.version, 0, detail.changed_ns);
	object_detail_release(&detail);
	struct object_dir *below = object_dir_get_locked(objects, dir->bucket, key);
	if (!below)
		return -ENOMEM;
	below->seen_ms = clock_mono_ms();
	below->changed_ns = clock_wall_ns();
	*ret = object_dir_child(below);
	return 0;
}

static int dir_create(struct call *c, struct node *n, const char *name, mode_t mode, int flags,
		      struct child *ret, int *ret_fd)
{
	struct object_dir *dir = dir_of(n);
	struct objects *objects = dir->objects;
	char key[OBJECT_KEY_MAX + 1];
	struct object_file *file;
	int r = object_new_key(c, dir, name, false, key);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&objects->lock);
		file = object_file_find_locked(objects, dir->bucket, key);
		if (file && !file->spool) { /* what was known of another of this name */
			object_file_detach_locked(file);
			object_file_unref_locked(file);
			file = NULL;
		}
		if (!file)
			file = object_file_get_locked(objects, dir->bucket, key);
	}
	r = file ? spool_make(file, "", &c->fault) : -ENOMEM;
	if (r < 0) {
		if (file)
			object_file_unref(file);
		return r;
	}
	LOCK_SCOPE(&objects->lock);
	file->changed_ns = clock_wall_ns();
	objects_note_put_locked(objects, dir->bucket, key, "-", 0, file->changed_ns);
	*ret = object_file_child(file);
	return 0;
}

/* ---- removing ---- */

struct look {
	const struct object_dir *dir; /* the one above */
	const char *marker;
	bool has_marker, has_more;
};

static bool is_away(const struct look *look, const struct object_entry *object)
{
	const struct objects *objects = look->dir->objects;
	const char *bucket = look->dir->bucket;
	LOCK_SCOPE(&look->dir->objects->lock);
	return (object->is_prefix ? renames_view_dir_locked(objects, bucket, object->key)
				  : renames_view_key_locked(objects, bucket, object->key)) == RENAME_GONE;
}

static int look_at(void *arg, const struct object_entry *object)
{
	struct look *look = arg;
	if (is_away(look, object))
		return 0;
	if (strcmp(object->key, look->marker) == 0)
		look->has_marker = true;
	else
		look->has_more = true;
	return 0;
}

static bool look_at_coming(void *arg, const struct rename_step *step)
{
	struct look *look = arg;
	if (strcmp(step->to_key, look->marker) == 0)
		look->has_marker = true;
	else
		look->has_more = true;
	return true;
}

static int look_below(struct call *c, struct backend *be, const struct object_dir *dir, const char *key,
		      struct look *look)
{
	struct object_page page = {.has_more = true};
	int r = 0;
	while (r == 0 && page.has_more && !look->has_more) {
		struct object_page next = {0};
		r = backend_objects(be, dir->bucket, key, page.cursor, 2, look_at, look, &next, &c->fault);
		page = next;
	}
	LOCK_SCOPE(&dir->objects->lock);
	(void)renames_each_below_locked(dir->objects, dir->bucket, key, look_at_coming, look);
	return r;
}

static bool has_spools(struct objects *objects, const char *bucket, const char *prefix)
{
	LOCK_SCOPE(&objects->lock);
	for (const struct spool *spool = objects->spool; spool; spool = spool->next)
		if (spool->file && !spool->file->is_gone && strcmp(spool->file->bucket, bucket) == 0 &&
		    str_has_prefix(spool->file->key, prefix))
			return true;
	return false;
}

/* Is there nothing in it but, perhaps, its marker? */
static int look_for_empty(struct call *c, const struct object_dir *dir, const char *key, struct look *look)
{
	struct backend *be;
	*look = (struct look){.dir = dir, .marker = key};
	int r = ask(c, dir, &be);
	if (r == 0)
		r = look_below(c, be, dir, key, look);
	return r == 0 && (look->has_more || has_spools(dir->objects, dir->bucket, key)) ? -ENOTEMPTY : r;
}

int object_dir_is_empty(struct call *c, const struct object_dir *dir, const char *name)
{
	char key[OBJECT_KEY_MAX + 1];
	struct look look;
	int r = object_dir_key(dir, name, true, key);
	return r < 0 ? r : look_for_empty(c, dir, key, &look);
}

static int remove_marker(struct call *c, const struct object_dir *dir, const char *key)
{
	struct backend *be;
	int r = ask(c, dir, &be);
	if (r == 0)
		r = backend_object_remove(be, dir->bucket, key, NULL, &c->fault);
	if (r == -ENOENT) {
		c->fault.text[0] = '\0';
		r = 0;
	}
	return r;
}

static int dir_rmdir(struct call *c, struct node *n, const char *name)
{
	struct object_dir *dir = dir_of(n);
	struct objects *objects = dir->objects;
	char key[OBJECT_KEY_MAX + 1];
	struct look look;
	int r = object_dir_key(dir, name, true, key);
	if (r == 0)
		r = look_for_empty(c, dir, key, &look);
	if (r < 0 && r != -ENOENT)
		return r;
	c->fault.text[0] = '\0';
	bool is_queued;
	{
		LOCK_SCOPE(&objects->lock);
		is_queued = renames_touch_below_locked(objects, dir->bucket, key);
		objects_note_gone_locked(objects, dir->bucket, key);
		struct object_dir *below = object_dir_known_locked(objects, dir->bucket, key);
		if (below)
			below->seen_ms = below->listed_ms = 0;
	}
	if (r == 0 && is_queued)
		return queue_marker(c, dir, key, false);
	return r == 0 && look.has_marker ? remove_marker(c, dir, key) : 0;
}

int object_find_file(struct call *c, struct object_dir *dir, const char *name, struct object_file **ret)
{
	struct child child;
	int r = object_dir_find(c, dir, name, &child);
	if (r < 0)
		return r;
	if (child.kind == &kind_object_file) {
		*ret = child.obj;
		return 0;
	}
	object_dir_unref(child.obj);
	return -EISDIR;
}

bool object_is_local_locked(const struct object_file *file)
{
	const struct spool *spool = file->spool;
	return !file->version && spool && !spool->if_version[0] && !spool->may_be_there &&
	       !spool->is_uploading;
}

void object_gone_locked(const struct object_file *file)
{
	struct objects *objects = file->objects;
	char prefix[OBJECT_KEY_MAX + 2];
	snprintf(prefix, sizeof(prefix), "%s/", file->key);
	objects_note_gone_locked(objects, file->bucket, file->key);
	if (!object_dir_known_locked(objects, file->bucket, prefix))
		objects_missing_locked(objects, file->bucket, file->key,
				       clock_mono_ms() + OBJECTS_MISSING_MS);
}

/* A rename brings it to its key: it is removed in its turn. */
static int queue_removal(struct call *c, struct object_file *file)
{
	struct rename *rename = rename_new(file->objects, 1);
	int r = rename ? 0 : -ENOMEM;
	if (r == 0) {
		spool_discard(file);
		LOCK_SCOPE(&file->objects->lock);
		const struct rename_step step = {.bucket = file->bucket, .key = file->key, .file = file};
		r = rename_add_locked(rename, &step);
	}
	if (r == 0)
		return rename_begin(c, rename);
	rename_free(rename);
	return r;
}

static int unlink_file(struct call *c, struct object_file *file)
{
	struct objects *objects = file->objects;
	struct backend *be;
	bool is_local, is_coming;
	int r = 0;
	{
		LOCK_SCOPE(&objects->lock);
		is_coming = file->at_key ||
			    renames_view_key_locked(objects, file->bucket, file->key) == RENAME_THERE;
	}
	if (is_coming)
		return queue_removal(c, file);
	{
		LOCK_SCOPE(&objects->lock);
		is_local = object_is_local_locked(file);
		if (!is_local)
			r = call_may_block(c, objects->remote);
	}
	if (r == 0)
		spool_discard(file);
	if (r == 0 && !is_local)
		r = remote_backend(objects->remote, &be, &c->fault);
	if (r == 0 && !is_local)
		r = backend_object_remove(be, file->bucket, file->key, NULL, &c->fault);
	if (r < 0 && r != -ENOENT)
		return r;
	c->fault.text[0] = '\0';
	LOCK_SCOPE(&objects->lock);
	object_gone_locked(file);
	object_file_detach_locked(file);
	if (file->spool)
		spool_unrecord(file->spool); /* of a write that came between */
	return 0;
}

static int dir_unlink(struct call *c, struct node *n, const char *name)
{
	struct object_file *file;
	int r = object_find_file(c, dir_of(n), name, &file);
	if (r < 0)
		return r;
	r = unlink_file(c, file);
	object_file_unref(file);
	return r;
}

static int dir_fsync(struct call *c, struct node *n)
{
	return renames_wait_below(c, dir_of(n));
}

const struct node_kind kind_object_dir = {
	.name = "object-dir",
	.type = S_IFDIR,
	.getattr = dir_getattr,
	.setattr = dir_setattr,
	.ino = dir_ino,
	.drop = dir_drop,
	.lookup = dir_lookup,
	.list = dir_list,
	.mkdir = dir_mkdir,
	.rmdir = dir_rmdir,
	.unlink = dir_unlink,
	.create = dir_create,
	.rename = object_dir_rename,
	.fsyncdir = dir_fsync,
};
