/* SPDX-License-Identifier: MIT */
/*
 * Flights: calls of the service that bring a range of an object each, on threads of the remote, and what they bring to
 * those who wait. Beside them one asks for the checksum of the whole, where answers do not tell it.
 */
#include "reader_private.h"

#include "cleanup.h"
#include "clock.h"
#include "pool.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

enum { PROGRESS_BYTES = 64 << 10 /* what brings less in 15 s does not get on */ };

struct flight {
	struct source *source; /* referenced */
	struct range *range;
	struct piece *piece; /* NULL: it is not counted, or not any more */
	enum checksum_kind kind;
	struct checksum told; /* by the answer, before its bytes */
};

static void fetch_task(void *arg);
static void ask_task(void *arg);

/* Once, beside the reading, when that goes on behind the first range. */
static void ask_locked(struct source *source)
{
	if (source->asked_ms || source->whole.told.kind || !whole_is_in_order(&source->whole))
		return;
	source->asked_ms = -1;
	if (pool_submit(source->objects->fetchers, ask_task, source) < 0)
		return;
	source->n_refs++;
	source->asked_ms = clock_mono_ms();
}

int fetch_start_locked(struct source *source, int64_t at, int64_t len, bool is_needed)
{
	struct flight *flight = malloc(sizeof(*flight));
	struct range *range;
	int r = flight ? ranges_add(&source->ranges, at, len, is_needed, &range) : -ENOMEM;
	if (r < 0) {
		free(flight);
		return r;
	}
	range->progress_ms = clock_mono_ms();
	*flight = (struct flight){.source = source,
				  .range = range,
				  .piece = whole_begin(&source->whole, at, len),
				  .kind = source->whole.told.kind};
	r = pool_submit(source->objects->fetchers, fetch_task, flight);
	if (r < 0) {
		if (flight->piece)
			whole_end(&source->whole, flight->piece, 0);
		ranges_remove(&source->ranges, range);
		free(flight);
		return r;
	}
	ask_locked(source);
	source->n_refs++;
	source->n_in_flight++;
	source->objects->n_fetches++;
	return 0;
}

int fetch_fail_as_wrong(struct source *source, struct fault *fault)
{
	LOCK_SCOPE(&source->objects->lock);
	struct object_place place = object_file_place_locked(source->file);
	LOCK_SCOPE(&source->lock);
	const struct whole *whole = &source->whole;
	return fault_set(fault, EIO, "read %s/%s: the bytes that came have the %s %s, the object has %s",
			 place.bucket, place.key, checksum_name(whole->told.kind), whole->came,
			 whole->told.text);
}

static void fail_wrong(struct source *source, struct request *row)
{
	struct fault fault = {0};
	if (row)
		waiters_fail(row, fetch_fail_as_wrong(source, &fault), &fault);
}

/* Its bytes so far have been counted, and are told to be there. */
static void counted_locked(struct flight *flight)
{
	struct whole *whole = &flight->source->whole;
	const struct range *range = flight->range;
	whole_tell(whole, &flight->told);
	flight->kind = whole->told.kind;
	if (flight->piece && range->have == range->len)
		whole_end(whole, flight->piece, range->len);
	if (range->have == range->len || whole->state != WHOLE_OPEN)
		flight->piece = NULL;
}

static int take_bytes(void *arg, const void *bytes, size_t n)
{
	struct flight *flight = arg;
	struct source *source = flight->source;
	struct range *range = flight->range;
	struct request *ready, *wrong = NULL;
	if ((int64_t)n > range->len - range->have)
		return -EIO;
	int r = range_fill(&source->ranges, range, bytes, n);
	if (r < 0)
		return r;
	if (flight->piece)
		piece_count(flight->piece, flight->told.kind ?: flight->kind, bytes, n);
	pthread_mutex_lock(&source->lock);
	range->have += (int64_t)n;
	counted_locked(flight);
	if (range->have - range->progress_at >= PROGRESS_BYTES) {
		range->progress_ms = clock_mono_ms();
		range->progress_at = range->have;
	}
	bool is_rest = range->len - range->have <= READER_REST_BYTES && !source->objects->is_stopping;
	bool is_over = !is_rest && (range->is_unwanted || source->is_closed || source->objects->is_stopping);
	ready = source_take_ready_locked(source, NULL, &wrong);
	pthread_mutex_unlock(&source->lock);
	waiters_resume(ready);
	fail_wrong(source, wrong);
	return is_over ? -ECANCELED : 0;
}

static int changed(struct fault *fault, const char *bucket, const char *key)
{
	return fault_set(fault, ESTALE, "%s/%s was changed while it was read; open it again", bucket, key);
}

/* Where the file is now, and of which version its content is; -ESTALE if that is another. */
static int whereabouts(struct source *source, char **ret_bucket, char **ret_key, char **ret_version)
{
	const struct object_file *file = source->file;
	LOCK_SCOPE(&source->objects->lock);
	struct object_place place = object_file_place_locked(file);
	*ret_bucket = strdup(place.bucket);
	*ret_key = strdup(place.key);
	*ret_version = strdup(file->version ? file->version : "");
	if (!*ret_bucket || !*ret_key || !*ret_version)
		return -ENOMEM;
	return file->version && !file->is_stale ? 0 : -ESTALE;
}

/* Has it moved, within this mount, since that was its place? */
static bool has_moved(struct source *source, const char *bucket, const char *key)
{
	const struct object_file *file = source->file;
	LOCK_SCOPE(&source->objects->lock);
	struct object_place place = object_file_place_locked(file);
	return !file->is_stale && (strcmp(place.bucket, bucket) != 0 || strcmp(place.key, key) != 0);
}

static int fetch(struct flight *flight, struct fault *fault)
{
	struct source *source = flight->source;
	const struct range *range = flight->range;
	bool is_again;
	int r;
	do {
		cleanup_free char *bucket = NULL, *key = NULL, *version = NULL;
		struct backend *be;
		r = whereabouts(source, &bucket, &key, &version);
		if (r == 0)
			r = remote_backend(source->objects->remote, &be, fault);
		if (r == 0)
			r = backend_object_read(be, bucket, key, version, range->at + range->have,
						range->len - range->have, take_bytes, flight, &flight->told,
						fault);
		if (r == 0 && range->have < range->len)
			r = fault_set(fault, EIO, "%s/%s: the service gave less than it has", bucket, key);
		bool is_elsewhere = r == -ESTALE || r == -ENOENT;
		if (is_elsewhere && range->have == range->len) /* that came too late to matter */
			return 0;
		is_again = is_elsewhere && has_moved(source, bucket, key);
		if (is_elsewhere)
			r = changed(fault, bucket, key);
	} while (is_again);
	return r;
}

/* Nothing was given yet, and the kernel has no old pages: the new content will do, if it has the same size. */
static bool repin(const struct flight *flight)
{
	struct source *source = flight->source;
	struct objects *objects = source->objects;
	struct object_file *file = source->file;
	cleanup_free char *bucket = NULL, *key = NULL, *version = NULL;
	struct object_detail detail = {0};
	struct backend *be;
	{
		LOCK_SCOPE(&source->lock);
		const struct range *range = flight->range;
		bool is_alone =
			source->ranges.first == range && !range->next; /* else others have old bytes */
		if (!source->may_repin || range->have > 0 || !is_alone)
			return false;
		source->may_repin = false;
	}
	int r = whereabouts(source, &bucket, &key, &version);
	if (r == 0)
		r = remote_backend(objects->remote, &be, NULL);
	if (r == 0)
		r = backend_object_get(be, bucket, key, &detail, NULL);
	LOCK_SCOPE(&objects->lock);
	bool is_right =
		r == 0 && detail.size_bytes == source->size_bytes && !file->spool && file->n_open == 1;
	if (is_right &&
	    object_file_set_locked(file, detail.version, detail.size_bytes, detail.changed_ns, true) == 0)
		file->cached_content = file->told_content = file->content = ++objects->n_contents;
	object_detail_release(&detail);
	return is_right;
}

/* The handles of the file are of no use any more; who opens it again gets another. */
static void give_up(struct source *source)
{
	struct objects *objects = source->objects;
	{
		LOCK_SCOPE(&objects->lock);
		object_file_unlist_locked(source->file);
		if (!source->file->spool)
			object_file_make_stale_locked(source->file);
	}
	notify_attr(objects->remote->serve->notify, &kind_object_file, source->file, 0, NULL);
}

/* What it has brought stays; what is missing is fetched anew when somebody asks for it. */
static void end_locked(struct source *source, struct range *range, bool has_failed,
		       struct request **ret_ready, struct request **ret_failed)
{
	const struct range whole = {.at = range->at, .len = range->len};
	ranges_cut(&source->ranges, range);
	for (struct reader *reader = source->reader; has_failed && reader; reader = reader->next)
		if (reader->ahead.position < whole.at + whole.len)
			readahead_lost(&reader->ahead, range->at + range->len);
	*ret_ready = source_take_ready_locked(source, has_failed ? &whole : NULL, ret_failed);
	if (range->is_unwanted)
		ranges_remove(&source->ranges, range);
	source_let_go_locked(source);
	for (struct reader *reader = source->reader; !has_failed && reader; reader = reader->next)
		reader_read_ahead_locked(reader);
}

static void fetch_task(void *arg)
{
	struct flight *flight = arg;
	struct source *source = flight->source;
	struct fault fault = {0};
	struct request *ready, *failed = NULL;
	int r = source->objects->is_stopping ? -EINTR : fetch(flight, &fault);
	if (r == -ESTALE && repin(flight))
		r = fetch(flight, &fault);
	if (r == -ESTALE)
		give_up(source);
	source->objects->n_fetches--;
	pthread_mutex_lock(&source->lock);
	source->n_in_flight--;
	if (flight->piece)
		whole_end(&source->whole, flight->piece, flight->range->have);
	end_locked(source, flight->range, r < 0, &ready, &failed);
	pthread_mutex_unlock(&source->lock);
	waiters_resume(ready);
	if (r < 0)
		waiters_fail(failed, r == -ECANCELED ? -EINTR : r, &fault);
	source_unref(source);
	free(flight);
}

/* For who reads that version later; without memory it is asked for again. */
static void keep_checksum(struct object_file *file, const char *version, const struct checksum *told)
{
	LOCK_SCOPE(&file->objects->lock);
	if (file->checksum || !file->version || strcmp(file->version, version) != 0)
		return;
	file->checksum = malloc(sizeof(*told));
	if (file->checksum)
		*file->checksum = *told;
}

static int ask(struct source *source, struct checksum *ret)
{
	cleanup_free char *bucket = NULL, *key = NULL, *version = NULL;
	struct backend *be;
	int r = whereabouts(source, &bucket, &key, &version);
	if (r == 0)
		r = remote_backend(source->objects->remote, &be, NULL);
	if (r == 0)
		r = backend_object_checksum(be, bucket, key, version, ret, NULL);
	if (r == 0)
		keep_checksum(source->file, version, ret);
	return r;
}

/* Where that fails, answers to reads may tell it. */
static void ask_task(void *arg)
{
	struct source *source = arg;
	struct checksum told = {0};
	struct request *ready, *wrong = NULL;
	int r = source->objects->is_stopping ? -EINTR : ask(source, &told);
	pthread_mutex_lock(&source->lock);
	source->asked_ms = -1;
	if (r == 0)
		source_take_checksum_locked(source, &told);
	ready = source_take_ready_locked(source, NULL, &wrong);
	pthread_mutex_unlock(&source->lock);
	waiters_resume(ready);
	fail_wrong(source, wrong);
	source_unref(source);
}
