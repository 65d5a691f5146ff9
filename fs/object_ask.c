/* SPDX-License-Identifier: MIT */
/*
 * Asking the service for objects: single names, attributes, buckets. From memory first; what is not known there is asked
 * on the remote's pool. In a directory without a fresh listing a name costs one call, seldom more; from the third name
 * within a second on the whole directory is listed instead.
 */
#include "objects.h"

#include "cleanup.h"
#include "clock.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "spool.h"

#include <errno.h>
#include <string.h>

enum { LOOKUPS_BEFORE_LISTING = 3, LOOKUPS_MS = 1000, LOOK_ROWS = 10 };

/* ---- one name ---- */

struct child object_dir_child(struct object_dir *dir)
{
	return (struct child){
		.kind = &kind_object_dir, .remote = dir->objects->remote, .obj = dir, .type = S_IFDIR};
}

struct child object_file_child(struct object_file *file)
{
	return (struct child){
		.kind = &kind_object_file, .remote = file->objects->remote, .obj = file, .type = S_IFREG};
}

static int give_dir_locked(struct objects *objects, const char *bucket, const char *prefix, int64_t seen_ms,
			   struct child *ret)
{
	struct object_dir *dir = object_dir_get_locked(objects, bucket, prefix);
	if (!dir)
		return -ENOMEM;
	if (seen_ms > dir->seen_ms)
		dir->seen_ms = seen_ms;
	*ret = object_dir_child(dir);
	return 0;
}

/* A file as a fresh listing has it, unless more is known of it. */
static int refresh_file_locked(const struct object_dir *dir, const struct object_row *row,
			       struct object_file *file)
{
	if (file->spool || file->at_key || file->fresh_ms >= dir->listed_ms)
		return 0;
	int r = object_file_set_locked(file, object_row_version(&dir->rows, row), row->size_bytes,
				       row->changed_ns, false);
	file->fresh_ms = dir->listed_ms;
	return r;
}

static int give_row_locked(const struct object_dir *dir, const struct object_row *row, struct child *ret)
{
	char key[OBJECT_KEY_MAX + 1], name[256];
	object_row_key(&dir->rows, row, name);
	if (object_dir_key(dir, name, object_row_is_dir(row), key) < 0)
		return -ENOENT;
	if (object_row_is_dir(row))
		return give_dir_locked(dir->objects, dir->bucket, key, dir->listed_ms, ret);
	struct object_file *file;
	int r;
	do {
		file = object_file_get_locked(dir->objects, dir->bucket, key);
		r = file ? refresh_file_locked(dir, row, file) : -ENOMEM;
		if (r < 0 && file)
			object_file_unref_locked(file);
	} while (r == -ESTALE); /* an open one made way */
	if (r == 0)
		*ret = object_file_child(file);
	return r;
}

/* 0 or -ENOENT from memory, any_age: however old that is; 1: the service has to be asked. */
static int find_locked(struct object_dir *dir, const char *name, const char *key, bool any_age,
		       struct child *ret)
{
	struct objects *objects = dir->objects;
	char prefix[OBJECT_KEY_MAX + 2];
	struct object_file *file = object_file_find_locked(objects, dir->bucket, key);
	if (file &&
	    (file->spool || file->at_key ||
	     (!dir->has_rows && (any_age ? file->version != NULL : object_file_is_fresh_locked(file))))) {
		*ret = object_file_child(file);
		return 0;
	}
	if (file)
		object_file_unref_locked(file);
	if (object_dir_is_listed_locked(dir) || (any_age && dir->has_rows)) {
		const struct object_row *row = object_rows_find(&dir->rows, name);
		return row ? give_row_locked(dir, row, ret) : -ENOENT;
	}
	if (objects_is_missing_locked(objects, dir->bucket, key))
		return -ENOENT;
	snprintf(prefix, sizeof(prefix), "%s/", key);
	enum rename_view view = renames_view_dir_locked(objects, dir->bucket, prefix);
	if (view == RENAME_THERE)
		return give_dir_locked(objects, dir->bucket, prefix, clock_mono_ms(), ret);
	struct object_dir *below = object_dir_known_locked(objects, dir->bucket, prefix);
	if (!below &&
	    (view == RENAME_GONE || renames_view_key_locked(objects, dir->bucket, key) == RENAME_GONE))
		return -ENOENT;
	if (!below || !(any_age ? below->seen_ms : objects_is_fresh(objects, below->seen_ms)))
		return 1;
	below->n_refs++;
	*ret = object_dir_child(below);
	return 0;
}

/* Many names are asked for here: is it time to list? */
static bool is_busy_locked(struct object_dir *dir, const char *name)
{
	int64_t now = clock_mono_ms();
	if (str_has_suffix(name, object_aside))
		return true;
	if (now - dir->lookups_ms > LOOKUPS_MS) {
		dir->lookups_ms = now;
		dir->n_lookups = 0;
	}
	return ++dir->n_lookups >= LOOKUPS_BEFORE_LISTING && !dir->is_huge;
}

static int count_one(void *arg, const struct object_entry *object)
{
	++*(size_t *)arg;
	return 0;
}

/* For -o xattr takes `detail` over, unless it tells of another version, or no more than a listing does. */
static void keep_facts_locked(struct object_file *file, struct object_detail *detail)
{
	enum { METADATA_MAX = 32 << 10 };
	if (!file->objects->remote->serve->ops.getxattr || !file->version || !detail->content_type ||
	    strcmp(file->version, detail->version) != 0)
		return;
	object_detail_release(&file->facts);
	file->facts = *detail;
	*detail = (struct object_detail){0};
	file->facts_ms = clock_mono_ms();
	if (file->facts.metadata && strlen(file->facts.metadata) > METADATA_MAX)
		file->facts.metadata[0] = '\0';
}

static int take_detail(struct objects *objects, const char *bucket, const char *key,
		       struct object_detail *detail, struct child *ret)
{
	struct object_file *file;
	int r;
	LOCK_SCOPE(&objects->lock);
	do {
		file = object_file_get_locked(objects, bucket, key);
		r = file ? 0 : -ENOMEM;
		if (r == 0 && !file->spool && !file->at_key)
			r = object_file_set_locked(file, detail->version, detail->size_bytes,
						   detail->changed_ns, false);
		if (r < 0 && file)
			object_file_unref_locked(file);
	} while (r == -ESTALE); /* an open one made way */
	if (r == 0) {
		keep_facts_locked(file, detail);
		*ret = object_file_child(file);
	}
	return r;
}

/* What a listing of all that begins with a key says of its name. */
struct look {
	const char *key;
	struct object_detail object; /* without version: not seen */
	bool is_dir;
	bool is_past; /* a row was seen that comes behind all that begins with "key/" */
};

static int look_at(void *arg, const struct object_entry *entry)
{
	struct look *look = arg;
	if (!str_has_prefix(entry->key, look->key))
		return 0; /* not what was asked for */
	const char *rest = entry->key + strlen(look->key);
	if (*rest == '/')
		look->is_dir = true;
	else if (*rest)
		look->is_past |= (unsigned char)*rest > '/';
	else if (!look->object.version) {
		look->object.version = strdup(entry->version);
		look->object.size_bytes = entry->size_bytes;
		look->object.changed_ns = entry->changed_ns;
		return look->object.version ? 0 : -ENOMEM;
	}
	return 0;
}

/* So many names begin like this one ("key.a", "key.b") that the first of them did not tell: the two are asked for singly. */
static int look_closer(struct backend *be, const char *bucket, const char *prefix, struct look *look,
		       struct fault *fault)
{
	struct object_page page;
	size_t n = 0;
	int r = backend_objects(be, bucket, prefix, "", 1, count_one, &n, &page, fault);
	look->is_dir = r == 0 && (n > 0 || page.has_more);
	if (r < 0 || look->is_dir || look->object.version)
		return r;
	r = backend_object_get(be, bucket, look->key, &look->object, fault);
	if (r == -ENOENT)
		fault->text[0] = '\0';
	return r == -ENOENT ? 0 : r;
}

static int look_for(struct objects *objects, const char *bucket, const char *prefix, struct look *look,
		    struct fault *fault)
{
	struct backend *be;
	struct object_page page;
	int r = remote_backend(objects->remote, &be, fault);
	if (r == 0)
		r = backend_objects(be, bucket, look->key, "", LOOK_ROWS, look_at, look, &page, fault);
	if (r == 0 && page.has_more && !look->is_dir && !look->is_past)
		r = look_closer(be, bucket, prefix, look, fault);
	return r;
}

/* The directory wins over the object. */
static int ask_one(struct call *c, const struct object_dir *dir, const char *key, struct child *ret)
{
	struct objects *objects = dir->objects;
	struct look look = {.key = key};
	char prefix[OBJECT_KEY_MAX + 2];
	snprintf(prefix, sizeof(prefix), "%s/", key);
	int64_t now = clock_mono_ms();
	int r = remote_answered(objects->remote, look_for(objects, dir->bucket, prefix, &look, &c->fault),
				&c->fault);
	if (r == 0 && !look.is_dir && look.object.version) {
		r = take_detail(objects, dir->bucket, key, &look.object, ret);
	} else if (r == 0) {
		LOCK_SCOPE(&objects->lock);
		if (look.is_dir)
			r = give_dir_locked(objects, dir->bucket, prefix, now, ret);
		else
			objects_missing_locked(objects, dir->bucket, key, now + OBJECTS_MISSING_MS);
		r = look.is_dir ? r : -ENOENT;
	}
	object_detail_release(&look.object);
	return r;
}

/* The service cannot be asked: what was known of the name, or its error. */
static int find_old(struct call *c, struct object_dir *dir, const char *name, const char *key, int error,
		    struct child *ret)
{
	LOCK_SCOPE(&dir->objects->lock);
	if (!fault_is_passing(error) || find_locked(dir, name, key, true, ret) != 0)
		return error;
	c->fault.text[0] = '\0';
	return 0;
}

int object_dir_find(struct call *c, struct object_dir *dir, const char *name, struct child *ret)
{
	char key[OBJECT_KEY_MAX + 1];
	bool is_busy, has_asked = false;
	if (object_dir_key(dir, name, false, key) < 0)
		return -ENOENT; /* no object can have it */
	for (;;) {
		pthread_mutex_lock(&dir->objects->lock);
		int r = find_locked(dir, name, key, has_asked, ret);
		is_busy = r > 0 && c->may_block && is_busy_locked(dir, name);
		pthread_mutex_unlock(&dir->objects->lock);
		if (r <= 0)
			return r;
		r = call_may_block(c, dir->objects->remote);
		bool is_one = !is_busy || has_asked;
		if (r == 0)
			r = is_one ? ask_one(c, dir, key, ret)
				   : object_dir_fetch(c, dir, !str_has_suffix(name, object_aside));
		if (r < 0 || is_one)
			return r < 0 ? find_old(c, dir, name, key, r, ret) : 0;
		has_asked = true;
	}
}

/* ---- attributes ---- */

/* From the listing of its directory, if that is fresh. 1: it is not. */
static int refresh_from_listing_locked(struct object_file *file, struct object_dir **ret_dir)
{
	char prefix[OBJECT_KEY_MAX + 1];
	const char *slash = strrchr(file->key, '/');
	size_t skip = slash ? slash + 1 - file->key : 0;
	snprintf(prefix, sizeof(prefix), "%.*s", (int)skip, file->key);
	struct object_dir *dir = object_dir_get_locked(file->objects, file->bucket, prefix);
	if (!dir)
		return -ENOMEM;
	*ret_dir = dir;
	if (!object_dir_is_listed_locked(dir))
		return 1;
	const struct object_row *row = object_rows_find_key(&dir->rows, file->key + skip, false);
	return row ? refresh_file_locked(dir, row, file) : -ENOENT;
}

static int ask_file(struct call *c, struct object_file *file)
{
	struct objects *objects = file->objects;
	struct backend *be;
	struct object_detail detail = {0};
	cleanup_free char *bucket = NULL, *key = NULL;
	{
		LOCK_SCOPE(&objects->lock);
		bucket = strdup(file->bucket);
		key = strdup(file->key);
	}
	int r = bucket && key ? remote_backend(objects->remote, &be, &c->fault) : -ENOMEM;
	if (r == 0)
		r = remote_answered(objects->remote, backend_object_get(be, bucket, key, &detail, &c->fault),
				    &c->fault);
	LOCK_SCOPE(&objects->lock);
	bool is_here = !file->at_key && key && strcmp(file->key, key) == 0;
	if (!is_here) { /* renamed meanwhile: what is known of it holds */
		object_detail_release(&detail);
		c->fault.text[0] = '\0';
		return bucket && key ? 0 : -ENOMEM;
	}
	if (fault_is_passing(r) && file->version) {
		c->fault.text[0] = '\0';
		file->fresh_ms = objects_grace_ms(file->objects);
		return 0;
	}
	if (r == 0 && !file->spool)
		r = object_file_set_locked(file, detail.version, detail.size_bytes, detail.changed_ns, false);
	if (r == 0)
		keep_facts_locked(file, &detail);
	if (r == -ENOENT) {
		c->fault.text[0] = '\0';
		objects_note_gone_locked(objects, bucket, key);
	}
	object_detail_release(&detail);
	return r;
}

int object_file_check_locked(struct call *c, struct object_file *file)
{
	if (!file->is_stale)
		return 0;
	if (file->is_told)
		return -ESTALE;
	file->is_told = true;
	return fault_set(&c->fault, ESTALE,
			 "%s was changed by somebody else since it was opened; open it again", file->key);
}

int object_file_fresh(struct call *c, struct object_file *file)
{
	struct objects *objects = file->objects;
	bool has_asked = false;
	for (;;) {
		struct object_dir *dir = NULL;
		pthread_mutex_lock(&objects->lock);
		int r = object_file_check_locked(c, file);
		bool is_busy = false;
		if (r == 0 && !file->spool && !file->at_key && !file->is_gone &&
		    !object_file_is_fresh_locked(file)) {
			r = refresh_from_listing_locked(file, &dir);
			is_busy = r > 0 && !has_asked && c->may_block && is_busy_locked(dir, "");
		}
		pthread_mutex_unlock(&objects->lock);
		if (r > 0) {
			r = call_may_block(c, objects->remote);
			if (r == 0)
				r = is_busy ? object_dir_fetch(c, dir, true) : ask_file(c, file);
			if (r == 0 && is_busy)
				r = 1;
			has_asked = true;
		}
		if (dir)
			object_dir_unref(dir);
		if (r <= 0)
			return r;
	}
}

int object_file_know(struct call *c, struct object_file *file)
{
	{
		LOCK_SCOPE(&file->objects->lock);
		if (objects_is_fresh(file->objects, file->facts_ms) || (file->spool && file->spool->is_dirty))
			return 0;
	}
	int r = call_may_block(c, file->objects->remote);
	return r < 0 ? r : ask_file(c, file);
}

/* ---- buckets ---- */

/* When it was seen; NULL: never. */
static int64_t *bucket_seen_locked(struct objects *objects, const char *name)
{
	for (size_t i = 0; i < objects->n_buckets; i++)
		if (strcmp(objects->bucket[i].name, name) == 0)
			return &objects->bucket[i].seen_ms;
	return NULL;
}

void objects_bucket_seen(struct objects *objects, const char *name, bool is_there)
{
	LOCK_SCOPE(&objects->lock);
	int64_t now = is_there ? clock_mono_ms() : 0, *seen_ms = bucket_seen_locked(objects, name);
	if (seen_ms) {
		*seen_ms = now;
		return;
	}
	void *bigger = is_there
			       ? realloc(objects->bucket, (objects->n_buckets + 1) * sizeof(*objects->bucket))
			       : NULL;
	if (!bigger)
		return; /* it is asked for again */
	objects->bucket = bigger;
	snprintf(objects->bucket[objects->n_buckets].name, sizeof(objects->bucket->name), "%s", name);
	objects->bucket[objects->n_buckets++].seen_ms = now;
}

int objects_buckets_seen(struct objects *objects, int (*sink)(void *arg, const char *name), void *arg)
{
	int r = 0;
	LOCK_SCOPE(&objects->lock);
	for (size_t i = 0; r == 0 && i < objects->n_buckets; i++)
		if (objects->bucket[i].seen_ms)
			r = sink(arg, objects->bucket[i].name);
	return r;
}

/* The service is away: is it one that was there? */
static bool has_grace(struct objects *objects, const char *name)
{
	LOCK_SCOPE(&objects->lock);
	int64_t *seen_ms = bucket_seen_locked(objects, name);
	if (!seen_ms || !*seen_ms)
		return false;
	*seen_ms = objects_grace_ms(objects);
	return true;
}

static int ask_bucket(struct call *c, struct objects *objects, const char *name)
{
	struct backend *be;
	struct object_page page;
	size_t n = 0;
	int r = call_may_block(c, objects->remote);
	if (r == 0)
		r = remote_backend(objects->remote, &be, &c->fault);
	if (r < 0)
		return r;
	r = remote_answered(objects->remote,
			    backend_objects(be, name, "", "", 1, count_one, &n, &page, &c->fault), &c->fault);
	if (r == 0)
		objects_bucket_seen(objects, name, true);
	else if (fault_is_passing(r) && has_grace(objects, name))
		r = 0;
	if (r == 0 || r == -ENOENT)
		c->fault.text[0] = '\0';
	return r;
}

int objects_bucket_find(struct call *c, struct objects *objects, const char *name, struct child *ret)
{
	bool is_known;
	{
		LOCK_SCOPE(&objects->lock);
		struct object_dir *dir = object_dir_get_locked(objects, name, "");
		if (!dir)
			return -ENOMEM;
		*ret = object_dir_child(dir);
		const int64_t *seen_ms = bucket_seen_locked(objects, name);
		is_known =
			object_dir_is_listed_locked(dir) || (seen_ms && objects_is_fresh(objects, *seen_ms));
	}
	int r = is_known ? 0 : ask_bucket(c, objects, name);
	if (r < 0)
		object_dir_unref(ret->obj);
	return r;
}
