/* SPDX-License-Identifier: MIT */
/*
 * The contract between the tree (fs/) and the places that jobs run in or data lives in (backend/<type>/).
 *
 * A backend type is a name, an open and a close, and tables of operations, one a capability: jobs, models, buckets.
 * A missing table is a missing capability: the tree shows no directory for it.
 *
 * Threads: `open` and `close` never overlap with another call on the same backend. Every other operation may be
 * called from several threads at once on one instance, and may block: the tree calls them from the remote's call
 * pool, never from a FUSE worker. An operation must come to an end by itself (its own time limits); its caller may
 * have left meanwhile, which changes nothing for the operation.
 *
 * Errors: 0 or -errno, with a sentence in `reterr` (may be NULL) on failure. Everywhere:
 *   -ENOENT  what was named is not there        -EEXIST   it is there already
 *   -EINVAL  a name that the service refuses    -EBADMSG  a package or specification that it refuses
 *   -EBUSY   not in this state (deleting a running job, a version in use)
 *   -EACCES  credentials missing or expired     -EPERM    not allowed
 *   -EDQUOT, -EFBIG  quota, size or price       -EAGAIN   throttled, after retries
 *   -EHOSTUNREACH, -ETIMEDOUT  the network      -EIO      the service failed, after retries
 *   -EOPNOTSUPP  not possible at this backend; also what the wrappers answer for a missing table or operation
 *
 * Ownership: arguments are borrowed for the call. `ret…` are written on success only and belong to the caller.
 *
 * The tree calls the `backend_…` wrappers below, never a table: they check arguments, answer -EOPNOTSUPP for what is
 * missing, make sure that a failure carries a sentence, and log at debug level.
 */
#pragma once

#include "checksum.h"
#include "entry.h"
#include "fault.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct backend;
struct helper;

/* What `open` is given. All borrowed for the life of the backend. */
struct backend_conf {
	const char *name; /* of the remote: "local", "gcp" */
	const char *
		state_dir; /* absolute, exists, 0700, on a local file system, this remote's alone; fs/ keeps fs.db,
	                          drafts/, mounts/ and pending/ in it, every other name in it is the backend's */
	const json_t *
		options; /* object: the remote's entry in config.yaml, fields that fs/ knows taken out; an unknown
	                          field is -EINVAL with its name */
	const char *python; /* absolute path of the python3 found on PATH when the mount was made, or NULL */
};

/* ---- jobs ---- */

struct secret {
	const char *name;
	const char *
		value; /* never logged, never in a fault; in files only 0600 below state_dir, removed when used */
};

/*
 * A package, frozen: the files named are not changed by anyone while the call lasts. `path` lists what is to be
 * submitted, relative to `dir`, parents before children, ignored files left out already.
 */
struct package {
	const char *dir; /* absolute */
	const char *const *path;
	size_t n_paths;
	int64_t size_bytes;
};

struct job_request {
	const char *id;    /* decided: [A-Za-z0-9][A-Za-z0-9._-]{0,127} */
	const char *model; /* the same alphabet */
	const json_t *
		spec; /* the specification of DESIGN 4 in effect, validated, keys sorted: "trainfs": 1, "model",
	                             "entry" ("pkg.task", "train.py", "main.py:main", "train.ipynb", "train.sh", "run") or
	                             "command", and what else was given; `$ID` stands for the id */
	const struct package *package;
	const char *git; /* JSON {"branch","commit","dirty"}, or NULL */
	const struct secret *secret;
	size_t n_secrets;
};

/* Called for each row of a listing; a negative return ends the listing with that error. */
typedef int (*job_sink)(void *arg, const struct job_entry *job);

struct job_page {
	char cursor[256]; /* give it to the next call; "" is the beginning */
	bool has_more;    /* ask again at once; else when something may have changed */
};

/* Called with each run of log bytes, in order; a negative return ends the fetch with that error. */
typedef int (*log_sink)(void *arg, const char *bytes, size_t n);

struct job_ops {
	/*
	 * The changes of the job list since `cursor`: with "" every job there is, page by page; later the jobs that
	 * are new, changed or gone (is_gone). A job may be reported twice, never left out.
	 * `ret->cursor` goes on from here; it may be kept on disk and given to a later instance.
	 * -ESTALE: the cursor is too old, start again from "" (what is not reported then is gone).
	 */
	int (*list)(struct backend *be, const char *cursor, job_sink sink, void *arg, struct job_page *ret,
		    struct fault *reterr);

	/* Everything about one job; -ENOENT. `ret` is zeroed by the wrapper. */
	int (*get)(struct backend *be, const char *id, struct job_detail *ret, struct fault *reterr);

	/*
	 * Would `submit` take this? Local checks only (names, fields, limits): no network, no long reading. It is called
	 * under a directory's lock in the kernel. -EBADMSG, -EINVAL, -EOPNOTSUPP, -EFBIG.
	 */
	int (*check)(struct backend *be, const struct job_request *request, struct fault *reterr);

	/*
	 * Submits. On success the job exists, survives a crash of this process, and the package is not needed any more.
	 * -EEXIST: a job of that id is there (after a crash: it is ours). -EALREADY: it may have been accepted, and the
	 * service cannot tell: the caller must not send it again.
	 */
	int (*submit)(struct backend *be, const struct job_request *request, struct fault *reterr);

	/* Asks a live job to end; returns when the wish is recorded. -EBUSY if it has ended already. */
	int (*cancel)(struct backend *be, const char *id, struct fault *reterr);

	/* Deletes an ended job and what it holds (versions made from it stay). -EBUSY for a live one. */
	int (*remove)(struct backend *be, const char *id, struct fault *reterr);

	/* Exactly one of log_file and log_fetch is set. */

	/*
	 * The log as a file of this machine: a read-only descriptor of a file that only grows. -ENOENT when there is none
	 * yet (then the log is empty).
	 */
	int (*log_file)(struct backend *be, const char *id, int *ret_fd, struct fault *reterr);

	/*
	 * What the log has beyond `cursor` ("" is the beginning), handed to `sink` in order; at most about 8 MiB a call.
	 * `ret->has_more` as in list. No byte is given twice, none is left out.
	 */
	int (*log_fetch)(struct backend *be, const char *id, const char *cursor, log_sink sink, void *arg,
			 struct job_page *ret, struct fault *reterr);

	/* The submitted package as a directory of this machine, read-only by custom: an O_DIRECTORY descriptor. -ENOENT. */
	int (*package_dir)(struct backend *be, const char *id, int *ret_fd, struct fault *reterr);

	/*
	 * Optional. Blocks until jobs, models or buckets may have changed, or timeout_ms have gone by, or `wake` was
	 * called. Without it the tree polls. Called from one thread.
	 */
	int (*watch)(struct backend *be, int timeout_ms);
	void (*wake)(struct backend *be);
};

/* ---- models ---- */

/* Called with the name of each; a negative return ends the listing with that error. */
typedef int (*name_sink)(void *arg, const char *name);

struct model_ops {
	/* Every model that the service has. */
	int (*list)(struct backend *be, name_sink sink, void *arg, struct fault *reterr);

	/* A model with its versions and aliases; -ENOENT. `ret` is zeroed by the wrapper. */
	int (*get)(struct backend *be, const char *model, struct model_detail *ret, struct fault *reterr);

	/* An empty model; -EEXIST, -EINVAL. */
	int (*create)(struct backend *be, const char *model, struct fault *reterr);

	/* Removes a model that has no versions; -EBUSY otherwise. */
	int (*remove)(struct backend *be, const char *model, struct fault *reterr);

	/* Would `version_create` take these names? Local checks only, as job check. -EINVAL. */
	int (*check)(struct backend *be, const char *model, const char *version, struct fault *reterr);

	/*
	 * Makes a version, and the model if there is none. Exactly one source: `job` (a succeeded job of this backend;
	 * taken is its output/model if that is not empty, else its output) or `dir` (an absolute path; its whole content).
	 * Returns when the version is READY, or has FAILED (an errno; an entry in state FAILED may stay). Meanwhile `get`
	 * shows it CREATING. Repeating an interrupted call with the same arguments goes on or starts over.
	 * -EEXIST: the version is there, made before by a finished call.
	 * The version never changes afterwards, whatever becomes of its source. The first version of a model that is
	 * READY becomes `default`.
	 */
	int (*version_create)(struct backend *be, const char *model, const char *version, const char *job,
			      const char *dir, struct fault *reterr);

	/* -EBUSY while an alias points at it. */
	int (*version_remove)(struct backend *be, const char *model, const char *version,
			      struct fault *reterr);

	/* The version's files as a directory of this machine: an O_DIRECTORY descriptor. -ENOENT. */
	int (*artifacts_dir)(struct backend *be, const char *model, const char *version, int *ret_fd,
			     struct fault *reterr);

	/*
	 * Points an alias at a READY version, in one step, moving it if it is there. -EBUSY if the version is not READY,
	 * -ENOENT if there is none. "default" is an alias like others here.
	 */
	int (*alias_set)(struct backend *be, const char *model, const char *alias, const char *version,
			 struct fault *reterr);
	int (*alias_remove)(struct backend *be, const char *model, const char *alias, struct fault *reterr);
};

/* ---- buckets ---- */

/* Bytes, without the NUL. */
enum { OBJECT_KEY_MAX = 1024, OBJECT_VERSION_MAX = 128, OBJECT_CURSOR_MAX = 2048 };

struct object_page {
	char cursor[OBJECT_CURSOR_MAX + 1]; /* for the next call, while has_more */
	bool has_more;
};

/*
 * What is put: the bytes of a file, from 0 on. They may still grow while it is sent.
 */
struct object_source {
	int fd;    /* pread */
	int64_t n; /* when `wait` is NULL: so many, which nobody changes meanwhile */

	/*
	 * Returns when there are `least` bytes or more, or all there will ever be, or after about a second. *ret_n: how
	 * many there are, at most `most`; from now on nobody changes those. *ret_is_all: there will never be more. Several
	 * threads may wait at once. -ECANCELED: the put is not wanted any more, and shall fail with that.
	 */
	int (*wait)(void *arg, int64_t least, int64_t most, int64_t *ret_n, bool *ret_is_all);
	/* So many bytes are at the service, and need not be sent again. From any thread. May be NULL. */
	void (*sent)(void *arg, int64_t n);
	void *arg;
};

static inline int object_source_wait(const struct object_source *source, int64_t least, int64_t most,
				     int64_t *ret_n, bool *ret_is_all)
{
	if (source->wait)
		return source->wait(source->arg, least, most, ret_n, ret_is_all);
	*ret_n = source->n < most ? source->n : most;
	*ret_is_all = source->n <= most;
	return 0;
}

/* The same until there are `least`, or all. */
static inline int object_source_await(const struct object_source *source, int64_t least, int64_t most,
				      int64_t *ret_n, bool *ret_is_all)
{
	int r;
	do
		r = object_source_wait(source, least, most, ret_n, ret_is_all);
	while (r == 0 && !*ret_is_all && *ret_n < least);
	return r;
}

static inline void object_source_sent(const struct object_source *source, int64_t n)
{
	if (source->sent)
		source->sent(source->arg, n);
}

/* The part of an object that a failed put has delivered. Each backend has its own, with this first. */
struct object_upload {
	int64_t n_sent; /* bytes that need not be sent again */
};

/* Called for each row of a listing; a negative return ends it with that error. */
typedef int (*object_sink)(void *arg, const struct object_entry *object);

/* Gets the bytes of an object in order: copies them and returns. A negative return ends the read with that error. */
typedef int (*bytes_sink)(void *arg, const void *bytes, size_t n);

/*
 * Either `dir` is set, or every operation below it: buckets are directories of this machine, or objects at a service.
 *
 * A version says which content a key has: an ETag, a generation; opaque text. `if_version` makes a change depend on it:
 * NULL: whatever is there; "": only if there is nothing (-EEXIST); else only over that version (-ESTALE, also when
 * there is nothing any more).
 */
struct bucket_ops {
	const char
		*version_name; /* what a version is called there: "etag"; static. NULL where `dir` is set */
	int (*list)(struct backend *be, name_sink sink, void *arg, struct fault *reterr);
	int (*create)(struct backend *be, const char *bucket, struct fault *reterr);
	/* An empty bucket; -ENOTEMPTY otherwise. */
	int (*remove)(struct backend *be, const char *bucket, struct fault *reterr);

	/* The bucket as a directory of this machine, which the tree serves read-write as it is. -ENOENT. */
	int (*dir)(struct backend *be, const char *bucket, int *ret_fd, struct fault *reterr);

	/*
	 * One page of what begins with `prefix` (any text; ending in '/': what lies directly below): objects, and common
	 * prefixes up to the next '/' behind it. In the order of their bytes from page to page; in a page both kinds may be
	 * apart. is_deep: objects alone, however deep they lie. The key equal to the prefix itself (a directory's marker)
	 * is a row like others. Nothing there is an empty page, -ENOENT a bucket that is not there.
	 * `cursor`: "" is the first page, then what ret->cursor was while ret->has_more. max_rows: a wish, 1 to 1000.
	 * `ret` is zeroed by the wrapper, and filled before the first row where the service tells it there: the sink may
	 * look, and somebody ask for the next page meanwhile.
	 */
	int (*objects)(struct backend *be, const char *bucket, const char *prefix, bool is_deep,
		       const char *cursor, unsigned max_rows, object_sink sink, void *arg,
		       struct object_page *ret, struct fault *reterr);

	/* -ENOENT. `ret` is zeroed by the wrapper. */
	int (*object_get)(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
			  struct fault *reterr);

	/*
	 * `n` bytes from `at` on, of exactly that version: -ESTALE when the object has another one now, -ENOENT when it has
	 * gone. Less than n come only where the object ends. What the sink has got before a failure is right.
	 * A whole object that comes in one call is compared with the checksum that the service tells: -EIO if it is another,
	 * before the sink gets the last bytes (with SHA-256 any, if it is small). But who gives `sum` compares CRCs himself,
	 * which can be joined: it is what this answer tells of the whole, set before the sink gets a byte. Some services
	 * tell nothing of a whole with a part of it: object_checksum.
	 */
	int (*object_read)(struct backend *be, const char *bucket, const char *key, const char *version,
			   int64_t at, int64_t n, bytes_sink sink, void *arg, struct checksum *sum,
			   struct fault *reterr);

	/*
	 * The checksum of that version as a whole, by a call of its own; CHECKSUM_NONE where the service has none of all its
	 * bytes. -ESTALE, -ENOENT as object_read. NULL where object_read tells it.
	 */
	int (*object_checksum)(struct backend *be, const char *bucket, const char *key, const char *version,
			       struct checksum *ret, struct fault *reterr);

	/*
	 * The whole object from `source`. On success the service has all of it, by its own checksum; on failure nothing has
	 * changed. Readers see the old or the new content, never a mixture. if_version is looked at when all has been sent.
	 *
	 * On a failure that time may mend (the network, a service that fails), *upload keeps what was delivered: give it to
	 * the next put of the same key that begins with the bytes that the source had given before, or to object_put_drop.
	 * It is NULL at first, and after everything else: then nothing is left at the service that is billed.
	 */
	int (*object_put)(struct backend *be, const char *bucket, const char *key,
			  const struct object_source *source, const char *if_version,
			  struct object_upload **upload, struct object_detail *ret, struct fault *reterr);

	/* Gives up what a put has left: takes it, and ends it at the service. May be NULL where puts leave nothing. */
	void (*object_put_drop)(struct backend *be, struct object_upload *upload);

	/* At the service, no byte comes here. `version`: of the source, or NULL. -ESTALE, -ENOENT: the source. */
	int (*object_copy)(struct backend *be, const char *bucket, const char *key, const char *version,
			   const char *to_bucket, const char *to_key, const char *if_version,
			   struct object_detail *ret, struct fault *reterr);

	/* -ENOENT where the service tells; some remove what is not there without a word. */
	int (*object_remove)(struct backend *be, const char *bucket, const char *key, const char *if_version,
			     struct fault *reterr);
};

/* ---- types and instances ---- */

/* Called with each finding of `check`: is it right, and one line that says what was looked at, and how to mend it. */
typedef void (*check_sink)(void *arg, bool is_ok, const char *line);

/* Called with each number and its name, as it stands in stats.tsv. */
typedef void (*number_sink)(void *arg, const char *name, uint64_t value);

struct backend_type {
	const char *name; /* of `type:` in config.yaml, and of the folder */
	/* -EINVAL: a wrong option. No network: what is away is told by the operations. */
	int (*open)(const struct backend_conf *conf, struct backend **ret, struct fault *reterr);
	/* Where these are given, what the others are by default: **new** object. -EINVAL as open. May be NULL. */
	int (*defaults)(const json_t *options, json_t **ret, struct fault *reterr);
	void (*close)(struct backend *be); /* takes NULL; may block as an operation may */
	/* Looks at credentials, permissions, tools; for `trainfs check`. May be NULL. */
	void (*check)(struct backend *be, check_sink sink, void *arg);
	/* What it has counted of its own (requests, retries, bytes), for stats.tsv. From memory. May be NULL. */
	void (*numbers)(struct backend *be, number_sink sink, void *arg);
	/* Bytes that this remote holds on this machine, -1 if not known. May be NULL. No long work: answered from memory. */
	int64_t (*space_used)(struct backend *be);
	const struct helper *helper; /* the program that it starts of itself (helper.h), or NULL */
	const struct job_ops *jobs;
	const struct model_ops *models;
	const struct bucket_ops *buckets;
};

enum { BACKEND_COUNTS_MAX = 32 };

/* Calls of one operation; the wrappers count. */
struct backend_count {
	const char *op; /* static text: "get job"; NULL: free */
	uint64_t n_calls, n_failures;
};

/* Embedded first in each implementation, zeroed but for `type`, which its open sets. */
struct backend {
	const struct backend_type *type;
	struct backend_count count[BACKEND_COUNTS_MAX]; /* the wrappers' */
};

/* The types built in: backend/stack.c. NULL if there is none of that name. */
const struct backend_type *backend_type_find(const char *name);

int backend_open(const char *type, const struct backend_conf *conf, struct backend **ret,
		 struct fault *reterr);
/* For `trainfs config`; what was given goes before. -EINVAL: no such type, a wrong option. */
int backend_defaults(const char *type, const json_t *options, json_t **ret, struct fault *reterr);
void backend_close(struct backend *be); /* takes NULL */
void backend_check(struct backend *be, check_sink sink, void *arg);
void backend_numbers(struct backend *be, number_sink sink, void *arg);
int64_t backend_space_used(struct backend *be);
/* What was called so far: copies into `ret`, of which the first with op == NULL is the end. */
void backend_counts(const struct backend *be, struct backend_count ret[static BACKEND_COUNTS_MAX]);

static inline bool backend_has_jobs(const struct backend *be)
{
	return be->type->jobs;
}
static inline bool backend_has_models(const struct backend *be)
{
	return be->type->models;
}
static inline bool backend_has_buckets(const struct backend *be)
{
	return be->type->buckets;
}

int backend_job_list(struct backend *be, const char *cursor, job_sink sink, void *arg, struct job_page *ret,
		     struct fault *reterr);
int backend_job_get(struct backend *be, const char *id, struct job_detail *ret, struct fault *reterr);
int backend_job_check(struct backend *be, const struct job_request *request, struct fault *reterr);
int backend_job_submit(struct backend *be, const struct job_request *request, struct fault *reterr);
int backend_job_cancel(struct backend *be, const char *id, struct fault *reterr);
int backend_job_remove(struct backend *be, const char *id, struct fault *reterr);
bool backend_job_log_is_file(const struct backend *be);
int backend_job_log_file(struct backend *be, const char *id, int *ret_fd, struct fault *reterr);
int backend_job_log_fetch(struct backend *be, const char *id, const char *cursor, log_sink sink, void *arg,
			  struct job_page *ret, struct fault *reterr);
int backend_job_package_dir(struct backend *be, const char *id, int *ret_fd, struct fault *reterr);
bool backend_job_can_watch(const struct backend *be);
int backend_job_watch(struct backend *be, int timeout_ms);
void backend_job_wake(struct backend *be);

int backend_model_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr);
int backend_model_get(struct backend *be, const char *model, struct model_detail *ret, struct fault *reterr);
int backend_model_create(struct backend *be, const char *model, struct fault *reterr);
int backend_model_remove(struct backend *be, const char *model, struct fault *reterr);
int backend_model_check(struct backend *be, const char *model, const char *version, struct fault *reterr);
int backend_model_version_create(struct backend *be, const char *model, const char *version, const char *job,
				 const char *dir, struct fault *reterr);
int backend_model_version_remove(struct backend *be, const char *model, const char *version,
				 struct fault *reterr);
int backend_model_artifacts_dir(struct backend *be, const char *model, const char *version, int *ret_fd,
				struct fault *reterr);
int backend_model_alias_set(struct backend *be, const char *model, const char *alias, const char *version,
			    struct fault *reterr);
int backend_model_alias_remove(struct backend *be, const char *model, const char *alias,
			       struct fault *reterr);

int backend_bucket_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr);
int backend_bucket_create(struct backend *be, const char *bucket, struct fault *reterr);
int backend_bucket_remove(struct backend *be, const char *bucket, struct fault *reterr);
bool backend_bucket_is_dir(const struct backend *be);
const char *backend_bucket_version_name(const struct backend *be);
int backend_bucket_dir(struct backend *be, const char *bucket, int *ret_fd, struct fault *reterr);
int backend_objects(struct backend *be, const char *bucket, const char *prefix, const char *cursor,
		    unsigned max_rows, object_sink sink, void *arg, struct object_page *ret,
		    struct fault *reterr);
/* The first objects below `prefix`, which ends in '/', however deep they lie; *ret_more: there may be others. */
int backend_objects_below(struct backend *be, const char *bucket, const char *prefix, unsigned max_rows,
			  object_sink sink, void *arg, bool *ret_more, struct fault *reterr);
int backend_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		       struct fault *reterr);
int backend_object_read(struct backend *be, const char *bucket, const char *key, const char *version,
			int64_t at, int64_t n, bytes_sink sink, void *arg, struct checksum *sum,
			struct fault *reterr);
int backend_object_checksum(struct backend *be, const char *bucket, const char *key, const char *version,
			    struct checksum *ret, struct fault *reterr);
int backend_object_put_source(struct backend *be, const char *bucket, const char *key,
			      const struct object_source *source, const char *if_version,
			      struct object_upload **upload, struct object_detail *ret, struct fault *reterr);
void backend_object_put_drop(struct backend *be, struct object_upload *upload); /* takes NULL */
/* Of `n` bytes of `fd`, which nobody changes meanwhile; a failure leaves nothing behind. */
int backend_object_put(struct backend *be, const char *bucket, const char *key, int fd, int64_t n,
		       const char *if_version, struct object_detail *ret, struct fault *reterr);
int backend_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
			const char *to_bucket, const char *to_key, const char *if_version,
			struct object_detail *ret, struct fault *reterr);
int backend_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
			  struct fault *reterr);
