/* SPDX-License-Identifier: MIT */
/*
 * Uploads. One attempt sends the whole spool over the version that it was made from. What fails is tried again at growing
 * intervals, and by the next mount; what has become a conflict is not. An attempt whose answer got lost may have
 * succeeded: then the service has another version than expected, and the bytes tell whether it is ours.
 *
 * A stream (stream.h) is an attempt that begins while the file is written. If it fails, nobody hears of it: what it has
 * delivered is kept, and a close goes on from there with an attempt as above.
 */
#include "upload.h"

#include "cleanup.h"
#include "clock.h"
#include "pool.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { COMPARE_MAX = 256 << 10, UNWANTED_LATE_S = 60 };

struct attempt {
	bool is_stream, is_look;
	struct backend *be;
	struct object_file *file; /* referenced */
	char *bucket, *key, *if_version;
	struct object_source source;
	int64_t n;
	struct object_detail detail;
	struct fault fault;
};

static void attempt_release(struct attempt *attempt)
{
	free(attempt->bucket);
	free(attempt->key);
	free(attempt->if_version);
	object_detail_release(&attempt->detail);
}

/* ---- is it there already? ---- */

struct compare {
	int fd;
	int64_t at;
};

static int compare_sink(void *arg, const void *bytes, size_t n)
{
	struct compare *compare = arg;
	const char *p = bytes;
	cleanup_free char *own = malloc(COMPARE_MAX);
	while (own && n > 0) {
		size_t len = n < COMPARE_MAX ? n : COMPARE_MAX;
		if (pread(compare->fd, own, len, compare->at) != (ssize_t)len || memcmp(own, p, len) != 0)
			return -ESTALE;
		compare->at += len;
		p += len;
		n -= len;
	}
	return own ? 0 : -ENOMEM;
}

/* 0: the object is what we have sent. */
static int compare_with_service(struct backend *be, const struct spool *spool, struct attempt *attempt)
{
	struct compare compare = {.fd = spool->fd};
	struct fault fault = {0};
	struct object_detail detail = {0};
	int r = backend_object_get(be, attempt->bucket, attempt->key, &detail, &fault);
	if (r == 0 && detail.size_bytes != attempt->n)
		r = -ESTALE;
	if (r == 0)
		r = backend_object_read(be, attempt->bucket, attempt->key, detail.version, 0, attempt->n,
					compare_sink, &compare, NULL, &fault);
	if (r == 0 && compare.at == attempt->n)
		attempt->detail = detail;
	else
		object_detail_release(&detail);
	return r == 0 && compare.at != attempt->n ? -ESTALE : r;
}

/* ---- one attempt ---- */

static int take_names(struct spool *spool, struct attempt *attempt)
{
	LOCK_SCOPE(&spool->objects->lock);
	struct object_place place = object_file_place_locked(attempt->file);
	attempt->bucket = strdup(place.bucket);
	attempt->key = strdup(place.key);
	attempt->if_version = strdup(spool->if_version);
	return attempt->bucket && attempt->key && attempt->if_version ? 0 : -ENOMEM;
}

/* All of it is there, and told to be complete. */
static int prepare_whole(struct spool *spool, struct attempt *attempt)
{
	struct stat st;
	if (fstat(spool->fd, &st) < 0)
		return -errno;
	attempt->source =
		(struct object_source){.fd = spool->fd, .n = st.st_size, .sent = stream_sent, .arg = spool};
	{
		LOCK_SCOPE(&spool->objects->lock);
		spool->is_complete = true;
		spool->n_promised = spool->n_all = st.st_size;
	}
	return spool_record(spool, true);
}

static int send_bytes(struct spool *spool, struct attempt *attempt)
{
	int r = take_names(spool, attempt);
	if (attempt->is_stream)
		attempt->source = stream_source(spool);
	else if (r == 0)
		r = prepare_whole(spool, attempt);
	if (r == 0)
		r = remote_backend(spool->objects->remote, &attempt->be, &attempt->fault);
	if (r == 0)
		r = backend_object_put_source(attempt->be, attempt->bucket, attempt->key, &attempt->source,
					      attempt->if_version, &spool->upload, &attempt->detail,
					      &attempt->fault);
	attempt->n = spool->n_all; /* nobody writes now, or it is of no use */
	if ((r == -ESTALE || r == -EEXIST) && spool->may_be_there &&
	    compare_with_service(attempt->be, spool, attempt) == 0)
		r = 0;
	return r == -EEXIST ? -ESTALE : r;
}

static bool is_of_key(const struct spool *spool, const char *bucket, const char *key)
{
	if (!spool->file)
		return false;
	struct object_place place = object_file_place_locked(spool->file);
	return strcmp(place.key, key) == 0 && strcmp(place.bucket, bucket) == 0;
}

/* Has somebody else written it since? Clocks of services and ours may be so far apart. */
static bool is_later(const struct spool *spool, const struct object_detail *detail)
{
	cleanup_free char *path = NULL;
	struct stat st;
	return str_format(&path, "%s%s", spool->path, SPOOL_UNWANTED) < 0 || stat(path, &st) < 0 ||
	       detail->changed_ns / 1000000000 > st.st_mtim.tv_sec + UNWANTED_LATE_S;
}

/* Of what is not wanted any more. 0: an attempt whose end nobody knows has brought it there; -ESTALE: none has. */
static int look_for_unwanted(struct spool *spool, struct attempt *attempt)
{
	struct stat st;
	int r = fstat(spool->fd, &st) < 0 ? -errno : take_names(spool, attempt);
	if (r == 0)
		r = remote_backend(spool->objects->remote, &attempt->be, &attempt->fault);
	attempt->n = r == 0 ? st.st_size : 0;
	if (r == 0)
		r = compare_with_service(attempt->be, spool, attempt);
	return r == -ENOENT || (r == 0 && is_later(spool, &attempt->detail)) ? -ESTALE : r;
}

/* It has a newer content, which may be the same. */
static void retire_unwanted_locked(const struct spool *spool)
{
	struct object_place place = object_file_place_locked(spool->file);
	for (struct spool *other = spool->objects->spool; other; other = other->next)
		if (other->is_unwanted && other != spool && is_of_key(other, place.bucket, place.key)) {
			other->is_dirty = false;
			spool_unwanted_is_over(other);
		}
}

static void delivered_locked(struct spool *spool, const struct attempt *attempt)
{
	struct object_file *file = spool->file;
	const struct object_detail *detail = &attempt->detail;
	char *version = strdup(detail->version);
	if (version) { /* else the next save is refused as a conflict, its bytes kept */
		free(spool->if_version);
		spool->if_version = version;
	}
	spool->is_dirty = spool->is_complete = spool->has_bytes = spool->may_be_there = false;
	spool->n_failures = spool->n_given_up = 0;
	spool->n_promised = spool->n_sent = 0;
	if (object_file_set_locked(file, detail->version, detail->size_bytes, detail->changed_ns, true) < 0)
		file->fresh_ms = 0;
	if (!file->is_gone)
		objects_note_put_locked(spool->objects, file->bucket, file->key, detail->version,
					detail->size_bytes, detail->changed_ns);
	retire_unwanted_locked(spool);
}

/* The file is what the service has; these bytes stay for their owner to look at. */
static void conflict_locked(struct spool *spool)
{
	struct object_file *file = spool->file;
	spool->is_kept = true;
	spool->is_dirty = false;
	object_file_unlist_locked(file);
	object_file_make_stale_locked(file);
	spool_drop_locked(file);
}

static void retry(void *arg);

/* One timer for all: it looks at what is due. Without memory for it the next close does, or the next mount. */
static void plan_retries_locked(struct objects *objects)
{
	if (!objects->is_retry_due)
		objects->is_retry_due =
			timers_in(objects->remote->serve->timers, REMOTE_RETRY_MS / 2, retry, objects) == 0;
}

static void retry(void *arg)
{
	struct objects *objects = arg;
	int64_t now = clock_mono_ms();
	LOCK_SCOPE(&objects->lock);
	objects->is_retry_due = false;
	for (struct spool *spool = objects->spool; spool; spool = spool->next) {
		if (!spool->file || !spool->is_dirty || !spool->is_complete || spool->n_failures == 0)
			continue;
		if (now >= spool->retry_ms)
			upload_begin_locked(spool);
		plan_retries_locked(objects);
	}
}

static void plan_retry_locked(struct spool *spool, const struct fault *fault)
{
	free(spool->error);
	spool->error = strdup(fault->text); /* shown only */
	spool->may_be_there = true;
	spool->retry_ms = clock_mono_ms() + remote_retry_ms(spool->n_failures++);
	plan_retries_locked(spool->objects);
}

static void explain(const struct spool *spool, int r, struct fault *fault)
{
	struct fault own = *fault;
	if (!own.text[0])
		fault_set(&own, -r, "the upload failed: %s", strerrordesc_np(-r));
	if (r == -ESTALE)
		fault_set(fault, ESTALE,
			  "the object was changed by somebody else since it was opened, and was not "
			  "overwritten; what was "
			  "written here is kept in %s (%.500s)",
			  spool->path, own.text);
	else
		fault_set(fault, -r, "%.700s; the bytes are kept in %s, and sent again", own.text,
			  spool->path);
}

/* Is something of its key under way that was removed? It goes first. */
static bool is_blocked_locked(const struct spool *spool)
{
	struct object_place place = object_file_place_locked(spool->file);
	for (const struct spool *other = spool->objects->spool; other; other = other->next)
		if (other->is_unwanted && other->is_uploading && other != spool &&
		    is_of_key(other, place.bucket, place.key))
			return true;
	return false;
}

struct request *upload_wanted_locked(struct spool *spool)
{
	if (spool->n_writers > 0 || !spool->is_wanted)
		return NULL;
	upload_begin_locked(spool);
	return spool->is_uploading || spool->is_wanted ? NULL : waiters_take(&spool->waiters);
}

static void ended_locked(struct spool *spool, const struct attempt *attempt)
{
	spool->objects->n_streams -= attempt->is_stream;
	spool->is_streaming = spool->is_given_up = spool->is_uploading = false;
}

static void let_go_locked(struct spool *spool, const struct attempt *attempt)
{
	struct objects *objects = spool->objects;
	spool_closed_locked(attempt->file);
	object_file_unref_locked(attempt->file);
	spool_unref_locked(spool);
	renames_kick_locked(objects);
}

/* A stream that was given up, or has failed. A close that waits for it sends the whole, or what is left of it. */
static int finish_stream(struct spool *spool, struct attempt *attempt)
{
	struct request *row;
	{
		LOCK_SCOPE(&spool->objects->lock);
		if (spool->is_unwanted)
			return -ESTALE;
		if (spool->is_given_up || !spool->file)
			stream_drop_locked(spool);
		spool->may_be_there |= spool->is_uploading;
		spool->is_wanted |= spool->is_uploading;
		spool->stream_ms = clock_mono_ms() + REMOTE_RETRY_MS;
		ended_locked(spool, attempt);
		row = upload_wanted_locked(spool);
		let_go_locked(spool, attempt);
	}
	waiters_resume(row);
	return 0;
}

/* What has come of it is removed. 0: nothing of it is there. */
static int remove_unwanted(struct spool *spool, int r, struct attempt *attempt)
{
	if (attempt->be)
		backend_object_put_drop(attempt->be, STEAL(spool->upload));
	if (!attempt->be || r == -ESTALE)
		return 0;
	if (r < 0 && attempt->is_look)
		return r;
	attempt->fault = (struct fault){0}; /* without an answer nobody knows whether it is there */
	r = backend_object_remove(attempt->be, attempt->bucket, attempt->key,
				  r == 0 ? attempt->detail.version : NULL, &attempt->fault);
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

/* Its key was removed meanwhile, or by a mount before. The next of that key may begin. */
static void finish_unwanted(struct spool *spool, int r, struct attempt *attempt)
{
	struct objects *objects = spool->objects;
	int left = remove_unwanted(spool, r, attempt);
	if (left == 0)
		spool_unwanted_is_over(spool);
	if (left < 0 && !attempt->is_look)
		objects_report(objects, attempt->bucket, attempt->key, -left, attempt->fault.text);
	struct request *row;
	{
		LOCK_SCOPE(&objects->lock);
		spool->is_dirty = spool->is_unwanted = spool->is_complete = left < 0;
		if (left < 0)
			plan_retry_locked(spool, &attempt->fault);
		ended_locked(spool, attempt);
		row = waiters_take(&spool->waiters);
		for (struct spool *next = objects->spool; next; next = next->next)
			if (next->is_wanted && is_of_key(next, attempt->bucket, attempt->key))
				upload_begin_locked(next);
		let_go_locked(spool, attempt);
	}
	waiters_resume(row);
}

/* Of the object itself, what came of it. */
static void take_result_locked(struct spool *spool, int r, const struct attempt *attempt)
{
	ended_locked(spool, attempt);
	if (r == 0)
		delivered_locked(spool, attempt);
	else if (r == -ESTALE)
		conflict_locked(spool);
	else
		plan_retry_locked(spool, &attempt->fault);
}

static int finish_whole(struct spool *spool, int r, struct attempt *attempt)
{
	struct objects *objects = spool->objects;
	struct request *row;
	bool is_news;
	if (r == 0)
		spool_unrecord(spool);
	else
		explain(spool, r, &attempt->fault);
	{
		LOCK_SCOPE(&objects->lock);
		if (spool->is_unwanted)
			return -ESTALE;
		is_news = spool->n_failures == 0;
		take_result_locked(spool, r, attempt);
		row = waiters_take(&spool->waiters);
	}
	if (r < 0 && is_news && !waiters_are_heard(row))
		objects_report(objects, attempt->bucket, attempt->key, -r, attempt->fault.text);
	if (r < 0)
		(void)fdatasync(spool->fd); /* as safe as this machine can keep it */
	if (r == 0)
		waiters_resume(row);
	else
		waiters_fail(row, r, &attempt->fault);
	LOCK_SCOPE(&objects->lock);
	let_go_locked(spool, attempt);
	return 0;
}

/* Until its result is taken, it may become unwanted. */
static void finish(struct spool *spool, int r, struct attempt *attempt)
{
	bool is_whole;
	{
		LOCK_SCOPE(&spool->objects->lock);
		is_whole = spool->is_uploading && (!attempt->is_stream || r == 0 || r == -ESTALE);
	}
	int done = is_whole ? finish_whole(spool, r, attempt) : finish_stream(spool, attempt);
	if (done < 0)
		finish_unwanted(spool, r, attempt);
}

static void attempt_run(struct spool *spool, bool is_stream)
{
	struct attempt attempt = {.is_stream = is_stream};
	{
		LOCK_SCOPE(&spool->objects->lock);
		attempt.file = STEAL(spool->sent_file);
		attempt.is_look = spool->is_unwanted;
	}
	int r = attempt.is_look ? look_for_unwanted(spool, &attempt) : send_bytes(spool, &attempt);
	finish(spool, r, &attempt);
	attempt_release(&attempt);
}

static void upload_task(void *arg)
{
	attempt_run(arg, false);
}

static void stream_task(void *arg)
{
	attempt_run(arg, true);
}

static int submit_locked(struct pool *pool, void (*task)(void *arg), struct spool *spool)
{
	int r = pool_submit(pool, task, spool);
	if (r < 0)
		return r;
	spool->sent_file = spool->file;
	spool->file->n_refs++;
	spool->n_refs++;
	return 0;
}

void upload_begin_locked(struct spool *spool)
{
	spool->is_wanted = false;
	if (spool->is_uploading || spool->is_filling || !spool->is_dirty || !spool->file)
		return;
	spool->is_wanted = spool->n_writers > 0 || spool->is_given_up || is_blocked_locked(spool) ||
			   renames_hold_locked(spool->file);
	if (spool->is_wanted)
		return;
	if (spool->is_streaming) {
		spool->is_uploading = true;
		stream_end_locked(spool);
	} else {
		spool->is_uploading = submit_locked(spool->objects->uploaders, upload_task, spool) == 0;
	}
}

void upload_stream_locked(struct spool *spool)
{
	struct objects *objects = spool->objects;
	if (objects->n_streams == STREAMS_MAX || is_blocked_locked(spool) ||
	    renames_hold_locked(spool->file) || submit_locked(objects->streamers, stream_task, spool) < 0)
		return;
	objects->n_streams++;
	spool->is_streaming = true;
}

/* ---- who asks for it ---- */

/* 0: it is at the service, or nobody's; CALL_PARKED. *ret: a stream whose end has to be written down first; referenced. */
static int deliver_locked(struct call *c, const struct object_file *file, struct spool **ret)
{
	struct spool *spool = file->spool;
	*ret = NULL;
	if (!spool || !spool->is_dirty || file->is_gone)
		return 0;
	upload_begin_locked(spool);
	if (!spool->is_uploading && !spool->is_wanted && !spool->is_filling)
		return fault_set(&c->fault, EAGAIN,
				 "too much is being sent already; the bytes are kept in %s", spool->path);
	if (spool->is_uploading && spool->is_streaming && !spool->is_complete) {
		spool->is_complete = true;
		spool->n_refs++;
		*ret = spool;
		return 0;
	}
	request_park(c->request, 0);
	waiters_add(&spool->waiters, c->request);
	return CALL_PARKED;
}

int spool_deliver(struct call *c, struct object_file *file)
{
	struct spool *ended;
	do {
		{
			LOCK_SCOPE(&file->objects->lock);
			int r = deliver_locked(c, file, &ended);
			if (!ended)
				return r;
		}
		int r = spool_record(ended, true);
		LOCK_SCOPE(&file->objects->lock);
		spool_unref_locked(ended);
		if (r < 0)
			return r;
	} while (true);
}

void spool_closed_locked(struct object_file *file)
{
	struct spool *spool = file->spool;
	if (!spool || file->n_open > 0 || spool->is_uploading || spool->is_filling || spool->n_writers > 0 ||
	    spool->is_unwanted)
		return;
	if (spool->is_dirty && !file->is_gone) {
		if (spool->n_failures == 0) /* else it is its timer's */
			upload_begin_locked(spool);
		return;
	}
	spool_drop_locked(file);
}
