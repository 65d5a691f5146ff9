/* SPDX-License-Identifier: MIT */
/* What the files of mem/ share: its state, and the rules that make it misbehave. */
#pragma once

#include "backend.h"
#include "str.h"

#include <pthread.h>
#include <string.h>

enum mem_op {
	MEM_LIST,
	MEM_GET,
	MEM_CHECK,
	MEM_SUBMIT,
	MEM_CANCEL,
	MEM_REMOVE,
	MEM_LOG,
	MEM_PACKAGE,
	MEM_MODEL_LIST,
	MEM_MODEL_GET,
	MEM_MODEL_CREATE,
	MEM_MODEL_REMOVE,
	MEM_MODEL_CHECK,
	MEM_VERSION_CREATE,
	MEM_VERSION_REMOVE,
	MEM_ARTIFACTS,
	MEM_ALIAS_SET,
	MEM_ALIAS_REMOVE,
	MEM_BUCKET_LIST,
	MEM_BUCKET_CREATE,
	MEM_BUCKET_REMOVE,
	MEM_BUCKET_DIR,
	MEM_OBJECTS,
	MEM_OBJECT_GET,
	MEM_OBJECT_READ,
	MEM_OBJECT_CHECKSUM,
	MEM_OBJECT_PUT,
	MEM_OBJECT_PART,
	MEM_OBJECT_COPY,
	MEM_OBJECT_REMOVE,
	MEM_OP_MAX
};

/* How an operation misbehaves; all zero: it does not. */
struct mem_rule {
	int delay_ms;
	int hang_ms;
	int fail_errno;
	unsigned fail_every;
	unsigned fail_first;
	int lose_errno;
	bool is_repeating;
};

struct mem_job {
	struct mem_job *next; /* in the order they came */
	char *id, *model;     /* immutable */
	char *spec, *git, *resumed_from;
	char *why;
	char *version; /* "MODEL/VERSION" */
	struct str log;
	enum job_state state;
	int64_t created_ns, started_ns, ended_ns, changed_ns;
	int exit;
	bool has_package, is_gone;
	uint64_t changed; /* the number of its last change: what cursors count */
	struct job_event *event;
	size_t n_events;
};

struct mem_model {
	struct mem_model *next;
	char *name;
	struct model_detail detail; /* its arrays sorted by name */
};

/* What a key has: bytes of the file objects.data, or, made by `fill`, the key itself. */
struct mem_object {
	char *key; /* immutable */
	uint64_t version;
	int64_t at, size_bytes; /* at -1: filled */
	int64_t damage;         /* 1 is the first byte; 0: none */
	int64_t changed_ns;
};

struct mem_bucket {
	struct mem_bucket *next;
	char *name;                /* immutable */
	struct mem_object *object; /* sorted by key */
	size_t n_objects, capacity;
};

struct mem {
	struct backend base;

	/* immutable after open */
	struct backend_type type; /* this instance's own: options take capabilities away */
	struct job_ops job_ops;
	char *control_path; /* NULL: none */
	char *name;
	int state_fd;
	int objects_fd, data_fd; /* objects.log, objects.data; -1: buckets are directories */
	int max_block_ms;
	size_t page_rows, page_bytes, object_rows;
	bool is_auto;

	/* taken in this order */
	pthread_mutex_t control_lock;
	/* protected by control_lock */
	struct timespec control_mtime;
	off_t control_size;
	ino_t control_ino;
	char **done; /* job commands of the control file that were carried out */
	size_t n_done;

	pthread_mutex_t
		submit_lock; /* held over the copying of a package, and the writing of accepted.jsonl */
	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t changed; /* something below is new */
	struct mem_rule rule[MEM_OP_MAX];
	unsigned n_calls[MEM_OP_MAX];
	struct mem_job *job, **job_end;
	struct mem_model *model;
	struct mem_bucket *bucket;
	uint64_t n_versions; /* of objects */
	int64_t data_size;   /* of objects.data */
	uint64_t epoch;      /* part of every cursor */
	uint64_t n_changes;  /* of jobs */
	uint64_t n_events;   /* of anything that watch tells */
	uint64_t n_seen;     /* n_events when watch last returned */
	uint64_t n_wakes;
	bool is_woken; /* the next watch returns at once */
};

struct mem *mem_of(struct backend *be); /* checked downcast */

/* A copy of a text that may be missing; false: no memory. */
static inline bool mem_copy_text(const char *text, char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return !text || *ret;
}

/* ---- misbehaving: fault.c ---- */

/* At the beginning of every operation: waits and fails as the rules say. Takes no lock with it. */
int mem_enter(struct mem *mem, enum mem_op op, struct fault *reterr);
/* At its end: `r`, or a reply that got lost. */
int mem_leave(struct mem *mem, enum mem_op op, int r, struct fault *reterr);
/* Reads the control file if it has changed. Takes the lock. */
void mem_control_poll(struct mem *mem);
/* \n, \t, \\ in place; adds a newline unless \c says no. `text` has room for one byte more. */
void mem_unescape(char *text);
int mem_op_find(const char *name); /* -EINVAL; MEM_OP_MAX stands for all */

/* ---- jobs: jobs.c ---- */
extern const struct job_ops mem_job_ops;
struct mem_job *mem_job_find_locked(struct mem *mem, const char *id); /* NULL: none, or gone */
int mem_no_job(const struct mem *mem, const char *id, struct fault *reterr);
/* A change that somebody watches. */
void mem_touch_locked(struct mem *mem);
int mem_jobs_load(struct mem *mem, struct fault *reterr);
void mem_jobs_release(struct mem *mem);
/* The commands of the control language. */
int mem_job_drive(struct mem *mem, const char *id, enum job_state state, int exit, struct fault *reterr);
int mem_job_log(struct mem *mem, const char *id, const char *text, struct fault *reterr);
int mem_job_why(struct mem *mem, const char *id, const char *text, struct fault *reterr);
int mem_job_remove(struct mem *mem, const char *id, struct fault *reterr);

/* ---- telling of jobs: tell.c ---- */
int mem_list_jobs(struct backend *be, const char *cursor, job_sink sink, void *arg, struct job_page *ret,
		  struct fault *reterr);
int mem_log_fetch(struct backend *be, const char *id, const char *cursor, log_sink sink, void *arg,
		  struct job_page *ret, struct fault *reterr);
int mem_watch(struct backend *be, int timeout_ms);
void mem_wake(struct backend *be);

/* ---- models: models.c, buckets: buckets.c ---- */
extern const struct model_ops mem_model_ops;
void mem_models_release(struct mem *mem);
extern const struct bucket_ops mem_bucket_ops;
/* -ENOENT, with its sentence. */
int mem_bucket_check(const struct mem *mem, const char *bucket, struct fault *reterr);

/* ---- buckets of objects: objects.c, object_log.c ---- */
extern const struct bucket_ops mem_object_ops;
int mem_objects(struct backend *be, const char *bucket, const char *prefix, bool is_deep, const char *cursor,
		unsigned max_rows, object_sink sink, void *arg, struct object_page *ret,
		struct fault *reterr);
int mem_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		   struct fault *reterr);
int mem_object_read(struct backend *be, const char *bucket, const char *key, const char *version, int64_t at,
		    int64_t n, bytes_sink sink, void *arg, struct checksum *sum, struct fault *reterr);
int mem_object_checksum(struct backend *be, const char *bucket, const char *key, const char *version,
			struct checksum *ret, struct fault *reterr);
int mem_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
		    const char *to_bucket, const char *to_key, const char *if_version,
		    struct object_detail *ret, struct fault *reterr);
int mem_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
		      struct fault *reterr);
/* Room for n bytes in objects.data. */
int64_t mem_object_reserve(struct mem *mem, int64_t n);
/* The bytes lie at `at`: from now on they are the key's, if `if_version` allows. */
int mem_object_commit(struct mem *mem, const char *bucket, const char *key, int64_t at, int64_t n,
		      const char *if_version, struct object_detail *ret, struct fault *reterr);
/* -ENOTEMPTY if it has objects. */
int mem_bucket_is_empty(struct mem *mem, const char *bucket, struct fault *reterr);
/* "BUCKET VERB KEY [TEXT]", of the control language. */
int mem_object_command(struct mem *mem, char **word, const char *text, struct fault *reterr);

/* ---- puts: put.c ---- */

enum { MEM_PART_BYTES = 8 << 20 };
int mem_object_put(struct backend *be, const char *bucket, const char *key,
		   const struct object_source *source, const char *if_version, struct object_upload **upload,
		   struct object_detail *ret, struct fault *reterr);
void mem_object_put_drop(struct backend *be, struct object_upload *upload);

/* The index; a key is there once. The struct may move at the next change. */
struct mem_object *mem_object_find_locked(struct mem *mem, const char *bucket, const char *key);
int mem_object_set_locked(struct mem *mem, const char *bucket, const struct mem_object *object);
void mem_object_drop_locked(struct mem *mem, const char *bucket, const char *key);
/* Where the key is, or would be. */
size_t mem_object_place(const struct mem_bucket *bucket, const char *key);
struct mem_bucket *mem_bucket_find_locked(struct mem *mem, const char *bucket); /* NULL: it never had one */

/* The log, from which they come back: room for n bytes in objects.data, then the record that makes them the key's. */
int mem_log_open(struct mem *mem, struct fault *reterr);
int64_t mem_log_reserve_locked(struct mem *mem, int64_t n);
int mem_log_put_locked(struct mem *mem, const char *bucket, const struct mem_object *object);
int mem_log_remove_locked(struct mem *mem, const char *bucket, const char *key);
void mem_objects_release(struct mem *mem);
