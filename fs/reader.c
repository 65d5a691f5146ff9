/* SPDX-License-Identifier: MIT */
/*
 * A source is what all readers of an object share: its ranges, and a row of parked reads. Each range is fetched by one call
 * (fetch.c). What lies in no reader's reach and is waited for by nobody is let go; a range under way then ends at its next
 * bytes.
 */
#include "reader_private.h"

#include "cleanup.h"
#include "clock.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

enum {
	IN_FLIGHT = 12,    /* of a remote, besides what is waited for; one connection each */
	IN_FLIGHT_OWN = 2, /* which every source may have */
	AGAIN_MS = 1000,
	CHECKSUM_MS = 10000 /* the last read waits for it no longer; less than reads wait */
};

/* ---- from beginning to end ---- */

static struct chunks *chunks_of(const struct source *source)
{
	return source->objects->remote->serve->chunks;
}

void source_take_checksum_locked(struct source *source, const struct checksum *told)
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
		source_take_checksum_locked(source, file->checksum);
	source->whole.size_bytes = file->size_bytes;
	source->ranges.chunks = file->objects->remote->serve->chunks;
	pthread_mutex_init(&source->lock, NULL);
	*ret = source;
	return 0;
}

void source_unref(struct source *source)
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

void source_let_go_locked(struct source *source)
{
	struct range *next;
	for (struct range *range = source->ranges.first; range; range = next) {
		struct wanted wanted = wanted_locked(source, range);
		bool is_wanted = wanted.unread_from < INT64_MAX;
		next = range->next;
		range_forget(range, wanted.from, wanted.unread_from);
		if (range->is_done && (range->n_gone == range->n_chunks || !is_wanted))
			ranges_remove(&source->ranges, range);
		else if (!is_wanted && range->len - range->have > READER_REST_BYTES)
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
		source_let_go_locked(source);
	}
	source_unref(source);
	free(reader);
}

/* ---- what is fetched ---- */

static bool may_start_locked(const struct source *source)
{
	return !source->is_closed &&
	       (source->n_in_flight < IN_FLIGHT_OWN || source->objects->n_fetches < IN_FLIGHT);
}

void reader_read_ahead_locked(struct reader *reader)
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
		if (!may_start_locked(source) || fetch_start_locked(source, at, n, false) < 0)
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
		int r = range ? 0 : fetch_start_locked(source, at, next - at, true);
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

struct request *source_take_ready_locked(struct source *source, const struct range *failed,
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
	reader_read_ahead_locked(reader);
	source_let_go_locked(reader->source);
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
	return n == -EIO ? fetch_fail_as_wrong(reader->source, &c->fault) : n;
}
