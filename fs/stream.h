/* SPDX-License-Identifier: MIT */
/*
 * Sending a spool while it is written: what was written in order from the beginning goes out in parts, so that a close
 * has only the rest to wait for.
 *
 *   streaming              writers go on; what the backend was promised (n_promised) does not change any more
 *   streaming, uploading   a close or fsync has asked for the object: its end is known now, writers wait
 *   given up               something promised was written again, truncated, renamed or removed: the attempt ends behind,
 *                          and leaves nothing; a close sends the whole then
 *
 * The bytes stay in the spool until the object is made: other readers see them, an attempt that fails is gone on with
 * from them, and a session that a service has lost can only begin anew. So what is written has to fit on the disk of
 * pending/.
 */
#pragma once

#include "spool.h"

enum {
	STREAM_MIN_BYTES = 16 << 20, /* in order, before it begins */
	STREAMS_MAX = 8,             /* a remote; each may last as long as its file is open */
	STREAM_ATTEMPTS_MAX = 2,     /* of those that are given up, until the object was delivered */
};

/* Before the bytes from `at` on change, also the size; the writer is not counted yet. */
void stream_touch_locked(struct spool *spool, int64_t at);
/* `n` bytes were written at `at`. Begins a stream if it is worth it. */
void stream_wrote_locked(struct spool *spool, int64_t at, int64_t n);
/* Nothing of what was sent is of use any more. Does nothing once the end was asked for. */
void stream_give_up_locked(struct spool *spool);
/* The end was asked for, and is where the spool ends now. */
void stream_end_locked(struct spool *spool);
/* What a stream gives to backend_object_put_source. */
struct object_source stream_source(struct spool *spool);

/* The `sent` of a source. */
void stream_sent(void *arg, int64_t n);

/* What an attempt has left is ended at the service, on another thread. */
void stream_drop_locked(struct spool *spool);
