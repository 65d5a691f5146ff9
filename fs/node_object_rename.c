/* SPDX-License-Identifier: MIT */
/*
 * rename(2) of files and directories of objects. Decided from memory, with one short listing for a directory; the rest is
 * the queue's. What the service never had only changes its name.
 */
#include "node_object.h"

#include "cleanup.h"
#include "clock.h"
#include "inode.h"
#include "kinds.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "spool.h"
#include "stream.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>

/* ---- files ---- */

/* What is sent to the new place, or read from it, has to end first: within the patience of a rename. */
static int wait_for_target(struct call *c, struct object_file *old)
{
	LOCK_SCOPE(&old->objects->lock);
	struct spool *spool = old->spool;
	if (!spool || !(spool->is_uploading || spool->is_filling))
		return 0;
	if (!c->request)
		return -EAGAIN;
	request_park(c->request, RENAME_PATIENCE_MS);
	waiters_add(&spool->waiters, c->request);
	return CALL_PARKED;
}

/* What it may replace: `if_version` of backend.h, NULL for anything. */
static int version_to_replace_locked(const struct object_file *old, char **ret)
{
	const struct spool *spool = old->spool;
	if ((spool && spool->may_be_there) || (old->at_key && !old->version)) {
		*ret = NULL;
		return 0;
	}
	*ret = strdup(old->version ? old->version : "");
	return *ret ? 0 : -ENOMEM;
}

/* Makes way at the new place: what was not delivered to it is of no use any more. */
static int take_target(struct call *c, struct object_dir *newdir, const char *newname, unsigned flags,
		       char **ret_if_version)
{
	struct object_file *old;
	int r = object_find_file(c, newdir, newname, &old);
	if (r == -ENOENT) {
		*ret_if_version = strdup("");
		return *ret_if_version ? 0 : -ENOMEM;
	}
	if (r < 0)
		return r;
	r = flags & RENAME_NOREPLACE ? -EEXIST : wait_for_target(c, old);
	{
		LOCK_SCOPE(&newdir->objects->lock);
		if (r == 0)
			r = version_to_replace_locked(old, ret_if_version);
	}
	if (r == 0)
		spool_discard(old);
	object_file_unref(old);
	return r;
}

/* Not at the service yet: it is delivered under its new name, over what is there now. */
static int move_spool(struct object_file *file, const char *bucket, const char *key, const char *if_version)
{
	struct objects *objects = file->objects;
	char *copy = strdup(if_version ? if_version : "");
	if (!copy)
		return -ENOMEM;
	{
		LOCK_SCOPE(&objects->lock);
		struct object_file *old = object_file_find_locked(objects, bucket, key);
		if (old && old != file)
			object_file_detach_locked(old);
		if (old)
			object_file_unref_locked(old);
		stream_give_up_locked(file->spool);
		free(file->spool->if_version);
		file->spool->if_version = copy;
		object_gone_locked(file);
		int r = object_file_move_locked(file, bucket, key);
		if (r < 0)
			return r;
		objects_note_put_locked(objects, bucket, key, file->version ? file->version : "-",
					file->size_bytes, file->changed_ns);
	}
	return spool_moved(file);
}

/* The version that is there for certain; NULL: what is under way makes it. */
static const char *certain_version_locked(const struct object_file *file)
{
	const struct spool *spool = file->spool;
	bool is_changing = file->at_key || (spool && (spool->is_uploading || spool->may_be_there));
	return is_changing ? NULL : file->version;
}

static int queue_file(struct call *c, struct object_file *file, const char *bucket, const char *key,
		      const char *if_version)
{
	struct rename *rename = rename_new(file->objects, 1);
	int r = rename ? 0 : -ENOMEM;
	{
		LOCK_SCOPE(&file->objects->lock);
		const struct rename_step step = {.bucket = file->bucket,
						 .key = file->key,
						 .to_bucket = (char *)bucket,
						 .to_key = (char *)key,
						 .version = (char *)certain_version_locked(file),
						 .if_version = (char *)if_version,
						 .size_bytes = file->size_bytes,
						 .changed_ns = file->changed_ns,
						 .file = file};
		if (r == 0)
			r = rename_add_locked(rename, &step);
		if (r == 0 && file->spool)
			stream_give_up_locked(file->spool);
	}
	if (r == 0)
		return rename_begin(c, rename);
	rename_free(rename);
	return r;
}

static void tell_moved(struct call *c, const struct node_kind *kind, void *obj, struct node *newdir,
		       const char *newname)
{
	struct node *n = inode_find(c->serve->table, kind, obj, 0, NULL);
	if (n)
		inode_moved(c->serve->table, n, newdir, newname);
	inode_unref(c->serve->table, n);
}

static int rename_file(struct call *c, struct object_file *file, struct node *newdir, const char *newname,
		       unsigned flags)
{
	struct object_dir *to = newdir->obj;
	char key[OBJECT_KEY_MAX + 1];
	cleanup_free char *if_version = NULL;
	bool is_local;
	int r = object_new_key(c, to, newname, false, key);
	if (r == 0)
		r = take_target(c, to, newname, flags, &if_version);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&file->objects->lock);
		r = object_file_check_locked(c, file);
		is_local = object_is_local_locked(file);
	}
	if (r < 0)
		return r;
	tell_moved(c, &kind_object_file, file, newdir, newname);
	return is_local ? move_spool(file, to->bucket, key, if_version)
			: queue_file(c, file, to->bucket, key, if_version);
}

/* ---- directories ---- */

struct plan {
	struct objects *objects;
	const char *bucket, *from, *to_bucket, *to;
	struct rename *rename;
	struct object_file *local[RENAME_STEPS_MAX]; /* referenced */
	size_t n_local;
};

/* The same below the other prefix. */
static int moved_key(const struct plan *plan, const char *key, char ret[static OBJECT_KEY_MAX + 1])
{
	int n = snprintf(ret, OBJECT_KEY_MAX + 1, "%s%s", plan->to, key + strlen(plan->from));
	return n > OBJECT_KEY_MAX ? -ENAMETOOLONG : 0;
}

static int add_step_locked(struct plan *plan, const struct rename_step *like)
{
	char to[OBJECT_KEY_MAX + 1];
	struct rename_step step = *like;
	int r = moved_key(plan, like->key ? like->key : plan->from, to);
	bool is_marker = str_has_suffix(to, "/");
	step.to_bucket = (char *)plan->to_bucket;
	step.to_key = to;
	step.if_version = is_marker ? NULL : "";
	if (r == 0)
		r = rename_add_locked(plan->rename, &step);
	return r == -EFBIG ? -EXDEV : r; /* mv copies file by file, each at the service */
}

/* A row of the service, unless renames say otherwise of it. */
static int take_row(void *arg, const struct object_entry *object)
{
	struct plan *plan = arg;
	struct objects *objects = plan->objects;
	struct object_file *file = NULL;
	LOCK_SCOPE(&objects->lock);
	if (!str_has_prefix(object->key, plan->from) ||
	    renames_view_key_locked(objects, plan->bucket, object->key) != RENAME_NO_VIEW)
		return 0;
	if (!str_has_suffix(object->key, "/")) {
		file = object_file_get_locked(objects, plan->bucket, object->key);
		if (!file)
			return -ENOMEM;
		if (!file->spool)
			(void)object_file_set_locked(file, object->version, object->size_bytes,
						     object->changed_ns,
						     false); /* a stale one stays behind */
	}
	bool is_sent = file && file->spool && !certain_version_locked(file);
	const struct rename_step step = {.bucket = (char *)plan->bucket,
					 .key = (char *)object->key,
					 .version = is_sent ? NULL : (char *)object->version,
					 .size_bytes = object->size_bytes,
					 .changed_ns = object->changed_ns,
					 .file = file};
	int r = add_step_locked(plan, &step);
	if (file)
		object_file_unref_locked(file);
	return r;
}

struct gather {
	struct plan *plan;
	int r;
};

/* What an earlier rename brings here. */
static bool take_coming(void *arg, const struct rename_step *coming)
{
	struct gather *gather = arg;
	struct plan *plan = gather->plan;
	for (size_t i = 0; i < plan->rename->n_steps; i++)
		if (strcmp(plan->rename->step[i].key, coming->to_key) == 0)
			return true;
	struct object_file *file = object_file_find_locked(plan->objects, plan->bucket, coming->to_key);
	const struct rename_step step = {.bucket = coming->to_bucket,
					 .key = coming->to_key,
					 .size_bytes = coming->size_bytes,
					 .changed_ns = coming->changed_ns,
					 .file = file};
	gather->r = add_step_locked(plan, &step);
	if (file)
		object_file_unref_locked(file);
	return gather->r == 0;
}

static bool is_planned(const struct plan *plan, const struct object_file *file)
{
	for (size_t i = 0; i < plan->rename->n_steps; i++)
		if (plan->rename->step[i].file == file)
			return true;
	return false;
}

/* Files that the service does not have: being sent for the first time, or not sent at all. */
static int take_spools_locked(struct plan *plan)
{
	int r = 0;
	for (struct spool *spool = plan->objects->spool; r == 0 && spool; spool = spool->next) {
		struct object_file *file = spool->file;
		if (!file || file->is_gone || strcmp(file->bucket, plan->bucket) != 0 ||
		    !str_has_prefix(file->key, plan->from) || is_planned(plan, file))
			continue;
		if (plan->n_local + plan->rename->n_steps >= RENAME_STEPS_MAX)
			return -EXDEV;
		if (object_is_local_locked(file)) {
			file->n_refs++;
			plan->local[plan->n_local++] = file;
			continue;
		}
		const struct rename_step step = {.bucket = file->bucket,
						 .key = file->key,
						 .size_bytes = file->size_bytes,
						 .changed_ns = file->changed_ns,
						 .file = file};
		r = add_step_locked(plan, &step);
	}
	return r;
}

static int take_ours(struct plan *plan)
{
	struct gather gather = {.plan = plan};
	LOCK_SCOPE(&plan->objects->lock);
	(void)renames_each_below_locked(plan->objects, plan->bucket, plan->from, take_coming, &gather);
	int r = gather.r;
	if (r == 0)
		r = take_spools_locked(plan);
	if (r == 0 && plan->rename->n_steps == 0) { /* nothing but the name */
		const struct rename_step step = {.bucket = (char *)plan->bucket};
		r = add_step_locked(plan, &step);
	}
	return r;
}

/* One page of the service, and what is on its way. */
static int make_plan(struct call *c, struct plan *plan)
{
	enum { PAGE_ROWS = 1000 };
	struct backend *be;
	bool has_more = false;
	int r = remote_backend(plan->objects->remote, &be, &c->fault);
	if (r == 0)
		r = backend_objects_below(be, plan->bucket, plan->from, PAGE_ROWS, take_row, plan, &has_more,
					  &c->fault);
	if (r == 0)
		r = has_more ? -EXDEV : take_ours(plan);
	if (r == -EXDEV)
		c->fault.text[0] = '\0';
	return r;
}

static void plan_release(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_local; i++)
		object_file_unref(plan->local[i]);
	rename_free(plan->rename);
}

static int move_local(const struct plan *plan)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < plan->n_local; i++) {
		char to[OBJECT_KEY_MAX + 1];
		r = moved_key(plan, plan->local[i]->key, to);
		if (r == 0)
			r = move_spool(plan->local[i], plan->to_bucket, to, "");
	}
	return r;
}

/* A directory that is there makes way when it is empty. */
static int check_target_dir(struct call *c, struct object_dir *newdir, const char *newname, unsigned flags)
{
	struct child child;
	int r = object_dir_find(c, newdir, newname, &child);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (child.kind == &kind_object_file) {
		object_file_unref(child.obj);
		return -ENOTDIR;
	}
	object_dir_unref(child.obj);
	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	return object_dir_is_empty(c, newdir, newname);
}

static int rename_dir(struct call *c, struct object_dir *dir, struct node *newdir, const char *newname,
		      unsigned flags)
{
	struct object_dir *parent = newdir->obj;
	char to[OBJECT_KEY_MAX + 1];
	int r = object_new_key(c, parent, newname, true, to);
	if (r == 0)
		r = call_may_block(c, parent->objects->remote);
	if (r == 0)
		r = check_target_dir(c, parent, newname, flags);
	if (r < 0)
		return r;
	__attribute__((cleanup(plan_release))) struct plan plan = {
		.objects = dir->objects,
		.bucket = dir->bucket,
		.from = dir->prefix,
		.to_bucket = parent->bucket,
		.to = to,
		.rename = rename_new(dir->objects, RENAME_STEPS_MAX)};
	if (!plan.rename)
		return -ENOMEM;
	plan.rename->from = strdup(plan.from);
	plan.rename->to = strdup(to);
	if (!plan.rename->from || !plan.rename->to)
		return -ENOMEM;
	r = make_plan(c, &plan);
	if (r == 0)
		r = move_local(&plan);
	if (r < 0)
		return r;
	tell_moved(c, &kind_object_dir, dir, newdir, newname);
	return rename_begin(c, STEAL(plan.rename));
}

/* ---- the kind's ---- */

int object_dir_rename(struct call *c, struct node *n, const char *name, struct node *newdir,
		      const char *newname, unsigned flags)
{
	struct child child;
	if (newdir->kind != &kind_object_dir || newdir->remote != n->remote)
		return -EXDEV;
	if (flags & RENAME_EXCHANGE)
		return fault_set(&c->fault, EPERM, "a service cannot exchange two objects in one step");
	int r = object_dir_find(c, n->obj, name, &child);
	if (r < 0)
		return r;
	if (child.kind == &kind_object_file) {
		r = rename_file(c, child.obj, newdir, newname, flags);
		object_file_unref(child.obj);
	} else {
		r = rename_dir(c, child.obj, newdir, newname, flags);
		object_dir_unref(child.obj);
	}
	return r;
}
