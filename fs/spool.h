/* SPDX-License-Identifier: MIT */
/*
 * What is written to objects: a file of this machine each, in pending/<mount id>/ of the remote's state, until the
 * service has it all. Beside N lies N.json while there is something to deliver: of which key, over which version, and
 * whether it is complete (a close or fsync has asked for it). A mount takes up what dead ones have left.
 *
 *   filling    the object's bytes are on their way into the spool; writers wait
 *   dirty      it has what the service has not
 *   uploading  it is being sent: writers wait; a failure leaves it dirty, to be tried again. Much of it may have been
 *              sent before, while it was written: stream.h
 *   conflict   the object has been changed by somebody else: it stays in pending/, and is not the file's any more
 *
 * What is removed while it is uploaded is let go at once: the upload ends behind, and what comes of it is removed at the
 * service, before anything else is sent to that key. Until then its record is N.unwanted: the next mount removes it.
 *
 * While the file is open its spool stays, clean or not, so that all handles see the same bytes.
 */
#pragma once

#include "objects.h"

#define SPOOL_RECORD   ".json"
#define SPOOL_UNWANTED ".unwanted"

struct spool {
	/* immutable */
	struct objects *objects;
	int fd;
	char *path; /* of its bytes; the record's is path.json */

	/* protected by the objects' lock */
	struct spool *prev, *next;
	struct object_file *file;      /* referenced; NULL: none any more */
	struct object_file *sent_file; /* referenced, for the attempt that is about to begin */
	unsigned n_refs;
	char *if_version; /* of backend.h: "" or a version */
	bool is_dirty, is_complete;
	bool has_bytes; /* written or truncated since it was made or delivered */
	bool is_filling, is_uploading, is_wanted;
	bool is_unwanted;  /* removed while it was uploading */
	bool may_be_there; /* an attempt failed, and nobody knows how far it got */
	bool is_kept;      /* its files stay when it is let go */
	unsigned n_writers;
	unsigned n_failures;
	int64_t retry_ms; /* after one: when it is to be tried again */
	char *error;      /* of the last; NULL: none */
	struct waiters waiters;

	/* of what is sent while it is written: stream.c; protected by the objects' lock */
	int64_t n_in_order; /* bytes from 0 on that were written in order */
	int64_t n_promised; /* of those: they may be at the service */
	int64_t n_sent;     /* they are */
	int64_t n_all;      /* once the end was asked for */
	int64_t n_wanted;   /* somebody waits for so many; INT64_MAX: nobody */
	bool is_scattered;  /* several wrote at once: n_in_order grows no more */
	bool is_streaming, is_given_up;
	unsigned n_given_up;
	int64_t stream_ms; /* after a failure: when the next may begin */
	pthread_cond_t grown;
	struct object_upload
		*upload; /* what the last attempt has left; the attempt's own while there is one */
};

/* An empty one for the file, dirty; its record says over what it may be put. */
int spool_make(struct object_file *file, const char *if_version, struct fault *reterr);

/* Makes sure that there is one, with the bytes of the object or (is_emptied) without. May park. */
int spool_prepare(struct call *c, struct object_file *file, bool is_emptied);

ssize_t spool_write(struct call *c, struct object_file *file, const char *buf, size_t size, off_t offset);
int spool_truncate(struct call *c, struct object_file *file, off_t size);

/* 0: the service has everything. Else parks until it has, or has refused. */
int spool_deliver(struct call *c, struct object_file *file);

/* A handle was closed: delivers behind the caller's back what is left, lets go of what is clean. */
void spool_closed_locked(struct object_file *file);

/*
 * Nobody shall get it: unlinked, replaced. Handles that are open keep it. What is being sent ends behind; if the object is
 * made all the same, it is removed.
 */
void spool_discard(struct object_file *file);
void spool_unrecord(const struct spool *spool); /* the next mount shall not deliver it */
/* The file has another key now. */
int spool_moved(struct object_file *file);
/* What the file holds is at the service by other means. */
void spool_drop_locked(struct object_file *file);

/* Rows of files that the service may not have yet. */
int spools_list_locked(const struct object_dir *dir, struct object_rows *rows);

/* Rows of transfers.tsv. */
int spools_render(struct objects *objects, struct str *ret);

int spools_take_up(struct objects *objects); /* of mounts before this one: spool_takeup.c */
/* No thread is left: what attempts have left is ended at the service. */
void spools_stop(struct objects *objects);
/* Names what the next mount will deliver. */
void spools_name_locked(const struct objects *objects);
void spools_free(struct objects *objects); /* names what is left */
