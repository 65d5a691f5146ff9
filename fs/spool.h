/* SPDX-License-Identifier: MIT */
/*
 * What is written to objects: a file of this machine each, in pending/<mount id>/ of the remote's state, until the
 * service has it all. Beside N lies N.json while there is something to deliver: of which key, over which version, and
 * whether it is complete (a close or fsync has asked for it). A mount takes up what dead ones have left.
 *
 *   filling    the object's bytes are on their way into the spool; writers wait
 *   dirty      it has what the service has not
 *   uploading  it is being sent: writers wait; a failure leaves it dirty, to be tried again
 *   conflict   the object has been changed by somebody else: it stays in pending/, and is not the file's any more
 *
 * While the file is open its spool stays, clean or not, so that all handles see the same bytes.
 */
#pragma once

#include "objects.h"

struct spool {
	/* immutable */
	struct objects *objects;
	int fd;
	char *path; /* of its bytes; the record's is path.json */

	/* protected by the objects' lock */
	struct spool *prev, *next;
	struct object_file *file; /* referenced; NULL: none any more */
	unsigned n_refs;
	char *if_version; /* of backend.h: "" or a version */
	bool is_dirty, is_complete;
	bool has_bytes; /* written or truncated since it was made or delivered */
	bool is_filling, is_uploading, is_wanted;
	bool may_be_there; /* an attempt failed, and nobody knows how far it got */
	bool is_kept;      /* its files stay when it is let go */
	unsigned n_writers;
	unsigned n_failures;
	int64_t retry_ms; /* after one: when it is to be tried again */
	struct waiters waiters;
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

/* Nobody shall get it: unlinked, replaced. Handles that are open keep it. Parks while it is being sent. */
int spool_discard(struct call *c, struct object_file *file);
void spool_unrecord(const struct spool *spool); /* the next mount shall not deliver it */
/* The file has another key now. */
int spool_moved(struct object_file *file);
/* What the file holds is at the service by other means. */
void spool_drop_locked(struct object_file *file);

/* Rows of files that the service may not have yet. */
int spools_list_locked(const struct object_dir *dir, struct object_rows *rows);

int spools_take_up(struct objects *objects);
void spools_free(struct objects *objects); /* names what is left */
