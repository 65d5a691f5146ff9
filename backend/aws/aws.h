/* SPDX-License-Identifier: MIT */
/* A remote of type `aws`: one instance of the backend. */
#pragma once

#include "auth/auth.h"
#include "aws/address.h"
#include "aws/errors.h"
#include "backend.h"
#include "cleanup.h"

#include <assert.h>

extern const struct backend_type aws_type;
extern const struct bucket_ops aws_bucket_ops; /* buckets.c */

struct aws {
	struct backend base;

	/* immutable after open */
	struct http *http;
	struct http_client *client;
	struct aws_credentials *credentials;
	char *bucket; /* of the options; NULL */
	char *role;
	char *state_dir;

	pthread_mutex_t lock;
	/* protected by lock */
	char *region;     /* of the remote; NULL: not asked for yet */
	json_t *regions;  /* bucket -> region, where that is another one */
	json_t *places;   /* region -> [base URL, is it somebody's own] */
	int64_t sweep_ms; /* of clock_mono_ms: when to look for what is left behind again */
};

static inline struct aws *aws_of(struct backend *be)
{
	assert(be->type == &aws_type);
	return (struct aws *)be;
}

/* Where a bucket is (NULL: the remote itself): its region, and the place's base URL; both the caller's. */
int aws_locate(struct aws *aws, const char *bucket, char **ret_region, char **ret_base, bool *ret_is_own,
	       struct fault *reterr);
/* The service has said where it is. -ENOMEM. */
int aws_remember(struct aws *aws, const char *bucket, const char *region);

/* ---- calls of S3 (call.c) ---- */

struct aws_call {
	const char *bucket, *key; /* borrowed; NULL: of the service, of the bucket */
	struct str query;         /* by url_add_query */
	struct http_headers
		headers; /* by http_headers_add; their error is sticky in `err` through aws_call_header */
	struct http_request request; /* method, body, sink, limits; the rest is filled in */
	int err;
};

/* Of that method, for a service that takes repetition. */
void aws_call_init(struct aws_call *call, const char *method, const char *bucket, const char *key);
void aws_call_release(struct aws_call *call);
#define cleanup_call __attribute__((cleanup(aws_call_release)))

/* Each may fail: aws_call_perform tells. `value` NULL: nothing is added. */
void aws_call_query(struct aws_call *call, const char *name, const char *value);
void aws_call_header(struct aws_call *call, const char *name, const char *value);
/* If-Match or If-None-Match as `if_version` of backend.h says. */
void aws_call_condition(struct aws_call *call, const char *if_version);

/* Sends it to where the bucket is, and on to where S3 says that it is. As http_perform. */
int aws_call_perform(struct aws *aws, struct aws_call *call, struct http_reply *ret, struct fault *reterr);

/* The error document of an answer, zeroed if there is none. */
void aws_reply_error(const struct http_reply *reply, struct aws_error *ret);
bool aws_reply_is(const struct http_reply *reply, const char *code);

/* ---- objects (objects.c) ---- */

enum { AWS_CRC_MAX = 64 };

/* The answer to HEAD; with the sum of the object, which of an encrypted one takes the right to decrypt it. */
int aws_head_headers(struct aws *aws, const char *bucket, const char *key, bool with_sum,
		     struct http_reply *ret, struct fault *reterr);

/* HEAD; `crc32c` (may be NULL): of the whole object, as text; "" when not told. */
int aws_head(struct aws *aws, const char *bucket, const char *key, struct object_detail *ret,
	     char *crc32c /* [AWS_CRC_MAX] */, struct fault *reterr);

/* Fills `ret` with what was just made. */
int aws_made_detail(const char *version, int64_t size_bytes, int64_t changed_ns, struct object_detail *ret,
		    struct fault *reterr);

/*
 * What a change came to that depends on `if_version`: -EEXIST or -ESTALE with a sentence, where `r` and the answer mean
 * that something else is there; else `r`.
 */
int aws_conditional(int r, const struct http_reply *reply, const char *key, const char *if_version,
		    struct fault *reterr);

/*
 * What can be known of `if_version` before a change that takes long, or that some services make whatever the condition:
 * copies, uploads in parts. The condition goes along all the same. Errors as aws_conditional.
 */
int aws_check_target(struct aws *aws, const char *bucket, const char *key, const char *if_version,
		     struct fault *reterr);

/* How long a copy or the end of an upload may be silent: S3 sends spaces meanwhile, gateways do not. */
enum { AWS_WORK_MS = 5 * 60 * 1000 };

/* The operations of backend.h. */
int aws_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		   struct fault *reterr);
int aws_object_read(struct backend *be, const char *bucket, const char *key, const char *version, int64_t at,
		    int64_t n, bytes_sink sink, void *arg, struct checksum *sum, struct fault *reterr);
int aws_object_checksum(struct backend *be, const char *bucket, const char *key, const char *version,
			struct checksum *ret, struct fault *reterr);
int aws_object_put(struct backend *be, const char *bucket, const char *key,
		   const struct object_source *source, const char *if_version, struct object_upload **upload,
		   struct object_detail *ret, struct fault *reterr);
void aws_object_put_drop(struct backend *be, struct object_upload *upload);
int aws_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
		    const char *to_bucket, const char *to_key, const char *if_version,
		    struct object_detail *ret, struct fault *reterr);
int aws_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
		      struct fault *reterr);

/* ---- uploads in parts (upload.c, complete.c) ---- */

enum {
	AWS_PART_MIN = 8 << 20, /* what has less is sent in one piece */
	AWS_PARTS_MAX = 10000,
	AWS_PARTS_STEP = 1000, /* so many have the same size, the next twice that */
	AWS_PARTS_AT_ONCE = 8,
};

/*
 * Where part `i` begins, and the one before it ends, if the first has `least` bytes. How much will come need not be
 * known: with 8 MiB, 10,000 parts hold 7.8 TiB, and none more than S3's 5 GiB.
 */
int64_t aws_part_at(unsigned i, int64_t least);

/* Begins one, with `more` (may be NULL) beside what every one has; ends by aws_abort at the latest. Caller frees. */
int aws_upload_create(struct aws *aws, const char *bucket, const char *key, const struct http_headers *more,
		      char **ret_id, struct fault *reterr);

/* As object_put. */
int aws_upload(struct aws *aws, const char *bucket, const char *key, const struct object_source *source,
	       const char *if_version, struct object_upload **upload, struct object_detail *ret,
	       struct fault *reterr);

/* As object_copy, of an object too big for one call: `source` is what HEAD said of it. */
int aws_upload_copy(struct aws *aws, const char *bucket, const char *key, const struct object_detail *source,
		    const char *to_bucket, const char *to_key, const char *if_version,
		    struct object_detail *ret, struct fault *reterr);

/* ---- uploads that nobody ended, and that are billed (leftover.c) ---- */

/*
 * Notes an upload in the state directory before it gets its first byte. The note is this process's while *ret_fd is
 * open; after a crash, or an abort that failed, it is anybody's. -errno of the state directory.
 */
int aws_leftover_note(struct aws *aws, const char *bucket, const char *key, const char *upload_id,
		      int *ret_fd, char **ret_name, struct fault *reterr);
/* The upload has ended. */
void aws_leftover_forget(struct aws *aws, const char *name);
/* Aborts what is noted and nobody's, now and then. What cannot be reached waits for the next time. */
void aws_leftover_sweep(struct aws *aws);

/* Ends it at the service, with all its parts; 0 as well when it is not there. */
int aws_abort(struct aws *aws, const char *bucket, const char *key, const char *upload_id,
	      struct fault *reterr);
