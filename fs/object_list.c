/* SPDX-License-Identifier: MIT */
/*
 * Listings of directories of objects: fetched by one, all pages, while the others who want it are parked on the
 * directory. Keys that cannot be names are left out, and named in errors once.
 */
#include "objects.h"

#include "cleanup.h"
#include "clock.h"
#include "object_pages.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "spool.h"

#include <errno.h>
#include <string.h>

enum {
	ROWS_MAX = 5000000,
	LIST_TRIES = 10,       /* of a directory that is renamed meanwhile */
	LOOKUP_PAGES_MAX = 10, /* more are not fetched for the sake of a lookup */
	SWEEP_ROWS = 10000     /* longer listings are let go when they are old */
};

bool object_dir_is_listed_locked(const struct object_dir *dir)
{
	return dir->has_rows && objects_is_fresh(dir->objects, dir->listed_ms);
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
	struct call *call;
	struct object_dir *dir;
	const char *bucket, *prefix; /* of the directory when it began: a rename may come between */
	struct object_rows rows;
	int64_t changed_ns;
};

static int take_object(void *arg, const struct object_entry *object)
{
	struct fetch *fetch = arg;
	const struct object_dir *dir = fetch->dir;
	char name[OBJECT_KEY_MAX + 1];
	size_t skip = strlen(fetch->prefix), len = strlen(object->key);
	if (object->changed_ns > fetch->changed_ns)
		fetch->changed_ns = object->changed_ns;
	if (strncmp(object->key, fetch->prefix, skip) != 0 || len > OBJECT_KEY_MAX)
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
static bool prolong(void *arg)
{
	struct fetch *fetch = arg;
	struct object_dir *dir = fetch->dir;
	struct request *own = fetch->call->request;
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

static int fetch_pages(struct fetch *fetch, size_t n_max)
{
	struct objects *objects = fetch->dir->objects;
	struct object_pages pages = {.pool = objects->fetchers,
				     .bucket = fetch->bucket,
				     .prefix = fetch->prefix,
				     .n_max = n_max,
				     .sink = take_object,
				     .goes_on = prolong,
				     .arg = fetch};
	int r = remote_backend(objects->remote, &pages.be, &fetch->call->fault);
	return r < 0 ? r : object_pages(&pages, &fetch->call->fault);
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
			timers_in(objects->remote->serve->timers, 2 * objects->remote->conf->metadata_ms,
				  sweep, objects) == 0;
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
			if (object_dir_is_listed_locked(dir)) {
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
	if (!fault_is_passing(r) || !dir->has_rows)
		return false;
	dir->listed_ms = objects_grace_ms(dir->objects);
	return true;
}

/* What was fetched is the directory's now, with what has changed here meanwhile. */
static int take_rows_locked(struct fetch *fetch)
{
	struct object_dir *dir = fetch->dir;
	int r = reapply_locked(dir, &fetch->rows);
	if (r == 0)
		r = renames_list_locked(dir, &fetch->rows);
	if (r == 0)
		r = spools_list_locked(dir, &fetch->rows);
	if (r < 0)
		return r;
	object_rows_release(&dir->rows);
	dir->rows = fetch->rows;
	fetch->rows = (struct object_rows){0};
	dir->has_rows = true;
	dir->listed_ms = dir->seen_ms = clock_mono_ms();
	if (fetch->changed_ns > dir->changed_ns)
		dir->changed_ns = fetch->changed_ns;
	dir->is_huge = dir->rows.n > (size_t)LOOKUP_PAGES_MAX * OBJECT_PAGE_ROWS;
	plan_sweep_locked(dir->objects);
	return 0;
}

/* The result r of a fetch; gives what it means for the caller, and takes those who wait. */
static int finish_locked(struct fetch *fetch, int r, bool is_short, struct request **ret_row)
{
	struct object_dir *dir = fetch->dir;
	bool is_moved = dir->prefix != fetch->prefix || dir->bucket != fetch->bucket;
	if (r == 0 && !is_moved)
		r = take_rows_locked(fetch);
	if (r == -EFBIG && is_short) {
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

int object_dir_fetch(struct call *c, struct object_dir *dir, bool is_short)
{
	struct objects *objects = dir->objects;
	struct fetch fetch = {.call = c, .dir = dir};
	struct request *row;
	int r = call_may_block(c, objects->remote);
	if (r < 0)
		return r;
	pthread_mutex_lock(&objects->lock);
	if (dir->is_listing) {
		r = c->request ? CALL_PARKED : -EAGAIN;
		if (c->request) {
			request_park(c->request, REQUEST_DEADLINE_MS);
			waiters_add(&dir->for_listing, c->request);
		}
		pthread_mutex_unlock(&objects->lock);
		return r;
	}
	dir->is_listing = true;
	dir->n_refs++;
	fetch.bucket = dir->bucket;
	fetch.prefix = dir->prefix;
	pthread_mutex_unlock(&objects->lock);
	r = fetch_pages(&fetch, is_short ? LOOKUP_PAGES_MAX : SIZE_MAX);
	remote_answered(objects->remote, r, &c->fault);
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
	for (int tries = 0;; tries++) {
		{
			LOCK_SCOPE(&dir->objects->lock);
			if (object_dir_is_listed_locked(dir) || (tries > 0 && dir->has_rows)) {
				c->fault.text[0] = '\0';
				return add_rows_locked(dir, ret);
			}
		}
		int r = tries == LIST_TRIES ? -ESTALE : object_dir_fetch(c, dir, false);
		if (r < 0)
			return r;
	}
}
