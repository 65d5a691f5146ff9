/* SPDX-License-Identifier: MIT */
/*
 * The tables of objects.h. Directories and files are counted: nodes, handles and spools hold them; the kernel's
 * forgetting lets them go.
 *
 * The one lock is held for short. It is taken below the lock of the inode table (drop): no inode_ or request_unref with it.
 */
#include "objects.h"

#include "cleanup.h"
#include "clock.h"
#include "log.h"
#include "pool.h"
#include "remote.h"
#include "renames.h"
#include "report.h"
#include "serve_private.h"
#include "spool.h"
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum {
	FETCH_THREADS = 16,
	UPLOAD_THREADS = 8,
	RENAME_THREADS = 8,
	QUEUE_MAX = 4096,
	SEEN_LONG_AGO = 1 /* it was there, and is to be asked again */
};

static uint64_t hash_of(const char *bucket, const char *key)
{
	uint64_t hash = str_hash(STR_HASH_START, bucket, strlen(bucket) + 1);
	return str_hash(hash, key, strlen(key));
}

static uint64_t ino_of(const struct objects *objects, const char *bucket, const char *key)
{
	const char *name = objects->remote->conf->name;
	uint64_t hash = str_hash(STR_HASH_START, name, strlen(name) + 1);
	hash = str_hash(hash, "object", sizeof("object"));
	hash = str_hash(hash, bucket, strlen(bucket) + 1);
	return str_hash(hash, key, strlen(key));
}

/* ---- directories ---- */

struct object_dir *object_dir_known_locked(struct objects *objects, const char *bucket, const char *prefix)
{
	struct object_dir *dir = objects->dir[hash_of(bucket, prefix) % OBJECTS_BUCKETS];
	while (dir && (strcmp(dir->prefix, prefix) != 0 || strcmp(dir->bucket, bucket) != 0))
		dir = dir->next;
	return dir;
}

struct object_dir *object_dir_get_locked(struct objects *objects, const char *bucket, const char *prefix)
{
	struct object_dir **chain = &objects->dir[hash_of(bucket, prefix) % OBJECTS_BUCKETS];
	struct object_dir *dir = object_dir_known_locked(objects, bucket, prefix);
	if (dir) {
		dir->n_refs++;
		return dir;
	}
	dir = calloc(1, sizeof(*dir));
	if (!dir)
		return NULL;
	dir->bucket = strdup(bucket);
	dir->prefix = strdup(prefix);
	if (!dir->bucket || !dir->prefix) {
		free(dir->bucket);
		free(dir->prefix);
		free(dir);
		return NULL;
	}
	dir->objects = objects;
	dir->ino = ino_of(objects, bucket, prefix);
	dir->n_refs = 1;
	dir->next = *chain;
	*chain = dir;
	return dir;
}

/* It may have lost its place to another. */
static void dir_unchain_locked(struct object_dir *dir)
{
	struct object_dir **at = &dir->objects->dir[hash_of(dir->bucket, dir->prefix) % OBJECTS_BUCKETS];
	while (*at && *at != dir)
		at = &(*at)->next;
	if (*at)
		*at = dir->next;
}

static void dir_unref_locked(struct object_dir *dir)
{
	if (--dir->n_refs > 0)
		return;
	dir_unchain_locked(dir);
	object_rows_release(&dir->rows);
	str_release(&dir->changes);
	while (dir->former) {
		struct object_dir_former *former = dir->former;
		dir->former = former->next;
		free(former->bucket);
		free(former->prefix);
		free(former);
	}
	free(dir->bucket);
	free(dir->prefix);
	free(dir);
}

void object_dir_unref(struct object_dir *dir)
{
	LOCK_SCOPE(&dir->objects->lock);
	dir_unref_locked(dir);
}

int object_dir_key(const struct object_dir *dir, const char *name, bool is_dir,
		   char ret[static OBJECT_KEY_MAX + 1])
{
	int n = snprintf(ret, OBJECT_KEY_MAX + 1, "%s%s%s", dir->prefix, name, is_dir ? "/" : "");
	return n > OBJECT_KEY_MAX ? -ENAMETOOLONG : 0;
}

/* The directory that a key lies in, if it is known, and the last part. `is_dir`: the key ends in a slash. */
static struct object_dir *parent_locked(struct objects *objects, const char *bucket, const char *key,
					char name[static OBJECT_KEY_MAX + 1], bool *ret_is_dir)
{
	char prefix[OBJECT_KEY_MAX + 1];
	size_t len = strlen(key);
	*ret_is_dir = len > 0 && key[len - 1] == '/';
	size_t end = len - *ret_is_dir, from = end;
	while (from > 0 && key[from - 1] != '/')
		from--;
	snprintf(prefix, sizeof(prefix), "%.*s", (int)from, key);
	snprintf(name, OBJECT_KEY_MAX + 1, "%.*s", (int)(end - from), key + from);
	return object_dir_known_locked(objects, bucket, prefix);
}

/* ---- files ---- */

static struct object_file **chain_of(struct objects *objects, const char *bucket, const char *key)
{
	return &objects->file[hash_of(bucket, key) % OBJECTS_BUCKETS];
}

struct object_file *object_file_find_locked(struct objects *objects, const char *bucket, const char *key)
{
	struct object_file *file = *chain_of(objects, bucket, key);
	while (file && (strcmp(file->key, key) != 0 || strcmp(file->bucket, bucket) != 0))
		file = file->next;
	if (file)
		file->n_refs++;
	return file;
}

static void unchain_locked(struct object_file *file)
{
	struct object_file **at = chain_of(file->objects, file->bucket, file->key);
	while (*at != file)
		at = &(*at)->next;
	*at = file->next;
}

static void chain_locked(struct object_file *file)
{
	struct object_file **chain = chain_of(file->objects, file->bucket, file->key);
	file->next = *chain;
	*chain = file;
}

struct object_file *object_file_get_locked(struct objects *objects, const char *bucket, const char *key)
{
	struct object_file *file = object_file_find_locked(objects, bucket, key);
	if (file)
		return file;
	file = calloc(1, sizeof(*file));
	if (!file)
		return NULL;
	file->objects = objects;
	file->bucket = strdup(bucket);
	file->key = strdup(key);
	if (!file->bucket || !file->key) {
		free(file->bucket);
		free(file->key);
		free(file);
		return NULL;
	}
	file->ino = ino_of(objects, bucket, key);
	file->content = ++objects->n_contents;
	file->n_refs = 1;
	chain_locked(file);
	return file;
}

void object_file_unref_locked(struct object_file *file)
{
	if (--file->n_refs > 0)
		return;
	if (!file->is_gone)
		unchain_locked(file);
	free(file->bucket);
	free(file->key);
	free(file->at_bucket);
	free(file->at_key);
	free(file->version);
	free(file->checksum);
	object_detail_release(&file->facts);
	free(file);
}

void object_file_unref(struct object_file *file)
{
	LOCK_SCOPE(&file->objects->lock);
	object_file_unref_locked(file);
}

bool objects_is_fresh(const struct objects *objects, int64_t seen_ms)
{
	return seen_ms && clock_mono_ms() - seen_ms < objects->remote->conf->metadata_ms;
}

int objects_ttl(const struct objects *objects)
{
	return (int)(objects->remote->conf->metadata_ms / 1000);
}

int64_t objects_grace_ms(const struct objects *objects)
{
	return clock_mono_ms() - objects->remote->conf->metadata_ms + OBJECTS_GRACE_MS;
}

bool object_file_is_fresh_locked(const struct object_file *file)
{
	return file->version && objects_is_fresh(file->objects, file->fresh_ms);
}

int object_file_set_locked(struct object_file *file, const char *version, int64_t size_bytes,
			   int64_t changed_ns, bool is_ours)
{
	bool is_same = file->version && strcmp(file->version, version) == 0;
	if (!is_same && file->version && !is_ours && file->n_open > 0) {
		object_file_make_stale_locked(file);
		return -ESTALE;
	}
	if (!is_same) {
		char *copy = strdup(version);
		if (!copy)
			return -ENOMEM;
		if (file->version && !is_ours)
			file->content = ++file->objects->n_contents;
		free(file->version);
		file->version = copy;
		free(STEAL(file->checksum));
		object_detail_release(&file->facts);
		file->facts_ms = 0;
	}
	file->size_bytes = size_bytes;
	file->changed_ns = changed_ns;
	file->fresh_ms = clock_mono_ms();
	return 0;
}

void object_file_detach_locked(struct object_file *file)
{
	if (file->is_gone)
		return;
	unchain_locked(file);
	file->is_gone = true;
}

void object_file_make_stale_locked(struct object_file *file)
{
	object_file_detach_locked(file);
	file->is_stale = true;
}

void objects_unlist_locked(struct objects *objects, const char *bucket, const char *key)
{
	char name[OBJECT_KEY_MAX + 1];
	bool is_dir;
	struct object_dir *dir = parent_locked(objects, bucket, key, name, &is_dir);
	if (dir)
		dir->listed_ms = 0;
}

void object_file_unlist_locked(const struct object_file *file)
{
	objects_unlist_locked(file->objects, file->bucket, file->key);
}

struct object_place object_file_place_locked(const struct object_file *file)
{
	return file->at_key ? (struct object_place){file->at_bucket, file->at_key}
			    : (struct object_place){file->bucket, file->key};
}

void object_file_home_locked(struct object_file *file, const char *bucket, const char *key)
{
	bool is_here = !file->is_gone && strcmp(file->key, key) == 0 && strcmp(file->bucket, bucket) == 0;
	char *at_bucket = is_here ? NULL : strdup(bucket), *at_key = is_here ? NULL : strdup(key);
	if (!is_here && (!at_bucket || !at_key)) { /* its handles cannot find it any more */
		object_file_make_stale_locked(file);
		free(at_bucket);
		free(at_key);
		return;
	}
	free(file->at_bucket);
	free(file->at_key);
	file->at_bucket = at_bucket;
	file->at_key = at_key;
}

int object_file_move_locked(struct object_file *file, const char *bucket, const char *key)
{
	char *new_bucket = strdup(bucket), *new_key = strdup(key);
	if (!new_bucket || !new_key) {
		free(new_bucket);
		free(new_key);
		return -ENOMEM;
	}
	if (file->spool)
		stream_give_up_locked(file->spool); /* it went to the old key */
	unchain_locked(file);
	free(file->bucket);
	free(file->key);
	file->bucket = new_bucket;
	file->key = new_key;
	file->ino = ino_of(file->objects, bucket, key);
	chain_locked(file);
	return 0;
}

/* ---- directories that move ---- */

static void dir_chain_locked(struct object_dir *dir)
{
	struct object_dir **chain = &dir->objects->dir[hash_of(dir->bucket, dir->prefix) % OBJECTS_BUCKETS];
	dir->next = *chain;
	*chain = dir;
}

/* Another that had the place is known to nobody by it any more. Without memory it keeps its own, and is asked anew. */
static void dir_move_locked(struct object_dir *dir, const char *to_bucket, const char *to, size_t skip)
{
	struct object_dir_former *former = calloc(1, sizeof(*former));
	char *bucket = strdup(to_bucket), *prefix = NULL;
	if (!former || !bucket || str_format(&prefix, "%s%s", to, dir->prefix + skip) < 0) {
		free(former);
		free(bucket);
		return;
	}
	struct object_dir *old = object_dir_known_locked(dir->objects, bucket, prefix);
	if (old)
		dir_unchain_locked(old);
	dir_unchain_locked(dir);
	*former = (struct object_dir_former){dir->former, dir->bucket, dir->prefix};
	dir->former = former;
	dir->bucket = bucket;
	dir->prefix = prefix;
	dir_chain_locked(dir);
}

void object_dirs_move_locked(struct objects *objects, const char *bucket, const char *from,
			     const char *to_bucket, const char *to)
{
	for (size_t i = 0; i < OBJECTS_BUCKETS; i++) {
		struct object_dir *next;
		for (struct object_dir *dir = objects->dir[i]; dir; dir = next) {
			next = dir->next;
			if (str_has_prefix(dir->prefix, from) && strcmp(dir->bucket, bucket) == 0)
				dir_move_locked(dir, to_bucket, to, strlen(from));
		}
	}
}

/* ---- changes made here ---- */

uint64_t object_hash(const char *bucket, const char *key)
{
	uint64_t hash = hash_of(bucket, key);
	return hash ? hash : 1;
}

void objects_missing_locked(struct objects *objects, const char *bucket, const char *key, int64_t until_ms)
{
	uint64_t hash = hash_of(bucket, key);
	objects->missing[hash % OBJECTS_MISSING_MAX].hash = hash;
	objects->missing[hash % OBJECTS_MISSING_MAX].until_ms = until_ms;
}

bool objects_is_missing_locked(const struct objects *objects, const char *bucket, const char *key)
{
	uint64_t hash = hash_of(bucket, key);
	return objects->missing[hash % OBJECTS_MISSING_MAX].hash == hash &&
	       clock_mono_ms() < objects->missing[hash % OBJECTS_MISSING_MAX].until_ms;
}

/* The row of a key is that now; NULL: none. */
static void note_locked(struct objects *objects, const char *bucket, const char *key,
			const struct object_entry *object)
{
	char name[OBJECT_KEY_MAX + 1];
	bool is_dir;
	struct object_dir *dir = parent_locked(objects, bucket, key, name, &is_dir);
	if (!dir)
		return;
	dir->changed_ns = clock_wall_ns();
	if (!dir->has_rows && !dir->is_listing)
		return;
	int r = 0;
	if (object)
		r = object_rows_put(&dir->rows, name, object);
	else
		object_rows_remove(&dir->rows, name, is_dir);
	if (dir->is_listing) {
		str_append(&dir->changes, is_dir ? "d" : "f");
		str_append_n(&dir->changes, name, strlen(name) + 1);
	}
	if (r < 0 || dir->changes.err < 0)
		dir->listed_ms = 0; /* without memory the service tells */
}

void objects_note_put_locked(struct objects *objects, const char *bucket, const char *key,
			     const char *version, int64_t size_bytes, int64_t changed_ns)
{
	size_t len = strlen(key);
	bool is_dir = key[len - 1] == '/';
	char name[OBJECT_KEY_MAX + 1];
	const struct object_entry object = {.key = key,
					    .version = is_dir ? "" : version,
					    .size_bytes = size_bytes,
					    .changed_ns = changed_ns,
					    .is_prefix = is_dir};
	note_locked(objects, bucket, key, &object);
	snprintf(name, sizeof(name), "%.*s", (int)(len - is_dir), key);
	objects_missing_locked(objects, bucket, name, 0);
}

void objects_note_gone_locked(struct objects *objects, const char *bucket, const char *key)
{
	note_locked(objects, bucket, key, NULL);
}

/* ---- life ---- */

static int open_parts(struct objects *objects)
{
	struct remote *remote = objects->remote;
	int r = str_format(&objects->pending, "%s/pending/%s", remote->conf->state_dir, remote->serve->id);
	if (r == 0)
		r = pool_new("fetch", FETCH_THREADS, QUEUE_MAX, &objects->fetchers);
	if (r == 0)
		r = pool_new("upload", UPLOAD_THREADS, QUEUE_MAX, &objects->uploaders);
	if (r == 0)
		r = pool_new("stream", STREAMS_MAX, STREAMS_MAX, &objects->streamers);
	if (r == 0)
		r = pool_new("rename", RENAME_THREADS, QUEUE_MAX, &objects->movers);
	objects->empty_fd = memfd_create("empty", MFD_CLOEXEC);
	return r == 0 && objects->empty_fd < 0 ? -errno : r;
}

int objects_new(struct remote *remote, struct objects **ret)
{
	struct objects *objects = calloc(1, sizeof(*objects));
	if (!objects)
		return -ENOMEM;
	objects->remote = remote;
	objects->empty_fd = -1;
	pthread_mutex_init(&objects->lock, NULL);
	pthread_cond_init(&objects->settled, NULL);
	int r = open_parts(objects);
	if (r < 0) {
		objects_free(objects);
		return r;
	}
	*ret = objects;
	return 0;
}

int objects_start(struct objects *objects)
{
	int r = spools_take_up(objects);
	renames_start(objects);
	return r;
}

void objects_stop(struct objects *objects)
{
	renames_drain(objects);
	objects->is_stopping = true;
	pool_stop(objects->fetchers);
	pool_stop(objects->streamers); /* some go on as uploads */
	pool_stop(objects->uploaders);
	pool_stop(objects->movers);
	spools_stop(objects);
}

void objects_name_pending(struct objects *objects)
{
	if (pthread_mutex_trylock(&objects->lock) != 0)
		return; /* all is kept all the same */
	spools_name_locked(objects);
	renames_name_locked(objects);
	pthread_mutex_unlock(&objects->lock);
}

void objects_free(struct objects *objects)
{
	if (!objects)
		return;
	renames_free(objects);
	spools_free(objects);
	pool_free(objects->movers);
	pool_free(objects->fetchers);
	pool_free(objects->streamers);
	pool_free(objects->uploaders);
	cleanup_close_(&objects->empty_fd);
	free(objects->bucket);
	free(objects->pending);
	pthread_cond_destroy(&objects->settled);
	pthread_mutex_destroy(&objects->lock);
	free(objects);
}

static void tell_all(struct objects *objects, const struct node_kind *kind, void **obj, size_t n)
{
	for (size_t i = 0; i < n; i++)
		notify_attr(objects->remote->serve->notify, kind, obj[i], 0, NULL);
}

/* Marks all as old; their addresses, for the kernel to be told, are only compared, never followed. */
static size_t forget_locked(struct objects *objects, void **dirs, void **files, size_t max)
{
	size_t n_dirs = 0, n_files = 0;
	memset(objects->missing, 0, sizeof(objects->missing));
	for (size_t i = 0; i < objects->n_buckets; i++)
		if (objects->bucket[i].seen_ms)
			objects->bucket[i].seen_ms = SEEN_LONG_AGO;
	for (size_t i = 0; i < OBJECTS_BUCKETS; i++) {
		for (struct object_dir *dir = objects->dir[i]; dir; dir = dir->next) {
			dir->listed_ms = 0;
			if (dir->seen_ms)
				dir->seen_ms = SEEN_LONG_AGO;
			if (n_dirs < max)
				dirs[n_dirs++] = dir;
		}
		for (struct object_file *file = objects->file[i]; file; file = file->next) {
			file->fresh_ms = file->facts_ms = 0;
			if (n_files < max)
				files[n_files++] = file;
		}
	}
	return n_dirs > n_files ? n_dirs : n_files;
}

void objects_refresh(struct objects *objects)
{
	enum { TOLD_MAX = 1 << 15 }; /* what is above expires by its lifetime */
	cleanup_free void **dirs = calloc(TOLD_MAX, sizeof(*dirs)),
			  **files = calloc(TOLD_MAX, sizeof(*files));
	if (!dirs || !files)
		return;
	size_t n;
	{
		LOCK_SCOPE(&objects->lock);
		n = forget_locked(objects, dirs, files, TOLD_MAX);
	}
	tell_all(objects, &kind_object_dir, dirs, n);
	tell_all(objects, &kind_object_file, files, n);
}

void objects_report(struct objects *objects, const char *bucket, const char *key, int err,
		    const char *sentence)
{
	struct serve *serve = objects->remote->serve;
	const char *name = objects->remote->conf->name;
	cleanup_free char *path = NULL;
	bool is_top = serve->is_single;
	if (str_format(&path, "%s%sbuckets/%s/%s", is_top ? "" : name, is_top ? "" : "/", bucket, key) < 0)
		return;
	report_error(serve->report, name, path, err, sentence);
	log_error("%s: %s: %s", path, fault_name(err), sentence);
}
