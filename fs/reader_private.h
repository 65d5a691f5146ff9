/* SPDX-License-Identifier: MIT */
/* What reader.c and fetch.c share: who reads an object, and the calls that bring its bytes. */
#pragma once

#include "ranges.h"
#include "readahead.h"
#include "reader.h"
#include "whole.h"

enum { READER_REST_BYTES = 1 << 20 /* a range is not broken off for less: that costs its connection */ };

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

/* ---- reader.c; the source's lock is held, except by source_unref ---- */
void source_unref(struct source *source);
void source_let_go_locked(struct source *source); /* what nobody wants */
/* More in order, as far as window, flights and memory allow. */
void reader_read_ahead_locked(struct reader *reader);
/* What the service told when it was asked. */
void source_take_checksum_locked(struct source *source, const struct checksum *told);
/* Out of the row: those that have all they asked for; with `failed`, those that wait for what it will not bring. */
struct request *source_take_ready_locked(struct source *source, const struct range *failed,
					 struct request **ret_failed);

/* ---- fetch.c ---- */
/* A call for [at, at + len) on another thread. -EAGAIN: there is no room, and nobody waits for it. -ENOMEM. */
int fetch_start_locked(struct source *source, int64_t at, int64_t len, bool is_needed);
/* -EIO, and the sentence of a source whose whole is wrong. */
int fetch_fail_as_wrong(struct source *source, struct fault *fault);
