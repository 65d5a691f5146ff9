/* SPDX-License-Identifier: MIT */
/* How far a spool was written in order, and how much of that a backend was promised; upload.c runs the attempt. */
#include "stream.h"

#include "cleanup.h"
#include "clock.h"
#include "log.h"
#include "pool.h"
#include "remote.h"
#include "upload.h"

#include <errno.h>
#include <sys/stat.h>

enum { STREAM_LOOK_MS = 1000 };

/* ---- what an attempt has left ---- */

struct drop {
	struct backend *be;
	struct object_upload *upload;
};

static void drop_task(void *arg)
{
	struct drop *drop = arg;
	backend_object_put_drop(drop->be, drop->upload);
	free(drop);
}

void stream_drop_locked(struct spool *spool)
{
	if (!spool->upload)
		return;
	struct drop *drop = malloc(sizeof(*drop));
	if (!drop)
		return; /* it is dropped with the spool */
	*drop = (struct drop){spool->objects->remote->be, spool->upload};
	if (pool_submit(spool->objects->uploaders, drop_task, drop) == 0)
		spool->upload = NULL;
	else
		free(drop);
}

/* ---- what is written ---- */

void stream_give_up_locked(struct spool *spool)
{
	if (spool->is_uploading)
		return;
	if (spool->is_streaming && !spool->is_given_up) {
		spool->is_given_up = true;
		spool->n_given_up++;
		pthread_cond_broadcast(&spool->grown);
	} else if (!spool->is_streaming) {
		stream_drop_locked(spool);
	}
	spool->n_promised = spool->n_sent = 0;
}

void stream_touch_locked(struct spool *spool, int64_t at)
{
	if (at < spool->n_promised)
		stream_give_up_locked(spool);
	if (spool->n_writers > 0)
		spool->is_scattered = true;
	else if (at == 0)
		spool->is_scattered = false;
	if (at < spool->n_in_order)
		spool->n_in_order = at;
}

static bool is_worth_it(const struct spool *spool)
{
	return spool->n_in_order >= STREAM_MIN_BYTES && spool->is_dirty && !spool->is_streaming &&
	       !spool->is_uploading && !spool->is_wanted && !spool->may_be_there &&
	       spool->n_given_up < STREAM_ATTEMPTS_MAX && spool->file && !spool->file->is_gone &&
	       spool->file->n_open > 0 && clock_mono_ms() >= spool->stream_ms;
}

void stream_wrote_locked(struct spool *spool, int64_t at, int64_t n)
{
	if (!spool->is_scattered && at == spool->n_in_order)
		spool->n_in_order += n;
	if (spool->n_in_order >= spool->n_wanted) {
		spool->n_wanted = INT64_MAX;
		pthread_cond_broadcast(&spool->grown);
	}
	if (is_worth_it(spool))
		upload_stream_locked(spool);
}

void stream_end_locked(struct spool *spool)
{
	struct stat st = {0};
	(void)fstat(spool->fd, &st); /* of an open descriptor */
	spool->n_all = spool->n_in_order = st.st_size;
	pthread_cond_broadcast(&spool->grown);
}

/* ---- what the backend asks ---- */

/* Until there are so many, the end was asked for, or it is time to look around; -ECANCELED. */
static int await_locked(struct spool *spool, int64_t least)
{
	int64_t until_ms = clock_mono_ms() + STREAM_LOOK_MS;
	while (!spool->is_given_up && !spool->is_uploading && spool->n_in_order < least) {
		if (spool->objects->is_stopping)
			return -ECANCELED;
		if (least < spool->n_wanted)
			spool->n_wanted = least;
		if (!clock_wait(&spool->grown, &spool->objects->lock, until_ms))
			break;
	}
	return spool->is_given_up ? -ECANCELED : 0;
}

/* The first that hears of the end writes it down, before anything can come of it. */
static int stream_wait(void *arg, int64_t least, int64_t most, int64_t *ret_n, bool *ret_is_all)
{
	struct spool *spool = arg;
	bool is_first = false;
	{
		LOCK_SCOPE(&spool->objects->lock);
		int r = await_locked(spool, least);
		if (r < 0)
			return r;
		bool is_there = spool->is_uploading || spool->n_in_order >= least;
		int64_t n = spool->is_uploading ? spool->n_all
			    : is_there          ? spool->n_in_order
						: spool->n_promised;
		*ret_is_all = spool->is_uploading && n <= most;
		*ret_n = n < most ? n : most;
		if (*ret_n > spool->n_promised)
			spool->n_promised = *ret_n;
		is_first = spool->is_uploading && !spool->is_complete;
		spool->is_complete |= is_first;
	}
	return is_first ? spool_record(spool, true) : 0;
}

void stream_sent(void *arg, int64_t n)
{
	struct spool *spool = arg;
	LOCK_SCOPE(&spool->objects->lock);
	spool->n_sent = n;
}

struct object_source stream_source(struct spool *spool)
{
	return (struct object_source){
		.fd = spool->fd, .wait = stream_wait, .sent = stream_sent, .arg = spool};
}
