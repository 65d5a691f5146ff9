/* SPDX-License-Identifier: MIT */
/*
 * Renames of objects, and what has to wait for them: a queue, journalled, in whose order changes of a key are made. What
 * is in it shows in the tree at once; the service is asked behind. One object, or a directory of up to RENAME_STEPS_MAX.
 *
 *   waiting   an earlier one of the same key, or an upload, comes first; or it has failed and is tried again
 *   copying   every object, over what was there when the rename was asked for
 *   copied    somebody still reads the old one into a spool
 *   removing  what was copied, each only if it is still that version
 *   undoing   a copy was refused: the other copies are removed, the tree shows the old names again
 *
 * Its record is pending/<mount id>/NUMBER.rename: what is to be done, then a line for each thing that was. A step that is
 * repeated does no harm: a copy that is there already is known by its bytes, and nothing is removed before its copy is
 * there.
 */
#pragma once

#include "objects.h"

enum { RENAME_STEPS_MAX = 100, RENAME_PATIENCE_MS = 1000 };

enum rename_phase { RENAME_WAITING, RENAME_COPYING, RENAME_COPIED, RENAME_REMOVING, RENAME_UNDOING };

/* Without `key` an empty object is made, without `to_key` it is only removed. */
struct rename_step {
	/* immutable */
	struct rename *rename;
	char *bucket, *key, *to_bucket, *to_key;
	char *if_version; /* of backend.h, for the target; NULL as there */
	int64_t size_bytes, changed_ns;
	uint64_t from_hash, to_hash; /* 0: no such key */

	/* protected by the objects' lock */
	struct object_file *file; /* referenced; NULL: a directory's marker, or not known */
	char *version;            /* of the source; NULL: what comes before makes it */
	char *made;               /* the copy's; NULL: there is none yet */
	bool may_be_there;        /* an attempt to copy failed */
	bool is_nothing;          /* there was no source */
};

struct rename {
	/* immutable once it is in the queue */
	struct objects *objects;
	char *path;      /* of its record */
	char *from, *to; /* of a directory: its prefixes; else NULL */

	/* protected by the objects' lock */
	struct rename *prev, *next;
	enum rename_phase phase;
	unsigned n_running, n_failures;
	int result; /* of what is under way, with `fault` */
	struct fault fault;
	int64_t begun_ms, retry_ms;
	struct waiters callers; /* for RENAME_PATIENCE_MS */
	struct waiters waiters; /* until it is done */

	size_t n_steps, capacity;
	struct rename_step step[];
};

/* NULL: out of memory. */
struct rename *rename_new(struct objects *objects, size_t max_steps);
void rename_free(struct rename *rename); /* one that is not in the queue; takes NULL */
/* Copies the texts of `step`, takes a reference to its file. */
int rename_add_locked(struct rename *rename, const struct rename_step *step);

/*
 * Journals it, shows it and starts it; takes it over. The request is answered when it is done or has been refused, or
 * after RENAME_PATIENCE_MS.
 */
int rename_begin(struct call *c, struct rename *rename);

/* 0: no rename of the file is under way. Else parks until that is so, or has failed. */
int renames_wait(struct call *c, const struct object_file *file);
/* The same, of everything below a directory. */
int renames_wait_below(struct call *c, const struct object_dir *dir);

/* ---- what is shown ---- */
enum rename_view { RENAME_NO_VIEW, RENAME_GONE, RENAME_THERE };
enum rename_view renames_view_key_locked(const struct objects *objects, const char *bucket, const char *key);
/* "…/" */
enum rename_view renames_view_dir_locked(const struct objects *objects, const char *bucket,
					 const char *prefix);
/* Rows of a listing that the service does not give like that yet. */
int renames_list_locked(const struct object_dir *dir, struct object_rows *rows);
/* Of the keys that renames bring below the prefix: each until `see` gives false. */
bool renames_each_below_locked(const struct objects *objects, const char *bucket, const char *prefix,
			       bool (*see)(void *arg, const struct rename_step *step), void *arg);

/* ---- for those who change keys ---- */
/* Must a change of this key take its place in the queue? */
bool renames_touch_locked(const struct objects *objects, const char *bucket, const char *key);
/* Or one of what lies below a directory? */
bool renames_touch_below_locked(const struct objects *objects, const char *bucket, const char *prefix);
/* Has an upload of the file to wait? It is begun when it need not any more. */
bool renames_hold_locked(const struct object_file *file);
/* Whose spool was this, of a mount before? Referenced; NULL: of the file of that key. */
struct object_file *renames_owner_locked(struct objects *objects, const char *bucket, const char *key,
					 const char *if_version);
/* Something that renames wait for is over. */
void renames_kick_locked(struct objects *objects);

/* Rows of transfers.tsv. */
int renames_render(struct objects *objects, struct str *ret);

/* ---- life ---- */
void renames_take_up(struct objects *objects, const char *dir); /* records, before the spools there */
bool renames_is_record(const char *name);
void renames_start(struct objects *objects);             /* what was taken up */
void renames_drain(struct objects *objects);             /* waits for what gets on */
void renames_name_locked(const struct objects *objects); /* what the next mount has to finish */
void renames_free(struct objects *objects);              /* names what is left */
