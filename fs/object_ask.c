/* SPDX-License-Identifier: MIT */
/*
 * Asking the service for objects: listings, single names, attributes.
 *
 * From memory first. What is not known there is asked on the remote's pool; a listing is fetched by one, and the others
 * are parked on the directory until it has come. In a directory without a fresh listing a name costs two calls; from the
 * third name within a second on the whole directory is listed instead.
 */
#include "objects.h"

#include "cleanup.h"
#include "clock.h"
#include "log.h"
#include "remote.h"
#include "serve_private.h"
#include "spool.h"

#include <errno.h>
#include <string.h>

enum {
	PAGE_ROWS = 1000,
	ROWS_MAX = 5000000,
	LOOKUP_PAGES_MAX = 10, /* more are not fetched for the sake of a lookup */
	LOOKUPS_BEFORE_LISTING = 3,
	LOOKUPS_MS = 1000,
	SWEEP_ROWS = 10000, /* longer listings are let go when they are old */
	GRACE_MS = 5000     /* while the service is away, what is known goes on for so long */
};

static bool is_recent(int64_t ms, int64_t lifetime_ms)
{
	return ms && clock_mono_ms() - ms < lifetime_ms;
}

static bool is_listed_locked(const struct object_dir *dir)
{
	return dir->has_rows && is_recent(dir->listed_ms, OBJECTS_FRESH_MS);
}

/* ---- what cannot be a name ---- */

static bool is_reported(struct objects *objects, uint64_t hash)
{
	LOCK_SCOPE(&objects->lock);
	for (size_t i = 0; i < objects->n_reported; i++)
		if (objects->reported[i] == hash)
			return true;
	if (objects->n_reported == OBJECTS_REPORTED_MAX)
		return true;
	objects->reported[objects->n_reported++] = hash;
	return false;
}

static void report_hidden(const struct object_dir *dir, const char *key, const char *why)
{
	uint64_t hash =
		str_hash(str_hash(STR_HASH_START, dir->bucket, strlen(dir->bucket) + 1), key, strlen(key));
	char sentence[200];
	if (is_reported(dir->objects, hash))
		return;
	snprintf(sentence, sizeof(sentence),
		 "this key cannot be shown as a file: %s; other tools can rename it", why);
	objects_report(dir->objects, dir->bucket, key, EINVAL, sentence);
}

static void hide_double(void *arg, const char *name)
{
	const struct object_dir *dir = arg;
	char key[OBJECT_KEY_MAX + 1];
	if (object_dir_key(dir, name, false, key) == 0)
		report_hidden(dir, key, "another object or a directory has its name");
}

/* ---- listings ---- */

struct fetch {
	struct object_dir *dir;
	struct object_rows rows;
	int64_t changed_ns;
};

static int take_object(void *arg, const struct object_entry *object)
{
	struct fetch *fetch = arg;
	const struct object_dir *dir = fetch->dir;
	char name[OBJECT_KEY_MAX + 1];
	size_t skip = strlen(dir->prefix), len = strlen(object->key);
	if (object->changed_ns > fetch->changed_ns)
		fetch->changed_ns = object->changed_ns;
	if (strncmp(object->key, dir->prefix, skip) != 0 || len > OBJECT_KEY_MAX)
		return 0; /* not what was asked for */
	if (len == skip)
		return 0; /* the directory's own marker */
	bool is_dir = object->is_prefix;
	snprintf(name, sizeof(name), "%.*s", (int)(len - skip - is_dir), object->key + skip);
	if (!object_name_is_good(name)) {
		report_hidden(dir, object->key, "a part of it is empty, `.`, `..` or over 255 bytes");
		return 0;
	}
	if (fetch->rows.n >= ROWS_MAX)
		return -EFBIG;
	return object_rows_add(&fetch->rows, name, object);
}

/* Gives those who wait more time: there is progress. False: nobody waits any more. */
static bool prolong(struct object_dir *dir, struct request *own)
{
	bool has_waiters = own && !request_is_answered(own);
	if (has_waiters)
		request_park(own, REQUEST_DEADLINE_MS);
	LOCK_SCOPE(&dir->objects->lock);
	for (struct request *rq = dir->for_listing.first; rq; rq = rq->next_waiter) {
		if (request_is_answered(rq))
			continue;
		request_park(rq, REQUEST_DEADLINE_MS);
		has_waiters = true;
	}
	return has_waiters && !dir->objects->is_stopping;
}

/* All pages. A service that repeats itself for ever is found by Brent's way: one cursor is kept, from page 1, 2, 4, ... */
static int fetch_pages(struct call *c, struct fetch *fetch, size_t max_pages)
{
	const struct object_dir *dir = fetch->dir;
	struct backend *be;
	struct object_page page = {0}, kept = {0};
	size_t n_pages = 0, keep_at = 1;
	int r = remote_backend(dir->objects->remote, &be, &c->fault);
	page.has_more = true;
	while (r == 0 && page.has_more) {
		struct object_page next = {0};
		if (n_pages == max_pages)
			return -EFBIG;
		r = backend_objects(be, dir->bucket, dir->prefix, page.cursor, PAGE_ROWS, take_object, fetch,
				    &next, &c->fault);
		if (r == 0 && next.has_more && strcmp(next.cursor, kept.cursor) == 0)
			r = fault_set(&c->fault, EIO, "%s: the service lists the same page again and again",
				      dir->bucket);
		page = next;
		if (++n_pages == keep_at) {
			kept = page;
			keep_at *= 2;
		}
		if (r == 0 && page.has_more && !prolong(fetch->dir, c->request))
			r = -EINTR;
	}
	return r;
}

/* Names that were changed here while the service was being asked: their rows are as we left them. */
static int reapply_locked(struct object_dir *dir, struct object_rows *rows)
{
	int r = dir->changes.err;
	for (const char *p = dir->changes.data; r == 0 && p && p < dir->changes.data + dir->changes.len;
	     p += strlen(p) + 1) {
		bool is_dir = *p == 'd';
		const struct object_row *row = object_rows_find_key(&dir->rows, p + 1, is_dir);
		if (!row) {
			object_rows_remove(rows, p + 1, is_dir);
			continue;
		}
		const struct object_entry object = {.version = object_row_version(&dir->rows, row),
						    .size_bytes = row->size_bytes,
						    .changed_ns = row->changed_ns,
						    .is_prefix = is_dir};
		r = object_rows_put(rows, p + 1, &object);
	}
	return r;
}

static void sweep(void *arg);

static void plan_sweep_locked(struct objects *objects)
{
	if (!objects->is_sweep_due)
		objects->is_sweep_due =
			timers_in(objects->remote->serve->timers, 2 * OBJECTS_FRESH_MS, sweep, objects) == 0;
}

static void sweep(void *arg)
{
	struct objects *objects = arg;
	bool goes_on = false;
	LOCK_SCOPE(&objects->lock);
	for (size_t i = 0; i < OBJECTS_BUCKETS; i++) {
		for (struct object_dir *dir = objects->dir[i]; dir; dir = dir->next) {
			if (dir->rows.n < SWEEP_ROWS || dir->is_listing)
				continue;
			if (is_listed_locked(dir)) {
				goes_on = true;
				continue;
			}
			object_rows_release(&dir->rows);
			dir->has_rows = false;
		}
	}
	objects->is_sweep_due = false;
	if (goes_on)
		plan_sweep_locked(objects);
}

/* Is it so that the service is away, and what is known may be told for a while? */
static bool has_grace_locked(struct object_dir *dir, int r)
{
	bool is_away = r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EAGAIN || r == -EIO;
	if (!is_away || !dir->has_rows)
		return false;
	dir->listed_ms = clock_mono_ms() - OBJECTS_FRESH_MS + GRACE_MS;
	return true;
}

/* The result r of a fetch; gives what it means for the caller, and takes those who wait. */
static int finish_locked(struct fetch *fetch, int r, bool is_short, struct request **ret_row)
{
	struct object_dir *dir = fetch->dir;
	if (r == 0)
		r = reapply_locked(dir, &fetch->rows);
	if (r == 0)
		r = spools_list_locked(dir, &fetch->rows);
	if (r == 0) {
		object_rows_release(&dir->rows);
		dir->rows = fetch->rows;
		fetch->rows = (struct object_rows){0};
		dir->has_rows = true;
		dir->listed_ms = dir->seen_ms = clock_mono_ms();
		if (fetch->changed_ns > dir->changed_ns)
			dir->changed_ns = fetch->changed_ns;
		dir->is_huge = dir->rows.n > (size_t)LOOKUP_PAGES_MAX * PAGE_ROWS;
		plan_sweep_locked(dir->objects);
	} else if (r == -EFBIG && is_short) {
		dir->is_huge = true;
		r = 0;
	} else if (has_grace_locked(dir, r)) {
		r = 0;
	}
	if (!dir->has_rows)
		object_rows_release(&dir->rows);
	dir->is_listing = false;
	str_clear(&dir->changes);
	str_release(&dir->changes);
	*ret_row = waiters_take(&dir->for_listing);
	return r;
}

/* Fetches the listing, or parks the request until somebody has. is_short: gives up when it is long (0, is_huge). */
static int list(struct call *c, struct object_dir *dir, bool is_short)
{
	struct objects *objects = dir->objects;
	struct fetch fetch = {.dir = dir};
	struct request *row;
	int r = call_may_block(c, objects->remote);
	if (r < 0)
		return r;
	pthread_mutex_lock(&objects->lock);
	if (dir->is_listing) {
		r = c->request ? CALL_PARKED : -EAGAIN;
		if (c->request) {
			request_park(c->request, REQUEST_DEADLINE_MS);
			waiters_push(&dir->for_listing, c->request);
		}
		pthread_mutex_unlock(&objects->lock);
		return r;
	}
	dir->is_listing = true;
	dir->n_refs++;
	pthread_mutex_unlock(&objects->lock);
	r = fetch_pages(c, &fetch, is_short ? LOOKUP_PAGES_MAX : SIZE_MAX);
	if (r == 0)
		r = object_rows_sort(&fetch.rows, hide_double, dir);
	pthread_mutex_lock(&objects->lock);
	r = finish_locked(&fetch, r, is_short, &row);
	pthread_mutex_unlock(&objects->lock);
	object_rows_release(&fetch.rows);
	if (r == 0)
		waiters_resume(row);
	else
		waiters_fail(row, r, &c->fault);
	object_dir_unref(dir);
	return r;
}

static int add_rows_locked(const struct object_dir *dir, struct listing *ret)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < dir->rows.n; i++) {
		const struct object_row *row = &dir->rows.row[i];
		struct child child = {.kind = object_row_is_dir(row) ? &kind_object_dir : &kind_object_file,
				      .remote = dir->objects->remote,
				      .type = object_row_is_dir(row) ? S_IFDIR : S_IFREG};
		r = listing_add(ret, object_row_name(&dir->rows, row), &child);
	}
	return r;
}

int object_dir_list(struct call *c, struct object_dir *dir, struct listing *ret)
{
	bool has_asked = false;
	for (;;) {
		{
			LOCK_SCOPE(&dir->objects->lock);
			if (is_listed_locked(dir) || (has_asked && dir->has_rows)) {
				c->fault.text[0] = '\0';
				return add_rows_locked(dir, ret);
			}
		}
		int r = has_asked ? -EAGAIN : list(c, dir, false);
		if (r < 0)
			return r;
		has_asked = true;
	}
}

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
	if (file->spool || file->fresh_ms >= dir->listed_ms)
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

/* 0 or -ENOENT from memory; 1: the service has to be asked. */
static int find_locked(struct object_dir *dir, const char *name, const char *key, bool any_age,
		       struct child *ret)
{
	struct objects *objects = dir->objects;
	char prefix[OBJECT_KEY_MAX + 2];
	struct object_file *file = object_file_find_locked(objects, dir->bucket, key);
	if (file && (file->spool || (!dir->has_rows && object_file_is_fresh_locked(file)))) {
		*ret = object_file_child(file);
		return 0;
	}
	if (file)
		object_file_unref_locked(file);
	if (is_listed_locked(dir) || (any_age && dir->has_rows)) {
		const struct object_row *row = object_rows_find(&dir->rows, name);
		return row ? give_row_locked(dir, row, ret) : -ENOENT;
	}
	if (objects_is_missing_locked(objects, dir->bucket, key))
		return -ENOENT;
	snprintf(prefix, sizeof(prefix), "%s/", key);
	struct object_dir *below = object_dir_known_locked(objects, dir->bucket, prefix);
	if (!below || !is_recent(below->seen_ms, OBJECTS_FRESH_MS))
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

static int take_detail(struct objects *objects, const char *bucket, const char *key,
		       const struct object_detail *detail, struct child *ret)
{
	struct object_file *file;
	int r;
	LOCK_SCOPE(&objects->lock);
	do {
		file = object_file_get_locked(objects, bucket, key);
		r = file ? 0 : -ENOMEM;
		if (r == 0 && !file->spool)
			r = object_file_set_locked(file, detail->version, detail->size_bytes,
						   detail->changed_ns, false);
		if (r < 0 && file)
			object_file_unref_locked(file);
	} while (r == -ESTALE); /* an open one made way */
	if (r == 0)
		*ret = object_file_child(file);
	return r;
}

/* The directory wins: if there is one, the object is not asked for. */
static int ask_one(struct call *c, const struct object_dir *dir, const char *key, struct child *ret)
{
	struct objects *objects = dir->objects;
	struct backend *be;
	struct object_page page;
	struct object_detail detail = {0};
	char prefix[OBJECT_KEY_MAX + 2];
	size_t n = 0;
	snprintf(prefix, sizeof(prefix), "%s/", key);
	int64_t now = clock_mono_ms();
	int r = remote_backend(objects->remote, &be, &c->fault);
	if (r == 0)
		r = backend_objects(be, dir->bucket, prefix, "", 1, count_one, &n, &page, &c->fault);
	if (r < 0)
		return r;
	if (n > 0 || page.has_more) {
		LOCK_SCOPE(&objects->lock);
		return give_dir_locked(objects, dir->bucket, prefix, now, ret);
	}
	r = backend_object_get(be, dir->bucket, key, &detail, &c->fault);
	if (r == 0)
		r = take_detail(objects, dir->bucket, key, &detail, ret);
	object_detail_release(&detail);
	if (r == -ENOENT) {
		c->fault.text[0] = '\0';
		LOCK_SCOPE(&objects->lock);
		objects_missing_locked(objects, dir->bucket, key, now + OBJECTS_MISSING_MS);
	}
	return r;
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
		if (r == 0 && (!is_busy || has_asked))
			return ask_one(c, dir, key, ret);
		if (r == 0)
			r = list(c, dir, !str_has_suffix(name, object_aside));
		if (r < 0)
			return r;
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
	if (!is_listed_locked(dir))
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
		r = backend_object_get(be, bucket, key, &detail, &c->fault);
	LOCK_SCOPE(&objects->lock);
	if (r == 0 && !file->spool)
		r = object_file_set_locked(file, detail.version, detail.size_bytes, detail.changed_ns, false);
	if (r == -ENOENT) {
		c->fault.text[0] = '\0';
		objects_note_gone_locked(objects, bucket, key);
	}
	object_detail_release(&detail);
	return r;
}

int object_file_fresh(struct call *c, struct object_file *file)
{
	struct objects *objects = file->objects;
	bool has_asked = false;
	for (;;) {
		struct object_dir *dir = NULL;
		pthread_mutex_lock(&objects->lock);
		int r = file->is_stale ? -ESTALE : 0;
		bool is_busy = false;
		if (r == 0 && !file->spool && !file->is_gone && !object_file_is_fresh_locked(file)) {
			r = refresh_from_listing_locked(file, &dir);
			is_busy = r > 0 && !has_asked && c->may_block && is_busy_locked(dir, "");
		}
		pthread_mutex_unlock(&objects->lock);
		if (r > 0) {
			r = call_may_block(c, objects->remote);
			if (r == 0)
				r = is_busy ? list(c, dir, true) : ask_file(c, file);
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

/* ---- buckets ---- */

void objects_bucket_seen(struct objects *objects, const char *name, bool is_there)
{
	int64_t now = is_there ? clock_mono_ms() : 0;
	LOCK_SCOPE(&objects->lock);
	for (size_t i = 0; i < objects->n_buckets; i++) {
		if (strcmp(objects->bucket[i].name, name) == 0) {
			objects->bucket[i].seen_ms = now;
			return;
		}
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

static bool is_bucket_known_locked(const struct objects *objects, const char *name)
{
	for (size_t i = 0; i < objects->n_buckets; i++)
		if (strcmp(objects->bucket[i].name, name) == 0)
			return is_recent(objects->bucket[i].seen_ms, OBJECTS_FRESH_MS);
	return false;
}

static int ask_bucket(struct call *c, struct objects *objects, const char *name)
{
	struct backend *be;
	struct object_page page;
	size_t n = 0;
	int r = call_may_block(c, objects->remote);
	if (r == 0)
		r = remote_backend(objects->remote, &be, &c->fault);
	if (r == 0)
		r = backend_objects(be, name, "", "", 1, count_one, &n, &page, &c->fault);
	if (r == -ENOENT)
		c->fault.text[0] = '\0';
	if (r == 0)
		objects_bucket_seen(objects, name, true);
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
		is_known = is_listed_locked(dir) || is_bucket_known_locked(objects, name);
	}
	int r = is_known ? 0 : ask_bucket(c, objects, name);
	if (r < 0)
		object_dir_unref(ret->obj);
	return r;
}
