/* SPDX-License-Identifier: MIT */
/* A remote of type `google`: one instance of the backend. */
#pragma once

#include "auth/auth.h"
#include "backend.h"
#include "cleanup.h"
#include "google/address.h"
#include "google/errors.h"

#include <assert.h>

extern const struct backend_type google_type;
extern const struct bucket_ops google_bucket_ops; /* buckets.c */

/* Immutable after open. */
struct google {
	struct backend base;
	struct http *http;
	struct http_client *client;
	struct google_credentials *credentials;
	char *bucket, *region; /* of the options; NULL */
	char *storage;         /* the base URL of Cloud Storage */
};

static inline struct google *google_of(struct backend *be)
{
	assert(be->type == &google_type);
	return (struct google *)be;
}

/* ---- calls of Cloud Storage (call.c) ---- */

struct google_call {
	struct google *google;
	struct str url; /* by address.h and url_add_query; what failed there is told by google_call_perform */
	struct http_headers headers; /* by google_call_header */
	struct http_request request; /* method, body, sink, limits; the rest is filled in */
	bool is_elsewhere;           /* no credentials go there */
	int err;                     /* 0 or what failed in the making */
};

/* Of that method, for a service that takes repetition. */
void google_call_init(struct google_call *call, struct google *google, const char *method);
void google_call_release(struct google_call *call);
#define cleanup_call __attribute__((cleanup(google_call_release)))

/* Where it goes: one of these, before any query. */
void google_call_bucket(struct google_call *call, const char *bucket /* NULL: all */);
void google_call_object(struct google_call *call, const char *bucket, const char *key /* NULL: all */);
void google_call_upload(struct google_call *call, const char *bucket);
void google_call_rewrite(struct google_call *call, const char *bucket, const char *key, const char *to_bucket,
			 const char *to_key);

/* `value` NULL: nothing is added. */
void google_call_query(struct google_call *call, const char *name, const char *value);
void google_call_query_int(struct google_call *call, const char *name, int64_t value);
void google_call_header(struct google_call *call, const char *name, const char *value);
/* ifGenerationMatch as `if_version` of backend.h says. */
void google_call_condition(struct google_call *call, const char *if_version);
/* What is sent; borrowed. */
void google_call_body(struct google_call *call, const char *type, const void *body, size_t n);

/* As http_perform. `what` is for the sentence if there is no such name. */
int google_call_perform(struct google_call *call, const char *what, struct http_reply *ret,
			struct fault *reterr);

/* ---- objects (objects.c) ---- */

/* The fields of an object that the tree knows. */
#define GOOGLE_OBJECT_FIELDS "size,generation,timeCreated,updated,crc32c,contentType,storageClass,metadata"

/* `crc32c`: of the whole object, "" when not told. */
int google_look(struct google *google, const char *bucket, const char *key, struct object_detail *ret,
		char crc32c[static GOOGLE_CRC_MAX], struct fault *reterr);

/* Is it, with these bytes, what is there now? Then *ret is filled. */
bool google_is_done(struct google *google, const char *bucket, const char *key, int64_t n, const char *crc32c,
		    struct object_detail *ret);

/* -ESTALE of a change that depends on `if_version`, as backend.h has it; else `r`. */
int google_conditional(int r, const char *key, const char *if_version, struct fault *reterr);

/* The object that an upload's last answer tells of, compared with what was sent. */
int google_put_answer(const struct http_reply *reply, const char *key, int64_t n, const char *crc32c,
		      struct object_detail *ret, struct fault *reterr);

/* The operations of backend.h. */
int google_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		      struct fault *reterr);
int google_object_read(struct backend *be, const char *bucket, const char *key, const char *version,
		       int64_t at, int64_t n, bytes_sink sink, void *arg, struct checksum *sum,
		       struct fault *reterr);
int google_object_put(struct backend *be, const char *bucket, const char *key,
		      const struct object_source *source, const char *if_version,
		      struct object_upload **upload, struct object_detail *ret, struct fault *reterr);
void google_object_put_drop(struct backend *be, struct object_upload *upload);
int google_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
		       const char *to_bucket, const char *to_key, const char *if_version,
		       struct object_detail *ret, struct fault *reterr);
int google_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
			 struct fault *reterr);

/* ---- resumable uploads (upload.c) ---- */

/* What is there is sent at once, within these; every chunk but the last has to be a multiple of the unit. */
enum { GOOGLE_CHUNK_UNIT = 256 << 10, GOOGLE_CHUNK_MIN = 16 << 20, GOOGLE_CHUNK_MAX = 64 << 20 };

/* As object_put. */
int google_upload(struct google *google, const char *bucket, const char *key,
		  const struct object_source *source, const char *if_version, struct object_upload **upload,
		  struct object_detail *ret, struct fault *reterr);

/* Begins an upload and ends it: is writing allowed? */
int google_upload_try(struct google *google, const char *bucket, const char *key, struct fault *reterr);
