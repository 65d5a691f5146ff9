/* SPDX-License-Identifier: MIT */
/* Sending spools, and trying again. */
#pragma once

#include "spool.h"

/* Sends it on a thread of the uploaders, when nobody writes to it; who waits on the spool hears of it. */
void upload_begin_locked(struct spool *spool);

/*
 * After a writer has gone: begins what waited for that. The requests to be resumed without the lock, if there is nothing
 * to send any more.
 */
struct request *upload_wanted_locked(struct spool *spool);

/* Sends it while it is written, on a thread of the streamers, unless those have enough to do. */
void upload_stream_locked(struct spool *spool);

/* ---- of spool.c, for upload.c and spool_takeup.c ---- */

/* Takes path and fd over, also on failure; fd may be a -errno, which is given back. */
int spool_new(struct objects *objects, char *path, int fd, const char *if_version, struct spool **ret);
void spool_attach_locked(struct spool *spool, struct object_file *file);
int spool_record(struct spool *spool, bool is_complete);
void spool_unwanted_is_over(const struct spool *spool); /* nothing of it is at the service */
void spool_free(struct spool *spool);                   /* one that is not attached */
void spool_unref_locked(struct spool *spool);
