/* SPDX-License-Identifier: MIT */
/*
 * A source is what all readers of an object share: its ranges, and a row of parked reads. Each range is fetched by one call
 * on a thread of the remote. What lies in no reader's reach and is waited for by nobody is let go; a range under way then
 * ends at its next bytes.
 */
#include "reader.h"

#include "cleanup.h"
#include "clock.h"
#include "pool.h"
#include "ranges.h"
#include "readahead.h"
#include "remote.h"
#include "serve_private.h"
#include "whole.h"

#include <errno.h>
#include <string.h>

enum {
	IN_FLIGHT = 12,       /* of a remote, besides what is waited for; one connection each */
	IN_FLIGHT_OWN = 2,    /* which every source may have */
	REST_BYTES = 1 << 20, /* a range is not broken off for less: that costs its connection */
	AGAIN_MS = 1000,
	PROGRESS_BYTES = 64 << 10, /* what brings less in 15 s does not get on */
	CHECKSUM_MS = 10000        /* the last read waits for it no longer; less than reads wait */
};

struct source {
	/* immutable */
	struct objects *objects;
	struct object_file *file; /* referenced */
	char *version;            /* when it was made */
	int64_t size_bytes;

	unsigned n_readers; /* protected by the objects' lock */

	pthread_mutex_t lock; /* may be taken under the objects' */
	/* protected by lock */
	unsigned n_refs;
	bool is_closed, may_repin;
	struct reader *reader; /* those that have it open */
	struct ranges ranges;
	struct whole whole;
	int64_t asked_ms; /* since when the service is asked for the object's checksum; 0: not yet, -1: not any more */
	unsigned n_in_flight;
	struct waiters waiters;
};

struct reader {
	struct source *source; /* referenced; immutable */
	/* protected by the source's lock */
	struct readahead ahead;
	bool is_stream;    /* counted as one */
	int64_t waited_at; /* where the range began that it last waited for; -1: none yet */
	struct reader *next;
};

struct flight {
	struct source *source; /* referenced */
	struct range *range;
	struct piece *piece; /* NULL: it is not counted, or not any more */
	enum checksum_kind kind;
	struct checksum told; /* by the answer, before its bytes */
};

/* ---- from beginning to end ---- */

static struct chunks *chunks_of(const struct source *source)
{
	return source->objects->remote->serve->chunks;
}

/* What the service told when it was asked. */
static void take_checksum_locked(struct source *source, const struct checksum *told)
{
	source->asked_ms = -1;
	whole_tell(&source->whole, told);
	if (!told->kind)
		whole_give_up(&source->whole);
}

static int source_new_locked(struct object_file *file, bool may_repin, struct source **ret)
{
	struct source *source = calloc(1, sizeof(*source));
	char *version = strdup(file->version ? file->version : "");
	if (!source || !version) {
		free(source);
		free(version);
		return -ENOMEM;
	}
	source->objects = file->objects;
	source->file = file;
	file->n_refs++;
	source->version = version;
	source->size_bytes = file->size_bytes;
	source->may_repin = may_repin;
	if (file->checksum)
		take_checksum_locked(source, file->checksum);
	source->whole.size_bytes = file->size_bytes;
	source->ranges.chunks = file->objects->remote->serve->chunks;
	pthread_mutex_init(&source->lock, NULL);
	*ret = source;
	return 0;
}

static void source_unref(struct source *source)
{
	pthread_mutex_lock(&source->lock);
	bool is_last = --source->n_refs == 0;
	pthread_mutex_unlock(&source->lock);
	if (!is_last)
		return;
	ranges_clear(&source->ranges);
	whole_release(&source->whole);
	object_file_unref(source->file);
	pthread_mutex_destroy(&source->lock);
	free(source->version);
	free(source);
}

/* The one that others read it from already, if its content is still that. */
static int source_get_locked(struct object_file *file, bool may_repin, struct source **ret)
{
	struct source *source = file->source;
	if (source && source->size_bytes == file->size_bytes && file->version &&
	    strcmp(source->version, file->version) == 0) {
		*ret = source;
		return 0;
	}
	int r = source_new_locked(file, may_repin, &source);
	if (r == 0)
		*ret = file->source = source;
	return r;
}

void reader_drop_wrong_locked(struct object_file *file)
{
	struct source *source = file->source;
	if (!source)
		return;
	LOCK_SCOPE(&source->lock);
	if (source->whole.state != WHOLE_WRONG)
		return;
	file->source = NULL;
	file->cached_content = 0;
}

int reader_new_locked(struct object_file *file, bool may_repin, struct reader **ret)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	int r = reader ? source_get_locked(file, may_repin, &reader->source) : -ENOMEM;
	if (r < 0) {
		free(reader);
		return r;
	}
	struct source *source = reader->source;
	reader->waited_at = -1;
	source->n_readers++;
	LOCK_SCOPE(&source->lock);
	source->n_refs++;
	reader->next = source->reader;
	source->reader = reader;
	*ret = reader;
	return 0;
}

static void set_stream_locked(struct reader *reader, bool is_stream)
{
	if (is_stream != reader->is_stream)
		chunks_add_stream(chunks_of(reader->source), is_stream ? 1 : -1);
	reader->is_stream = is_stream;
}

/* ---- what stays ---- */

static int64_t asked_bytes(const struct source *source, const struct request *rq)
{
	int64_t rest = source->size_bytes - rq->offset;
	return rest < (int64_t)rq->size ? rest : (int64_t)rq->size;
}

/* From where on it is wanted: what was read already, and what was not; INT64_MAX: nowhere. */
struct wanted {
	int64_t from, unread_from;
};

static void want(struct wanted *wanted, int64_t from, int64_t unread_from)
{
	if (from < wanted->from)
		wanted->from = from;
	if (unread_from < wanted->unread_from)
		wanted->unread_from = unread_from;
}

static struct wanted wanted_locked(const struct source *source, const struct range *range)
{
	struct wanted wanted = {INT64_MAX, INT64_MAX};
	int64_t end = range->at + range->len;
	for (const struct request *rq = source->waiters.first; rq; rq = rq->next_waiter)
		if (!request_is_answered(rq) && rq->offset < end &&
		    rq->offset + asked_bytes(source, rq) > range->at)
			want(&wanted, rq->offset, rq->offset);
	for (const struct reader *reader = source->reader; reader; reader = reader->next) {
		int64_t position = reader->ahead.position;
		if (position - READAHEAD_SKIP < end && reader->ahead.frontier > range->at)
			want(&wanted, position - READAHEAD_BEHIND, position - READAHEAD_SKIP);
	}
	return wanted;
}

static void let_go_locked(struct source *source)
{
	struct range *next;
	for (struct range *range = source->ranges.first; range; range = next) {
		struct wanted wanted = wanted_locked(source, range);
		bool is_wanted = wanted.unread_from < INT64_MAX;
		next = range->next;
		range_forget(range, wanted.from, wanted.unread_from);
		if (range->is_done && (range->n_gone == range->n_chunks || !is_wanted))
			ranges_remove(&source->ranges, range);
		else if (!is_wanted && range->len - range->have > REST_BYTES)
			range->is_unwanted = true;
	}
}

void reader_close(struct reader *reader)
{
	if (!reader)
		return;
	struct source *source = reader->source;
	{
		LOCK_SCOPE(&source->objects->lock);
		bool is_last = --source->n_readers == 0;
		reader_drop_wrong_locked(source->file);
		if (is_last && source->file->source == source)
			source->file->source = NULL;
		LOCK_SCOPE(&source->lock);
		struct reader **at = &source->reader;
		while (*at != reader)
			at = &(*at)->next;
		*at = reader->next;
		source->is_closed = is_last;
		set_stream_locked(reader, false);
		let_go_locked(source);
	}
	source_unref(source);
	free(reader);
}

/* ---- fetching ---- */

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

static int start_locked(struct source *source, int64_t at, int64_t len, bool is_needed)
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

static bool may_start_locked(const struct source *source)
{
	return !source->is_closed &&
	       (source->n_in_flight < IN_FLIGHT_OWN || source->objects->n_fetches < IN_FLIGHT);
}

/* More in order, as far as window, flights and memory allow. */
static void read_ahead_locked(struct reader *reader)
{
	struct source *source = reader->source;
	int64_t at, n;
	while (readahead_next(&reader->ahead, source->size_bytes, chunks_share(chunks_of(source)), &at, &n)) {
		const struct range *there = ranges_at(&source->ranges, at);
		if (there) {
			readahead_took(&reader->ahead, there->at + there->len);
			continue;
		}
		n = ranges_gap_end(&source->ranges, at, at + n) - at;
		if (!may_start_locked(source) || start_locked(source, at, n, false) < 0)
			return;
		readahead_took(&reader->ahead, at + n);
	}
}

/* Starts what is missing of [at, at + n), of a small read READAHEAD_UNIT, whatever there is room for. */
static int want_locked(struct source *source, int64_t at, int64_t n)
{
	int64_t end = at + n, least_end = at + READAHEAD_UNIT;
	if (least_end > source->size_bytes)
		least_end = source->size_bytes;
	while (at < end) {
		const struct range *range = ranges_at(&source->ranges, at);
		int64_t next = range ? range->at + range->len
				     : ranges_gap_end(&source->ranges, at, end > least_end ? end : least_end);
		int r = range ? 0 : start_locked(source, at, next - at, true);
		if (r < 0)
			return r;
		at = next;
	}
	return 0;
}

/* As many of the n bytes at `at` as may be given: the last of the object not before it was compared, if it can be. */
static int64_t covered_locked(const struct source *source, int64_t at, int64_t n)
{
	int64_t have = ranges_covered(&source->ranges, at, n);
	bool is_awaited = source->asked_ms > 0 && clock_mono_ms() - source->asked_ms < CHECKSUM_MS;
	bool is_held =
		have == n && at + n == source->size_bytes && whole_is_pending(&source->whole, is_awaited);
	return is_held ? have - 1 : have;
}

static bool is_wrong_end_locked(const struct source *source, int64_t at, int64_t n)
{
	return source->whole.state == WHOLE_WRONG && at + n == source->size_bytes;
}

/* Out of the row: those that have all they asked for; with `failed`, those that wait for what it will not bring. */
static struct request *take_ready_locked(struct source *source, const struct range *failed,
					 struct request **ret_failed)
{
	struct request *ready = NULL, **at = &source->waiters.first;
	while (*at) {
		struct request *rq = *at;
		int64_t n = asked_bytes(source, rq), have = covered_locked(source, rq->offset, n);
		int64_t missing = rq->offset + have;
		bool is_failed = failed && have < n && failed->at <= missing &&
				 missing < failed->at + failed->len && !ranges_at(&source->ranges, missing);
		is_failed |= is_wrong_end_locked(source, rq->offset, n);
		if (have < n && !is_failed && !request_is_answered(rq)) {
			at = &rq->next_waiter;
			continue;
		}
		*at = rq->next_waiter;
		if (have == n && !is_failed && !request_is_answered(rq)) {
			source->may_repin = false;
			/* without memory for that it asks again */
			(void)ranges_lend(&source->ranges, rq->offset, n, &rq->loan);
		}
		struct request **row = is_failed ? ret_failed : &ready;
		rq->next_waiter = *row;
		*row = rq;
	}
	return ready;
}

static int fail_as_wrong(struct source *source, struct fault *fault)
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
		waiters_fail(row, fail_as_wrong(source, &fault), &fault);
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
	bool is_rest = range->len - range->have <= REST_BYTES && !source->objects->is_stopping;
	bool is_over = !is_rest && (range->is_unwanted || source->is_closed || source->objects->is_stopping);
	ready = take_ready_locked(source, NULL, &wrong);
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
	*ret_ready = take_ready_locked(source, has_failed ? &whole : NULL, ret_failed);
	if (range->is_unwanted)
		ranges_remove(&source->ranges, range);
	let_go_locked(source);
	for (struct reader *reader = source->reader; !has_failed && reader; reader = reader->next)
		read_ahead_locked(reader);
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
		take_checksum_locked(source, &told);
	ready = take_ready_locked(source, NULL, &wrong);
	pthread_mutex_unlock(&source->lock);
	waiters_resume(ready);
	fail_wrong(source, wrong);
	source_unref(source);
}

/* ---- reading ---- */

/*
 * How long to wait for the byte at `at`: 15 s without progress, however often it is asked for. The kernel repeats a read
 * that failed once, which is told the same at once; others, and who comes later, have it fetched anew.
 */
static int64_t patience_locked(struct reader *reader, int64_t at)
{
	struct range *range = ranges_at(&reader->source->ranges, at);
	if (!range || range->is_done)
		return REQUEST_READ_DEADLINE_MS;
	int64_t left_ms = range->progress_ms + REQUEST_READ_DEADLINE_MS - clock_mono_ms();
	if (left_ms > 0 || (left_ms > -AGAIN_MS && reader->waited_at == range->at))
		return left_ms;
	range->is_unwanted = true;
	return REQUEST_READ_DEADLINE_MS;
}

static void note_locked(struct reader *reader, int64_t at, int64_t n)
{
	readahead_note(&reader->ahead, at, n);
	set_stream_locked(reader, readahead_is_stream(&reader->ahead) && at + n < reader->source->size_bytes);
	read_ahead_locked(reader);
	let_go_locked(reader->source);
}

static ssize_t lend(struct call *c, struct reader *reader, size_t size, off_t offset, struct loan **ret)
{
	struct source *source = reader->source;
	int64_t rest = source->size_bytes - offset, n = rest < (int64_t)size ? rest : (int64_t)size;
	if (n <= 0)
		return 0;
	if (*ret) /* while it waited */
		return n;
	LOCK_SCOPE(&source->lock);
	if (!c->request->has_waited)
		note_locked(reader, offset, n);
	if (is_wrong_end_locked(source, offset, n))
		return -EIO;
	int64_t have = covered_locked(source, offset, n);
	if (have == n) {
		source->may_repin = false;
		int r = ranges_lend(&source->ranges, offset, n, ret);
		return r < 0 ? r : n;
	}
	int64_t left_ms = patience_locked(reader, offset + have);
	int r = left_ms > 0 ? want_locked(source, offset, n) : -ETIMEDOUT;
	if (r < 0)
		return r;
	reader->waited_at = ranges_at(&source->ranges, offset + have)->at; /* it is wanted, so it is there */
	request_park(c->request, left_ms);
	waiters_add(&source->waiters, c->request);
	return CALL_PARKED;
}

ssize_t reader_lend(struct call *c, struct reader *reader, size_t size, off_t offset, struct loan **ret)
{
	ssize_t n = lend(c, reader, size, offset, ret);
	return n == -EIO ? fail_as_wrong(reader->source, &c->fault) : n;
}
