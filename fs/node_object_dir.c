/* SPDX-License-Identifier: MIT */
/*
 * Prefixes as directories. mkdir puts a marker, an object of no bytes whose key ends in a slash; rmdir removes it. What
 * is answered here holds a lock of the kernel: each is one short call of the service, or a copy and a removal.
 */
#include "cleanup.h"
#include "clock.h"
#include "inode.h"
#include "kinds.h"
#include "objects.h"
#include "remote.h"
#include "serve_private.h"
#include "spool.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>

enum { COPY_MAX = 1 << 30 }; /* a rename of more is left to mv, which shows what it does */

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
	ret->attr_ttl = ret->entry_ttl = TTL_LISTED;
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

static int new_key(struct call *c, const struct object_dir *dir, const char *name, bool is_dir,
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

static int dir_mkdir(struct call *c, struct node *n, const char *name, mode_t mode, struct child *ret)
{
	struct object_dir *dir = dir_of(n);
	struct objects *objects = dir->objects;
	char key[OBJECT_KEY_MAX + 1];
	struct object_detail detail = {0};
	struct backend *be;
	int r = new_key(c, dir, name, true, key);
	if (r == 0)
		r = ask(c, dir, &be);
	if (r == 0)
		r = backend_object_put(be, dir->bucket, key, objects->empty_fd, 0, "", &detail, &c->fault);
	if (r < 0)
		return r;
	LOCK_SCOPE(&objects->lock);
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
	int r = new_key(c, dir, name, false, key);
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
	const char *marker;
	bool has_marker, has_more;
};

static int look_at(void *arg, const struct object_entry *object)
{
	struct look *look = arg;
	if (strcmp(object->key, look->marker) == 0)
		look->has_marker = true;
	else
		look->has_more = true;
	return 0;
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

static int dir_rmdir(struct call *c, struct node *n, const char *name)
{
	struct object_dir *dir = dir_of(n);
	struct objects *objects = dir->objects;
	char key[OBJECT_KEY_MAX + 1];
	struct look look = {.marker = key};
	struct backend *be;
	int r = object_dir_key(dir, name, true, key);
	if (r == 0)
		r = ask(c, dir, &be);
	if (r == 0)
		r = look_below(c, be, dir, key, &look);
	if (r == 0 && (look.has_more || has_spools(objects, dir->bucket, key)))
		return -ENOTEMPTY;
	if (r == 0 && look.has_marker)
		r = backend_object_remove(be, dir->bucket, key, NULL, &c->fault);
	if (r < 0 && r != -ENOENT)
		return r;
	c->fault.text[0] = '\0';
	LOCK_SCOPE(&objects->lock);
	objects_note_gone_locked(objects, dir->bucket, key);
	struct object_dir *below = object_dir_known_locked(objects, dir->bucket, key);
	if (below)
		below->seen_ms = below->listed_ms = 0;
	return 0;
}

/* The file of that name, referenced. -EISDIR: a directory. */
static int find_file(struct call *c, struct object_dir *dir, const char *name, struct object_file **ret)
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

/* Nothing of it may be at the service. */
static bool is_local_locked(const struct object_file *file)
{
	const struct spool *spool = file->spool;
	return !file->version && spool && !spool->if_version[0] && !spool->may_be_there;
}

/* While it is sent, and only then, this parks. */
static int wait_for_upload(struct call *c, struct object_file *file)
{
	LOCK_SCOPE(&file->objects->lock);
	struct spool *spool = file->spool;
	if (!spool || !(spool->is_uploading || spool->is_filling))
		return 0;
	if (!c->request)
		return -EAGAIN;
	request_park(c->request, REQUEST_DEADLINE_MS);
	waiters_add(&spool->waiters, c->request);
	return CALL_PARKED;
}

/* Nothing has its name any more, unless a directory has. */
static void gone_locked(const struct object_file *file)
{
	struct objects *objects = file->objects;
	char prefix[OBJECT_KEY_MAX + 2];
	snprintf(prefix, sizeof(prefix), "%s/", file->key);
	objects_note_gone_locked(objects, file->bucket, file->key);
	if (!object_dir_known_locked(objects, file->bucket, prefix))
		objects_missing_locked(objects, file->bucket, file->key,
				       clock_mono_ms() + OBJECTS_MISSING_MS);
}

static int unlink_file(struct call *c, struct object_file *file)
{
	struct objects *objects = file->objects;
	struct backend *be;
	bool is_local;
	int r = 0;
	{
		LOCK_SCOPE(&objects->lock);
		is_local = is_local_locked(file);
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
	gone_locked(file);
	object_file_detach_locked(file);
	if (file->spool)
		spool_unrecord(file->spool); /* of a write that came between */
	return 0;
}

static int dir_unlink(struct call *c, struct node *n, const char *name)
{
	struct object_file *file;
	int r = find_file(c, dir_of(n), name, &file);
	if (r < 0)
		return r;
	r = unlink_file(c, file);
	object_file_unref(file);
	return r;
}

/* ---- renaming files ---- */

/* What is at the new place, as far as this mount knows, makes way. */
static int clear_target(struct call *c, struct objects *objects, const char *bucket, const char *key)
{
	struct object_file *old;
	{
		LOCK_SCOPE(&objects->lock);
		old = object_file_find_locked(objects, bucket, key);
	}
	if (!old)
		return 0;
	int r = wait_for_upload(c, old);
	if (r == 0)
		spool_discard(old);
	LOCK_SCOPE(&objects->lock);
	if (r == 0)
		object_file_detach_locked(old);
	object_file_unref_locked(old);
	return r;
}

static int moved_locked(struct object_file *file, const char *bucket, const char *key)
{
	struct objects *objects = file->objects;
	gone_locked(file);
	int r = object_file_move_locked(file, bucket, key);
	if (r == 0)
		objects_note_put_locked(objects, bucket, key, file->version ? file->version : "-",
					file->size_bytes, file->changed_ns);
	return r;
}

struct move {
	char *bucket, *key, *version; /* of the source */
	const char *to_bucket, *to_key;
	struct object_detail detail; /* of the copy */
};

/* At the service: a copy, and the removal of exactly what was copied. */
static int move_at_service(struct call *c, struct objects *objects, struct move *move, const char *if_version)
{
	struct backend *be;
	if (!move->bucket || !move->key || !move->version)
		return -ENOMEM;
	int r = remote_backend(objects->remote, &be, &c->fault);
	if (r == 0)
		r = backend_object_copy(be, move->bucket, move->key, move->version, move->to_bucket,
					move->to_key, if_version, &move->detail, &c->fault);
	if (r == 0)
		r = clear_target(c, objects, move->to_bucket, move->to_key);
	if (r == 0)
		r = backend_object_remove(be, move->bucket, move->key, move->version, &c->fault);
	return r == -ENOENT && move->detail.version ? 0 : r;
}

static int move_object(struct call *c, struct object_file *file, const char *bucket, const char *key,
		       const char *if_version)
{
	struct objects *objects = file->objects;
	struct move move = {.to_bucket = bucket, .to_key = key};
	{
		LOCK_SCOPE(&objects->lock);
		move.bucket = strdup(file->bucket);
		move.key = strdup(file->key);
		move.version = strdup(file->version);
		file->is_moving = true;
	}
	int r = move_at_service(c, objects, &move, if_version);
	const struct object_detail *detail = &move.detail;
	{
		LOCK_SCOPE(&objects->lock);
		if (r == 0)
			r = object_file_set_locked(file, detail->version, detail->size_bytes,
						   detail->changed_ns, true);
		if (r == 0)
			r = moved_locked(file, bucket, key);
		else if (detail->version) /* both are there: nothing is lost */
			objects_note_put_locked(objects, bucket, key, detail->version, detail->size_bytes,
						detail->changed_ns);
		file->is_moving = false;
		pthread_cond_broadcast(&objects->moved);
	}
	free(move.bucket);
	free(move.key);
	free(move.version);
	object_detail_release(&move.detail);
	return r;
}

/* Not at the service yet: it is delivered under its new name, over what is there now. */
static int move_spool(struct call *c, struct object_file *file, const struct object_dir *newdir,
		      const char *key, const char *version)
{
	struct objects *objects = file->objects;
	int r = clear_target(c, objects, newdir->bucket, key);
	char *copy = r == 0 ? strdup(version) : NULL;
	if (r == 0 && !copy)
		r = -ENOMEM;
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&objects->lock);
		if (file->spool) {
			free(file->spool->if_version);
			file->spool->if_version = copy;
		} else {
			free(copy);
		}
		r = moved_locked(file, newdir->bucket, key);
	}
	return r < 0 ? r : spool_moved(file);
}

/* The version at the new place, "" if there is none. */
static int target_version(struct call *c, struct object_dir *newdir, const char *name, char **ret)
{
	struct object_file *old;
	int r = find_file(c, newdir, name, &old);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0) {
		LOCK_SCOPE(&newdir->objects->lock);
		*ret = strdup(old->version ? old->version : "");
		object_file_unref_locked(old);
	} else {
		*ret = strdup("");
	}
	return *ret ? 0 : -ENOMEM;
}

/* Waits until what is sent to the new place has got there. */
static int wait_for_target(struct call *c, struct objects *objects, const char *bucket, const char *key)
{
	struct object_file *old;
	{
		LOCK_SCOPE(&objects->lock);
		old = object_file_find_locked(objects, bucket, key);
	}
	int r = old ? wait_for_upload(c, old) : 0;
	if (old)
		object_file_unref(old);
	return r;
}

static int rename_file(struct call *c, struct object_file *file, struct object_dir *newdir,
		       const char *newname, unsigned flags)
{
	char key[OBJECT_KEY_MAX + 1];
	bool is_local, is_dirty, is_big;
	int r = new_key(c, newdir, newname, false, key);
	if (r == 0)
		r = call_may_block(c, newdir->objects->remote);
	if (r == 0)
		r = wait_for_upload(c, file);
	if (r == 0)
		r = wait_for_target(c, newdir->objects, newdir->bucket, key);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&file->objects->lock);
		is_local = is_local_locked(file);
		is_dirty = file->spool && file->spool->is_dirty;
		is_big = file->size_bytes > COPY_MAX;
	}
	if (is_local) {
		cleanup_free char *version = NULL;
		r = target_version(c, newdir, newname, &version);
		return r < 0 ? r : move_spool(c, file, newdir, key, version);
	}
	if (is_dirty)
		return fault_set(&c->fault, EBUSY,
				 "what was written to it is not delivered yet: close it first");
	r = object_file_fresh(c, file);
	if (r < 0)
		return r;
	return is_big ? -EXDEV
		      : move_object(c, file, newdir->bucket, key, flags & RENAME_NOREPLACE ? "" : NULL);
}

static void tell_moved(struct call *c, struct object_file *file, struct node *newdir, const char *newname)
{
	struct node *n = inode_find(c->serve->table, &kind_object_file, file, 0, NULL);
	if (n)
		inode_moved(c->serve->table, n, newdir, newname);
	inode_unref(c->serve->table, n);
}

static int dir_rename(struct call *c, struct node *n, const char *name, struct node *newdir,
		      const char *newname, unsigned flags)
{
	struct object_file *file;
	if (newdir->kind != &kind_object_dir || newdir->remote != n->remote)
		return -EXDEV;
	if (flags & RENAME_EXCHANGE)
		return fault_set(&c->fault, EPERM, "a service cannot exchange two objects in one step");
	int r = find_file(c, dir_of(n), name, &file);
	if (r == -EISDIR)
		return -EXDEV; /* mv copies file by file, each at the service */
	if (r < 0)
		return r;
	r = rename_file(c, file, dir_of(newdir), newname, flags);
	if (r == 0)
		tell_moved(c, file, newdir, newname);
	object_file_unref(file);
	return r;
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
	.rename = dir_rename,
};
