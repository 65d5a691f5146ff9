/* SPDX-License-Identifier: MIT */
/*
 * What is known of a remote's objects: directories (a bucket and a prefix) with their newest listing, files, and names
 * that are not there. A listing holds for FRESH_MS; then it is fetched again, once for all who wait for it. Changes made
 * through the mount are in here before they are answered.
 */
#pragma once

#include "kinds.h"
#include "object_rows.h"
#include "request.h"

#include <pthread.h>
#include <stdatomic.h>

struct objects;
struct pool;
struct rename;
struct source;
struct spool;

struct object_dir_former {
	struct object_dir_former *next;
	char *bucket, *prefix;
};

struct object_dir {
	/* immutable */
	struct objects *objects;
	uint64_t ino;

	/* atomic: renames change them with the objects' lock held, what they were stays valid */
	char *_Atomic bucket;
	char *_Atomic prefix; /* "" or ending in '/' */

	/* protected by the objects' lock */
	struct object_dir *next;
	unsigned n_refs;
	struct object_dir_former *former; /* what bucket and prefix were */
	int64_t seen_ms;                  /* when it was known to be there; 0: not any more */
	struct object_rows rows;
	bool has_rows;     /* they are a whole listing */
	int64_t listed_ms; /* of the rows; 0: to be fetched again */
	bool is_listing;
	struct str
		changes; /* while it is: names that were changed here, "d" or "f" first, a NUL after each */
	struct waiters for_listing;
	int64_t changed_ns;
	int64_t lookups_ms; /* since when n_lookups were asked for without a listing */
	unsigned n_lookups;
	bool is_huge; /* not to be listed for a lookup's sake */
};

struct object_file {
	struct objects *objects; /* immutable */

	/* protected by the objects' lock */
	struct object_file *next;
	unsigned n_refs, n_open;
	char *bucket, *key; /* they change when it is renamed */
	uint64_t ino;
	char *at_bucket, *at_key; /* where the service has it while a rename is under way; NULL: there */
	bool is_gone;             /* the key is not its own any more */
	bool is_stale; /* the same, since somebody else has changed it: its handles are of no use any more */
	bool is_told;  /* of that, in errors */
	char *version;
	int64_t size_bytes, changed_ns;
	int64_t fresh_ms;           /* when that was so; 0: to be asked again */
	struct object_detail facts; /* -o xattr: what the service told of `version`, zeroed: nothing */
	int64_t facts_ms;           /* when; 0: to be asked */
	struct checksum *checksum; /* of `version`, as the service told when it was asked; NULL: it was not */
	uint64_t content;          /* another number for another content, made elsewhere */
	uint64_t cached_content;   /* of the pages that the kernel has */
	uint64_t told_content;     /* of the attributes that it has */
	struct spool *spool;       /* what was written here; NULL: nothing */
	struct source *source;     /* what readers share; NULL: nobody reads it. Not owned */
};

enum {
	OBJECTS_GRACE_MS =
		5000, /* while the service is away, what is known is told for so long, then it is asked again */
	OBJECTS_MISSING_MS = 5000,
	OBJECTS_MISSING_MAX = 8192,
	OBJECTS_BUCKETS = 1 << 16,
	OBJECTS_REPORTED_MAX = 1024
};

struct objects {
	/* immutable after objects_new */
	struct remote *remote;
	struct pool *fetchers;  /* what readers wait for */
	struct pool *uploaders; /* what is written */
	struct pool *streamers; /* what is still being written: it may last */
	struct pool *movers;    /* what is renamed */
	char *pending;          /* the directory of spool files; absolute */
	int empty_fd;           /* a file of no bytes */

	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t settled; /* a rename got on, or an upload ended */
	struct object_dir *dir[OBJECTS_BUCKETS];
	struct object_file *file[OBJECTS_BUCKETS];
	struct {
		uint64_t hash;
		int64_t until_ms;
	} missing[OBJECTS_MISSING_MAX];
	struct {
		char name[128];
		int64_t seen_ms;
	} * bucket;
	size_t n_buckets;
	uint64_t reported[OBJECTS_REPORTED_MAX]; /* keys that were named in errors */
	size_t n_reported;
	struct spool *spool; /* all of them */
	unsigned n_spools_made, n_streams;
	struct rename *renames, *last_rename; /* in their order: renames.h */
	size_t n_rename_steps;
	unsigned n_renames_made;
	bool is_tick_due;
	uint64_t n_contents;
	bool is_sweep_due, is_retry_due;

	/* atomic */
	atomic_bool is_stopping;
	atomic_uint n_fetches; /* ranges on their way to readers */
};

int objects_new(struct remote *remote, struct objects **ret);
int objects_start(struct objects *objects); /* takes up what mounts before this one could not deliver */
void objects_stop(struct objects *objects);
/* The process ends now, whatever is under way: names what the next mount will finish. */
void objects_name_pending(struct objects *objects);
void objects_free(struct objects *objects); /* takes NULL */
/* Everything may have changed: to be asked again. */
void objects_refresh(struct objects *objects);
/* Does what was seen then (monotonic; 0: never) still hold? */
bool objects_is_fresh(const struct objects *objects, int64_t seen_ms);
/* The same for the kernel, in seconds. */
int objects_ttl(const struct objects *objects);
/* When something was seen that holds for OBJECTS_GRACE_MS more. */
int64_t objects_grace_ms(const struct objects *objects);
/* A sentence about a key, for .trainfs/errors. */
void objects_report(struct objects *objects, const char *bucket, const char *key, int err,
		    const char *sentence);

/* ---- buckets ---- */
int objects_bucket_find(struct call *c, struct objects *objects, const char *name, struct child *ret);
void objects_bucket_seen(struct objects *objects, const char *name, bool is_there);
/* Those that were seen, however long ago; a negative return of sink ends it. */
int objects_buckets_seen(struct objects *objects, int (*sink)(void *arg, const char *name), void *arg);

/* ---- directories ---- */
int object_dir_list(struct call *c, struct object_dir *dir, struct listing *ret);
/*
 * Fetches the listing, or parks the request until somebody else has; 0 too when the directory was renamed meanwhile, and
 * there is none of it. is_short: for the sake of a lookup; gives up when it is long (0, is_huge).
 */
int object_dir_fetch(struct call *c, struct object_dir *dir, bool is_short);
bool object_dir_is_listed_locked(const struct object_dir *dir); /* freshly */
int object_dir_find(struct call *c, struct object_dir *dir, const char *name, struct child *ret);
/* Of the name in the directory: -ENAMETOOLONG, -EINVAL. "…/name" or, of a directory, "…/name/". */
int object_dir_key(const struct object_dir *dir, const char *name, bool is_dir,
		   char ret[static OBJECT_KEY_MAX + 1]);
struct object_dir *object_dir_get_locked(struct objects *objects, const char *bucket, const char *prefix);
/* Borrowed; NULL: not known. */
struct object_dir *object_dir_known_locked(struct objects *objects, const char *bucket, const char *prefix);
void object_dir_unref(struct object_dir *dir);

/* ---- files ---- */

/* Brings its attributes up to date. -ENOENT: it has gone. */
int object_file_fresh(struct call *c, struct object_file *file);
/* -ESTALE, with its sentence, for a file that is stale; else 0. */
int object_file_check_locked(struct call *c, struct object_file *file);
/* Known or new, referenced; NULL: out of memory. */
struct object_file *object_file_get_locked(struct objects *objects, const char *bucket, const char *key);
struct object_file *object_file_find_locked(struct objects *objects, const char *bucket, const char *key);
/* Brings file->facts, for -o xattr; of what is not delivered yet there are none. Asks at most once. */
int object_file_know(struct call *c, struct object_file *file);
/* As `xattrs` of node.h (object_xattr.c). */
int object_xattrs(struct call *c, struct node *n, const char *name, json_t *ret);
/* What a detail shows: content-type, storage-class, meta.NAME. Names that cannot be one are left out. -ENOMEM. */
int object_xattrs_add(const struct object_detail *facts, json_t *ret);
void object_file_unref(struct object_file *file);
void object_file_unref_locked(struct object_file *file);
bool object_file_is_fresh_locked(const struct object_file *file);
/*
 * is_ours: the content is the one that the kernel has already. Else, if it is another, an open file becomes stale and
 * leaves its key: -ESTALE; a new one takes it.
 */
int object_file_set_locked(struct object_file *file, const char *version, int64_t size_bytes,
			   int64_t changed_ns, bool is_ours);
/* It leaves its key: unlinked, or another takes its place. */
void object_file_detach_locked(struct object_file *file);
void object_file_make_stale_locked(struct object_file *file);
/* The listing that it is in is old. */
void object_file_unlist_locked(const struct object_file *file);
int object_file_move_locked(struct object_file *file, const char *bucket, const char *key);
/* Where the service has its bytes, or gets them. Borrowed for as long as the lock is held. */
struct object_place {
	const char *bucket, *key;
};
struct object_place object_file_place_locked(const struct object_file *file);
void object_file_home_locked(struct object_file *file, const char *bucket, const char *key);

/* ---- changes made here ---- */
uint64_t object_hash(const char *bucket, const char *key); /* never 0 */
/* Everything that is known below one prefix lies below another from now on. */
void object_dirs_move_locked(struct objects *objects, const char *bucket, const char *from,
			     const char *to_bucket, const char *to);
/* The listing that has the key is old. */
void objects_unlist_locked(struct objects *objects, const char *bucket, const char *key);
void objects_note_put_locked(struct objects *objects, const char *bucket, const char *key,
			     const char *version, int64_t size_bytes, int64_t changed_ns);
void objects_note_gone_locked(struct objects *objects, const char *bucket, const char *key);

/* There is nothing of that name, as far as is known. */
void objects_missing_locked(struct objects *objects, const char *bucket, const char *key, int64_t until_ms);
bool objects_is_missing_locked(const struct objects *objects, const char *bucket, const char *key);

struct child object_dir_child(struct object_dir *dir);
struct child object_file_child(struct object_file *file);
