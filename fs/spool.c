/* SPDX-License-Identifier: MIT */
/* Spools: made, filled, written, recorded; upload.c sends them. */
#include "spool.h"

#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "log.h"
#include "pool.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "stream.h"
#include "upload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the record ---- */

/* Written aside and renamed: it is old or new, never half. A kill needs no more; what failed is synced when it fails. */
static int record_write(const struct spool *spool, const char *suffix, const char *bucket, const char *key,
			const char *if_version, bool is_complete)
{
	cleanup_json json_t *record = json_pack("{ss ss ss sb}", "bucket", bucket, "key", key, "if_version",
						if_version, "complete", is_complete);
	cleanup_free char *text = record ? json_dumps(record, 0) : NULL, *path = NULL, *aside = NULL;
	int r = text ? str_format(&path, "%s%s", spool->path, suffix) : -ENOMEM;
	if (r == 0)
		r = str_format(&aside, "%s.new", path);
	if (r < 0)
		return r;
	cleanup_close int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : file_write_fd(fd, text, strlen(text));
	return r == 0 && rename(aside, path) < 0 ? -errno : r;
}

int spool_record(struct spool *spool, bool is_complete)
{
	cleanup_free char *bucket = NULL, *key = NULL, *if_version = NULL;
	{
		LOCK_SCOPE(&spool->objects->lock);
		if (!spool->file || spool->file->is_gone || spool->is_unwanted)
			return 0;
		struct object_place place = object_file_place_locked(spool->file);
		bucket = strdup(place.bucket);
		key = strdup(place.key);
		if_version = strdup(spool->if_version);
	}
	return bucket && key && if_version
		       ? record_write(spool, SPOOL_RECORD, bucket, key, if_version, is_complete)
		       : -ENOMEM;
}

static void unlink_beside(const struct spool *spool, const char *suffix)
{
	cleanup_free char *path = NULL;
	if (str_format(&path, "%s%s", spool->path, suffix) == 0)
		(void)unlink(
			path); /* a record that stays is compared with what the service has, and dropped */
}

void spool_unrecord(const struct spool *spool)
{
	unlink_beside(spool, SPOOL_RECORD);
}

/* What comes of the attempt that is under way is to be removed, also by the next mount. */
static void unwant_locked(struct spool *spool)
{
	struct object_place place = object_file_place_locked(spool->file);
	spool->is_unwanted = true;
	if (record_write(spool, SPOOL_UNWANTED, place.bucket, place.key, spool->if_version, true) < 0)
		log_warning("%s%s cannot be written, ignoring", spool->path, SPOOL_UNWANTED);
	spool_unrecord(spool);
}

void spool_unwanted_is_over(const struct spool *spool)
{
	unlink_beside(spool, SPOOL_UNWANTED);
}

/* ---- life ---- */

/* Nobody shall get it: also not the next mount. */
static void remove_files(const struct spool *spool)
{
	spool_unrecord(spool);
	(void)unlink(spool->path); /* without a record the next mount does */
}

void spool_free(struct spool *spool)
{
	cleanup_close_(&spool->fd);
	pthread_cond_destroy(&spool->grown);
	free(spool->path);
	free(spool->if_version);
	free(spool->error);
	free(spool);
}

void spool_unref_locked(struct spool *spool)
{
	if (--spool->n_refs > 0)
		return;
	*(spool->prev ? &spool->prev->next : &spool->objects->spool) = spool->next;
	if (spool->next)
		spool->next->prev = spool->prev;
	stream_drop_locked(spool);
	spool_free(spool);
}

void spool_drop_locked(struct object_file *file)
{
	struct spool *spool = STEAL(file->spool);
	if (!spool)
		return;
	spool->file = NULL;
	if (!spool->is_kept)
		remove_files(spool);
	spool_unref_locked(spool);
	object_file_unref_locked(file);
}

int spool_new(struct objects *objects, char *path, int fd, const char *if_version, struct spool **ret)
{
	struct spool *spool = calloc(1, sizeof(*spool));
	char *copy = strdup(if_version);
	if (!spool || !copy || fd < 0) {
		int r = fd < 0 ? fd : -ENOMEM;
		if (fd >= 0)
			close(fd);
		free(spool);
		free(copy);
		free(path);
		return r;
	}
	spool->objects = objects;
	spool->path = path;
	spool->fd = fd;
	spool->if_version = copy;
	spool->n_refs = 1;
	spool->n_wanted = INT64_MAX;
	clock_condition_init(&spool->grown);
	*ret = spool;
	return 0;
}

void spool_attach_locked(struct spool *spool, struct object_file *file)
{
	struct objects *objects = spool->objects;
	spool->next = objects->spool;
	if (spool->next)
		spool->next->prev = spool;
	objects->spool = spool;
	spool->file = file;
	file->spool = spool;
	file->n_refs++;
}

static int open_new(struct objects *objects, char **ret_path)
{
	unsigned number;
	{
		LOCK_SCOPE(&objects->lock);
		number = ++objects->n_spools_made;
	}
	int r = str_format(ret_path, "%s/%u", objects->pending, number);
	if (r < 0)
		return r;
	int fd = open(*ret_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == ENOENT && file_make_dirs(AT_FDCWD, objects->pending, 0700) == 0)
		fd = open(*ret_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int no_spool(struct fault *reterr, const struct objects *objects, int r)
{
	return fault_set(reterr, -r, "%s: nothing can be written there: %s", objects->pending,
			 strerrordesc_np(-r));
}

static int make(struct object_file *file, const char *if_version, bool is_dirty, struct fault *reterr)
{
	struct objects *objects = file->objects;
	char *path = NULL;
	struct spool *spool;
	int fd = open_new(objects, &path);
	int r = spool_new(objects, path, fd, if_version, &spool);
	if (r < 0)
		return no_spool(reterr, objects, r);
	spool->is_dirty = is_dirty;
	bool is_second;
	{
		LOCK_SCOPE(&objects->lock);
		is_second = file->spool;
		if (!is_second)
			spool_attach_locked(spool, file);
	}
	if (is_second) { /* another was quicker */
		remove_files(spool);
		spool_free(spool);
		return 0;
	}
	r = is_dirty ? spool_record(spool, false) : 0;
	if (r == 0)
		return 0;
	LOCK_SCOPE(&objects->lock);
	spool_drop_locked(file);
	return no_spool(reterr, objects, r);
}

int spool_make(struct object_file *file, const char *if_version, struct fault *reterr)
{
	return make(file, if_version, true, reterr);
}

/* ---- filling ---- */

struct fill {
	struct spool *spool; /* referenced */
	char *bucket, *key, *version;
	int64_t n, at;
};

static int fill_sink(void *arg, const void *bytes, size_t n)
{
	struct fill *fill = arg;
	ssize_t done = pwrite(fill->spool->fd, bytes, n, fill->at);
	if (done < 0)
		return -errno;
	if ((size_t)done < n)
		return -ENOSPC;
	fill->at += n;
	return fill->spool->objects->is_stopping ? -EINTR : 0;
}

static void fill_free(struct fill *fill)
{
	free(fill->bucket);
	free(fill->key);
	free(fill->version);
	free(fill);
}

static int fill_run(struct fill *fill, struct fault *fault)
{
	struct backend *be;
	struct spool *spool = fill->spool;
	int r = fallocate(spool->fd, 0, 0, fill->n) < 0 && errno == ENOSPC
			? no_spool(fault, spool->objects, -ENOSPC)
			: remote_backend(spool->objects->remote, &be, fault);
	if (r == 0)
		r = backend_object_read(be, fill->bucket, fill->key, fill->version, 0, fill->n, fill_sink,
					fill, NULL, fault);
	if (r == 0 && fill->at < fill->n)
		r = fault_set(fault, EIO, "%s/%s: the service gave less than it has", fill->bucket,
			      fill->key);
	return r == 0 && ftruncate(spool->fd, fill->n) < 0 ? -errno : r;
}

static void fill_task(void *arg)
{
	struct fill *fill = arg;
	struct spool *spool = fill->spool;
	struct objects *objects = spool->objects;
	struct fault fault = {0};
	int r = fill_run(fill, &fault);
	pthread_mutex_lock(&objects->lock);
	spool->is_filling = false;
	struct request *row = waiters_take(&spool->waiters);
	if (r < 0 && spool->file) {
		spool->file->fresh_ms = 0;
		spool_drop_locked(spool->file);
	}
	spool_unref_locked(spool);
	renames_kick_locked(objects);
	pthread_mutex_unlock(&objects->lock);
	if (r == 0)
		waiters_resume(row);
	else
		waiters_fail(row, r, &fault);
	fill_free(fill);
}

/* Parks the request on the spool; what it waits for resumes it. */
static int park_locked(struct call *c, struct spool *spool)
{
	if (!c->request)
		return -EAGAIN;
	request_park(c->request, 0);
	waiters_add(&spool->waiters, c->request);
	return CALL_PARKED;
}

static int fill_begin_locked(struct call *c, struct object_file *file, int64_t n)
{
	struct spool *spool = file->spool;
	struct fill *fill = calloc(1, sizeof(*fill));
	if (!fill)
		return -ENOMEM;
	struct object_place place = object_file_place_locked(file);
	*fill = (struct fill){.spool = spool,
			      .bucket = strdup(place.bucket),
			      .key = strdup(place.key),
			      .version = strdup(file->version),
			      .n = n};
	int r = fill->bucket && fill->key && fill->version ? 0 : -ENOMEM;
	if (r == 0)
		r = pool_submit(file->objects->fetchers, fill_task, fill);
	if (r < 0) {
		fill_free(fill);
		return r;
	}
	spool->n_refs++;
	spool->is_filling = true;
	return park_locked(c, spool);
}

int spool_prepare(struct call *c, struct object_file *file, bool is_emptied)
{
	struct objects *objects = file->objects;
	cleanup_free char *version = NULL;
	int64_t n;
	/* a write's bytes are the kernel's until it has waited once: from a thread that may block they are our own */
	int r = 0;
	{
		LOCK_SCOPE(&objects->lock);
		struct spool *spool = file->spool;
		if (spool && !spool->is_filling && !spool->is_uploading)
			return 0;
		r = call_may_block(c, objects->remote);
		if (r < 0)
			return r;
		if (spool)
			return park_locked(c, spool);
		if (!file->version)
			return -ESTALE;
		version = strdup(file->version);
		n = is_emptied ? 0 : file->size_bytes;
	}
	r = version ? make(file, version, false, &c->fault) : -ENOMEM;
	if (r < 0)
		return r;
	LOCK_SCOPE(&objects->lock);
	struct spool *spool = file->spool;
	if (!spool)
		return -EAGAIN;
	if (spool->is_filling || spool->is_uploading)
		return park_locked(c, spool);
	if (n == 0)
		return 0;
	r = fill_begin_locked(c, file, n);
	if (r != CALL_PARKED)
		spool_drop_locked(file);
	return r;
}

/* ---- writing ---- */

/*
 * The spool, with a writer counted in, who changes the bytes from `at` on: it is not sent whole meanwhile. Its record says
 * that it is not complete.
 */
static int write_begin(struct call *c, struct object_file *file, bool is_emptied, int64_t at,
		       struct spool **ret)
{
	struct objects *objects = file->objects;
	struct spool *spool;
	bool was_dirty, was_complete;
	for (;;) {
		int r = spool_prepare(c, file, is_emptied);
		if (r < 0)
			return r;
		LOCK_SCOPE(&objects->lock);
		spool = file->spool;
		if (!spool || spool->is_filling || spool->is_uploading)
			continue; /* somebody came between */
		was_dirty = spool->is_dirty;
		was_complete = spool->is_complete;
		spool->is_dirty = true;
		spool->is_complete = false;
		stream_touch_locked(spool, at);
		spool->n_writers++;
		spool->n_refs++;
		break;
	}
	*ret = spool;
	int r = was_dirty && !was_complete ? 0 : spool_record(spool, false);
	if (r == 0)
		return 0;
	LOCK_SCOPE(&objects->lock);
	spool->is_dirty = was_dirty; /* nothing is written without a record */
	spool->is_complete = was_complete;
	if (!was_dirty && is_emptied && spool->n_writers == 1 && file->spool == spool)
		spool_drop_locked(file);
	return no_spool(&c->fault, objects, r);
}

/* `n` bytes were written at `at`; n < 0: nothing has changed. */
static void write_end(struct spool *spool, int64_t at, ssize_t n)
{
	struct objects *objects = spool->objects;
	struct request *row;
	{
		LOCK_SCOPE(&objects->lock);
		spool->has_bytes |= n >= 0;
		spool->n_writers--;
		if (n > 0)
			stream_wrote_locked(spool, at, n);
		row = upload_wanted_locked(spool);
		spool_unref_locked(spool);
	}
	waiters_resume(row);
}

static ssize_t write_all(int fd, const char *buf, size_t size, off_t offset)
{
	size_t done = 0;
	while (done < size) {
		ssize_t n = pwrite(fd, buf + done, size - done, offset + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return done > 0 ? (ssize_t)done : -errno;
		done += n;
	}
	return done;
}

ssize_t spool_write(struct call *c, struct object_file *file, const char *buf, size_t size, off_t offset)
{
	struct spool *spool = NULL;
	ssize_t r = write_begin(c, file, false, offset, &spool);
	if (r == 0)
		r = write_all(spool->fd, buf, size, offset);
	if (r < 0 && spool && !c->fault.text[0])
		no_spool(&c->fault, file->objects, (int)r);
	if (spool)
		write_end(spool, offset, r > 0 ? r : -1);
	return r;
}

int spool_truncate(struct call *c, struct object_file *file, off_t size)
{
	struct spool *spool = NULL;
	int r = write_begin(c, file, size == 0, size, &spool);
	if (r == 0 && ftruncate(spool->fd, size) < 0)
		r = no_spool(&c->fault, file->objects, -errno);
	if (spool)
		write_end(spool, size, r);
	return r;
}

/* ---- other ends ---- */

void spool_discard(struct object_file *file)
{
	LOCK_SCOPE(&file->objects->lock);
	struct spool *spool = file->spool;
	if (!spool)
		return;
	stream_give_up_locked(spool);
	if (spool->is_uploading) {
		unwant_locked(spool);
		return;
	}
	spool->is_dirty = false;
	if (file->n_open == 0)
		spool_drop_locked(file);
	else
		remove_files(spool); /* its handles go on with a file without a name */
}

int spool_moved(struct object_file *file)
{
	struct spool *spool;
	bool is_complete;
	{
		LOCK_SCOPE(&file->objects->lock);
		spool = file->spool;
		if (!spool || !spool->is_dirty)
			return 0;
		is_complete = spool->is_complete;
		spool->n_refs++;
	}
	int r = spool_record(spool, is_complete);
	LOCK_SCOPE(&file->objects->lock);
	spool_unref_locked(spool);
	return r;
}

int spools_list_locked(const struct object_dir *dir, struct object_rows *rows)
{
	size_t skip = strlen(dir->prefix);
	int r = 0;
	for (const struct spool *spool = dir->objects->spool; r == 0 && spool; spool = spool->next) {
		const struct object_file *file = spool->file;
		if (!file || file->is_gone || strcmp(file->bucket, dir->bucket) != 0 ||
		    strncmp(file->key, dir->prefix, skip) != 0 || strchr(file->key + skip, '/'))
			continue;
		const struct object_entry object = {.version = file->version ? file->version : "-",
						    .size_bytes = file->size_bytes,
						    .changed_ns = file->changed_ns};
		r = object_rows_put(rows, file->key + skip, &object);
	}
	return r;
}

/* ---- all of them ---- */

static const char *phase_of(const struct spool *spool)
{
	if (spool->is_uploading || spool->is_streaming)
		return "sending";
	if (spool->is_wanted)
		return "queued";
	return spool->n_failures > 0 ? "waiting" : "open";
}

int spools_render(struct objects *objects, struct str *ret)
{
	LOCK_SCOPE(&objects->lock);
	for (const struct spool *spool = objects->spool; spool; spool = spool->next) {
		const struct object_file *file = spool->file;
		struct stat st;
		if (!file || file->is_gone || !spool->is_dirty || fstat(spool->fd, &st) < 0)
			continue;
		str_append(ret, "object\t");
		str_append_tsv(ret, file->bucket);
		str_append(ret, "/");
		str_append_tsv(ret, file->key);
		str_printf(ret, "\t%s\t%lld\t%lld\t", phase_of(spool), (long long)spool->n_sent,
			   (long long)st.st_size);
		str_append_tsv(ret, spool->error ? spool->error : "");
		str_append(ret, "\n");
	}
	return ret->err;
}

static void name_locked(const struct spool *spool)
{
	if (spool->is_dirty && !spool->is_unwanted && spool->file && !spool->file->is_gone)
		log_warning("%s: %s/%s could not be delivered; its bytes are in %s",
			    spool->objects->remote->conf->name, spool->file->bucket, spool->file->key,
			    spool->path);
}

void spools_name_locked(const struct objects *objects)
{
	for (const struct spool *spool = objects->spool; spool; spool = spool->next)
		name_locked(spool);
}

void spools_stop(struct objects *objects)
{
	for (struct spool *spool = objects->spool; spool; spool = spool->next)
		backend_object_put_drop(objects->remote->be, STEAL(spool->upload));
}

void spools_free(struct objects *objects)
{
	while (objects->spool) {
		struct spool *spool = objects->spool;
		objects->spool = spool->next;
		spool->is_kept |= spool->is_dirty;
		name_locked(spool);
		if (spool->file) {
			spool->file->spool = NULL;
			object_file_unref_locked(spool->file); /* no thread is left */
			if (!spool->is_kept)
				remove_files(spool);
		}
		spool_free(spool);
	}
	if (objects->pending)
		(void)rmdir(objects->pending); /* what is kept keeps it */
}
