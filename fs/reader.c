/* SPDX-License-Identifier: MIT */
/*
 * Readers: a list of ranges, each empty, growing or complete, and a row of parked reads. A range is dropped when it lies
 * behind, or after a jump; one that is under way then ends at its next bytes.
 */
#include "reader.h"

#include "cleanup.h"
#include "clock.h"
#include "config.h"
#include "pool.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

struct range {
	struct range *next;
	struct reader *reader; /* referenced while it is under way */
	int64_t at, len;
	char *buf;
	/* protected by the reader's lock */
	int64_t have;
	int64_t progress_ms; /* when it began, or brought something */
	bool is_done, is_dropped;
};

struct reader {
	/* immutable */
	struct objects *objects;
	struct object_file *file; /* referenced */
	int64_t size_bytes;

	pthread_mutex_t lock;
	/* protected by lock */
	unsigned n_refs;
	bool is_closed, may_repin;
	struct range *range;
	unsigned n_in_flight;
	struct waiters waiters;
	int64_t position; /* the end of the farthest read in order */
	int64_t frontier; /* the end of what was fetched in order */
	int64_t window;
	unsigned n_jumps, n_in_order;
};

/* ---- memory ---- */

static int64_t budget(const struct serve *serve)
{
	return json_integer_value(json_object_get(serve->config->cache, "memory")) / 2;
}

static bool take_memory(struct objects *objects, int64_t n, bool is_needed)
{
	struct serve *serve = objects->remote->serve;
	if (atomic_fetch_add(&serve->read_ahead_bytes, n) + n <= budget(serve) || is_needed)
		return true;
	atomic_fetch_sub(&serve->read_ahead_bytes, n);
	return false;
}

static void range_free(struct range *range)
{
	atomic_fetch_sub(&range->reader->objects->remote->serve->read_ahead_bytes, range->len);
	free(range->buf);
	free(range);
}

int reader_new_locked(struct object_file *file, bool may_repin, struct reader **ret)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	reader->objects = file->objects;
	reader->file = file;
	file->n_refs++;
	reader->size_bytes = file->size_bytes;
	reader->may_repin = may_repin;
	reader->n_refs = 1;
	pthread_mutex_init(&reader->lock, NULL);
	*ret = reader;
	return 0;
}

static void reader_unref(struct reader *reader)
{
	pthread_mutex_lock(&reader->lock);
	bool is_last = --reader->n_refs == 0;
	pthread_mutex_unlock(&reader->lock);
	if (!is_last)
		return;
	while (reader->range) {
		struct range *range = reader->range;
		reader->range = range->next;
		range_free(range);
	}
	object_file_unref(reader->file);
	pthread_mutex_destroy(&reader->lock);
	free(reader);
}

/* ---- what there is ---- */

/* The range that has, or will have, the byte at `at`. */
static struct range *range_at_locked(struct reader *reader, int64_t at)
{
	for (struct range *range = reader->range; range; range = range->next)
		if (!range->is_dropped && range->at <= at && at < range->at + range->len)
			return range;
	return NULL;
}

/* Copies what is there from `at` on without a gap, up to n (buf NULL: counts only). */
static int64_t copy_locked(struct reader *reader, char *buf, int64_t n, int64_t at)
{
	int64_t done = 0;
	while (done < n) {
		const struct range *range = range_at_locked(reader, at + done);
		int64_t skip = range ? at + done - range->at : 0;
		int64_t part = range ? range->have - skip : 0;
		if (part <= 0)
			break;
		if (part > n - done)
			part = n - done;
		if (buf)
			memcpy(buf + done, range->buf + skip, part);
		done += part;
	}
	return done;
}

static int64_t asked_bytes(const struct reader *reader, const struct request *rq)
{
	int64_t rest = reader->size_bytes - rq->offset;
	return rest < (int64_t)rq->size ? rest : (int64_t)rq->size;
}

static bool is_waited_for_locked(const struct reader *reader, const struct range *range)
{
	for (const struct request *rq = reader->waiters.first; rq; rq = rq->next_waiter)
		if (!request_is_answered(rq) && rq->offset < range->at + range->len &&
		    rq->offset + asked_bytes(reader, rq) > range->at)
			return true;
	return false;
}

/* Lets go of ranges that end before `keep_from`, or (INT64_MAX) of all that nobody waits for. */
static void drop_locked(struct reader *reader, int64_t keep_from)
{
	struct range **at = &reader->range;
	while (*at) {
		struct range *range = *at;
		if (range->at + range->len > keep_from || is_waited_for_locked(reader, range)) {
			at = &range->next;
			continue;
		}
		range->is_dropped = true;
		if (!range->is_done) { /* its own thread takes it out */
			at = &range->next;
			continue;
		}
		*at = range->next;
		range_free(range);
	}
}

/* ---- fetching ---- */

static void fetch_task(void *arg);

static int start_locked(struct reader *reader, int64_t at, int64_t len, bool is_needed)
{
	if (!take_memory(reader->objects, len, is_needed))
		return -EAGAIN;
	struct range *range = calloc(1, sizeof(*range));
	char *buf = malloc(len);
	if (!range || !buf) {
		free(range);
		free(buf);
		atomic_fetch_sub(&reader->objects->remote->serve->read_ahead_bytes, len);
		return -ENOMEM;
	}
	*range = (struct range){
		.reader = reader, .at = at, .len = len, .buf = buf, .progress_ms = clock_mono_ms()};
	int r = pool_submit(reader->objects->fetchers, fetch_task, range);
	if (r < 0) {
		range_free(range);
		return r;
	}
	range->next = reader->range;
	reader->range = range;
	reader->n_refs++;
	reader->n_in_flight++;
	return 0;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* More in order, as far as window, flights and memory allow. */
static void read_ahead_locked(struct reader *reader)
{
	while (reader->n_jumps < READER_JUMPS && reader->n_in_order > 1 && !reader->is_closed &&
	       reader->n_in_flight < READER_IN_FLIGHT && reader->frontier < reader->size_bytes &&
	       reader->frontier - reader->position < reader->window) {
		if (reader->frontier < reader->position)
			reader->frontier = reader->position;
		int64_t len =
			least(least(reader->window, READER_RANGE_MAX), reader->size_bytes - reader->frontier);
		if (len <= 0 || start_locked(reader, reader->frontier, len, false) < 0)
			return;
		reader->frontier += len;
		reader->window = least(reader->window * 2, READER_WINDOW_MAX);
	}
}

/* Once for each read: is it in order? */
static void note_locked(struct reader *reader, int64_t at, int64_t n)
{
	bool is_in_order = at >= reader->position - READER_BEHIND && at <= reader->frontier + READER_AHEAD;
	if (is_in_order) {
		if (++reader->n_in_order == 3)
			reader->n_jumps = 0;
	} else {
		reader->n_jumps++;
		reader->n_in_order = 1;
		reader->position = reader->frontier = at;
		drop_locked(reader, INT64_MAX);
	}
	if (!is_in_order || !reader->window)
		reader->window = READER_FIRST;
	if (at + n > reader->position)
		reader->position = at + n;
	drop_locked(reader, reader->position - READER_BEHIND);
}

/* Starts what is missing of [at, at + n). */
static int want_locked(struct reader *reader, int64_t at, int64_t n)
{
	int64_t end = at + n;
	while (at < end) {
		const struct range *range = range_at_locked(reader, at);
		if (range) {
			at = range->at + range->len;
			continue;
		}
		int64_t from = at - at % READER_UNIT, to = end;
		if (reader->n_jumps < READER_JUMPS && from + READER_FIRST > to)
			to = from + READER_FIRST;
		if (to < from + READER_UNIT)
			to = from + READER_UNIT;
		to = least(to, reader->size_bytes);
		if (range_at_locked(reader, from))
			from = at;
		int r = start_locked(reader, from, to - from, false);
		if (r == -EAGAIN) /* without room: what is asked, and no more */
			r = start_locked(reader, at, (to = end) - at, true);
		if (r < 0)
			return r;
		if (to > reader->frontier)
			reader->frontier = to;
		at = to;
	}
	return 0;
}

/* Out of the row: those that have all they asked for; with `failed`, those that wait for what it will not bring. */
static struct request *take_ready_locked(struct reader *reader, const struct range *failed,
					 struct request **ret_failed)
{
	struct request *ready = NULL, **at = &reader->waiters.first;
	while (*at) {
		struct request *rq = *at;
		int64_t n = asked_bytes(reader, rq), have = copy_locked(reader, NULL, n, rq->offset);
		int64_t missing = rq->offset + have;
		bool is_failed = failed && have < n && failed->at <= missing &&
				 missing < failed->at + failed->len && !range_at_locked(reader, missing);
		if (have < n && !is_failed && !request_is_answered(rq)) {
			at = &rq->next_waiter;
			continue;
		}
		*at = rq->next_waiter;
		struct request **row = is_failed ? ret_failed : &ready;
		rq->next_waiter = *row;
		*row = rq;
	}
	return ready;
}

static int take_bytes(void *arg, const void *bytes, size_t n)
{
	struct range *range = arg;
	struct reader *reader = range->reader;
	if ((int64_t)n > range->len - range->have)
		return -EIO;
	memcpy(range->buf + range->have, bytes, n); /* nobody looks behind `have` */
	pthread_mutex_lock(&reader->lock);
	range->have += n;
	range->progress_ms = clock_mono_ms();
	bool is_over = range->is_dropped || reader->is_closed || reader->objects->is_stopping;
	struct request *ready = take_ready_locked(reader, NULL, NULL);
	pthread_mutex_unlock(&reader->lock);
	waiters_resume(ready);
	return is_over ? -ECANCELED : 0;
}

static int changed(struct fault *fault, const char *bucket, const char *key)
{
	return fault_set(fault, ESTALE, "%s/%s was changed while it was read; open it again", bucket, key);
}

/* Where the file is now, and of which version its content is; -ESTALE if that is another. */
static int whereabouts(struct reader *reader, char **ret_bucket, char **ret_key, char **ret_version)
{
	const struct object_file *file = reader->file;
	LOCK_SCOPE(&reader->objects->lock);
	*ret_bucket = strdup(file->bucket);
	*ret_key = strdup(file->key);
	*ret_version = strdup(file->version ? file->version : "");
	if (!*ret_bucket || !*ret_key || !*ret_version)
		return -ENOMEM;
	return file->version && !file->is_stale ? 0 : -ESTALE;
}

/* Has it moved, within this mount, since that was its place? Waits for a move to end, as a thread that fetches may. */
static bool has_moved(struct reader *reader, const char *bucket, const char *key)
{
	const struct object_file *file = reader->file;
	LOCK_SCOPE(&reader->objects->lock);
	while (file->is_moving)
		pthread_cond_wait(&reader->objects->moved, &reader->objects->lock);
	return !file->is_stale && (strcmp(file->bucket, bucket) != 0 || strcmp(file->key, key) != 0);
}

static int fetch(struct range *range, struct fault *fault)
{
	struct reader *reader = range->reader;
	bool is_again;
	int r;
	do {
		cleanup_free char *bucket = NULL, *key = NULL, *version = NULL;
		struct backend *be;
		r = whereabouts(reader, &bucket, &key, &version);
		if (r == 0)
			r = remote_backend(reader->objects->remote, &be, fault);
		if (r == 0)
			r = backend_object_read(be, bucket, key, version, range->at + range->have,
						range->len - range->have, take_bytes, range, fault);
		if (r == 0 && range->have < range->len)
			r = fault_set(fault, EIO, "%s/%s: the service gave less than it has", bucket, key);
		bool is_elsewhere = r == -ESTALE || r == -ENOENT;
		is_again = is_elsewhere && has_moved(reader, bucket, key);
		if (is_elsewhere)
			r = changed(fault, bucket, key);
	} while (is_again);
	return r;
}

/* Nothing was given yet, and the kernel has no old pages: the new content will do, if it has the same size. */
static bool repin(struct range *range)
{
	struct reader *reader = range->reader;
	struct objects *objects = reader->objects;
	struct object_file *file = reader->file;
	cleanup_free char *bucket = NULL, *key = NULL, *version = NULL;
	struct object_detail detail = {0};
	struct backend *be;
	{
		LOCK_SCOPE(&reader->lock);
		if (!reader->may_repin || range->have > 0)
			return false;
		reader->may_repin = false;
	}
	int r = whereabouts(reader, &bucket, &key, &version);
	if (r == 0)
		r = remote_backend(objects->remote, &be, NULL);
	if (r == 0)
		r = backend_object_get(be, bucket, key, &detail, NULL);
	LOCK_SCOPE(&objects->lock);
	bool is_right =
		r == 0 && detail.size_bytes == reader->size_bytes && !file->spool && file->n_open == 1;
	if (is_right &&
	    object_file_set_locked(file, detail.version, detail.size_bytes, detail.changed_ns, true) == 0)
		file->cached_content = file->told_content = file->content = ++objects->n_contents;
	object_detail_release(&detail);
	return is_right;
}

static void take_out_locked(struct reader *reader, struct range *range)
{
	struct range **at = &reader->range;
	while (*at != range)
		at = &(*at)->next;
	*at = range->next;
}

/* The handles of the file are of no use any more; who opens it again gets another. */
static void give_up(struct reader *reader)
{
	struct objects *objects = reader->objects;
	{
		LOCK_SCOPE(&objects->lock);
		object_file_unlist_locked(reader->file);
		if (!reader->file->spool)
			object_file_make_stale_locked(reader->file);
	}
	notify_attr(objects->remote->serve->notify, &kind_object_file, reader->file, 0, NULL);
}

static void fetch_task(void *arg)
{
	struct range *range = arg;
	struct reader *reader = range->reader;
	struct fault fault = {0};
	struct request *failed = NULL;
	int r = reader->objects->is_stopping ? -EINTR : fetch(range, &fault);
	if (r == -ESTALE && repin(range))
		r = fetch(range, &fault);
	if (r == -ESTALE)
		give_up(reader);
	pthread_mutex_lock(&reader->lock);
	reader->n_in_flight--;
	range->is_done = true;
	bool is_out = r < 0 || range->is_dropped;
	if (is_out)
		take_out_locked(reader, range);
	struct request *ready = take_ready_locked(reader, r < 0 ? range : NULL, &failed);
	read_ahead_locked(reader);
	pthread_mutex_unlock(&reader->lock);
	if (is_out)
		range_free(range);
	waiters_resume(ready);
	if (r < 0)
		waiters_fail(failed, r == -ECANCELED ? -EINTR : r, &fault);
	reader_unref(reader);
}

/* ---- reading ---- */

enum { AGAIN_MS = 1000 };

/*
 * How long to wait for the byte at `at`: 15 s without progress, however often it is asked for. The kernel repeats a read
 * that failed once, which is told the same at once; who comes later has it fetched anew.
 */
static int64_t patience_locked(struct reader *reader, int64_t at)
{
	struct range *range = range_at_locked(reader, at);
	if (!range || range->is_done)
		return REQUEST_READ_DEADLINE_MS;
	int64_t left_ms = range->progress_ms + REQUEST_READ_DEADLINE_MS - clock_mono_ms();
	if (left_ms > -AGAIN_MS)
		return left_ms;
	range->is_dropped = true;
	return REQUEST_READ_DEADLINE_MS;
}

ssize_t reader_read(struct call *c, struct reader *reader, char *buf, size_t size, off_t offset)
{
	int64_t n = reader->size_bytes - offset;
	if (n <= 0)
		return 0;
	if (n > (int64_t)size)
		n = size;
	LOCK_SCOPE(&reader->lock);
	if (!c->request->has_waited)
		note_locked(reader, offset, n);
	if (copy_locked(reader, NULL, n, offset) == n) {
		(void)copy_locked(reader, buf, n, offset); /* all of it */
		reader->may_repin = false;
		read_ahead_locked(reader);
		return n;
	}
	int64_t left_ms = patience_locked(reader, offset + copy_locked(reader, NULL, n, offset));
	int r = left_ms > 0 ? want_locked(reader, offset, n) : -ETIMEDOUT;
	if (r < 0)
		return r;
	read_ahead_locked(reader);
	request_park(c->request, left_ms);
	waiters_add(&reader->waiters, c->request);
	return CALL_PARKED;
}

void reader_close(struct reader *reader)
{
	if (!reader)
		return;
	pthread_mutex_lock(&reader->lock);
	reader->is_closed = true;
	pthread_mutex_unlock(&reader->lock);
	reader_unref(reader);
}
