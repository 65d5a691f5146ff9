/* SPDX-License-Identifier: MIT */
/*
 * What Cloud Storage answers, as values: pure functions of the bytes. Whatever the bytes are, they end, in bounded
 * memory. What is no such answer is -EIO with a sentence.
 */
#pragma once

#include "backend.h"

enum { GOOGLE_REASON_MAX = 64, GOOGLE_CRC_MAX = 12, GOOGLE_TOKEN_MAX = 1980 };

/* Texts are cut, clean of control characters, "" when not given. */
struct google_error {
	char reason[GOOGLE_REASON_MAX]; /* "notFound", "ACCESS_TOKEN_SCOPE_INSUFFICIENT" */
	char message[400];
};
/* An error document, or the bare sentence that answers with alt=media have. False: the bytes are neither. */
bool google_parse_error(const char *text, size_t n, struct google_error *ret);

/* The list of buckets; `next` is the token of the page that follows, "" when this was the last. */
int google_parse_buckets(const char *json, size_t n, name_sink sink, void *arg,
			 char next[static GOOGLE_TOKEN_MAX + 1], struct fault *reterr);

/*
 * objects.list for that prefix, with delimiter=/ or (is_deep) without; a row that does not lie directly, or at all, below
 * it is -EIO. A key with a NUL in it is left out: it cannot be named in C.
 */
int google_parse_objects(const char *json, size_t n, const char *prefix, bool is_deep, object_sink sink,
			 void *arg, char next[static GOOGLE_TOKEN_MAX + 1], struct fault *reterr);

/* An object's resource. `crc32c`: of its content, "" when not told. */
int google_parse_object(const char *json, size_t n, struct object_detail *ret,
			char crc32c[static GOOGLE_CRC_MAX], struct fault *reterr);

/* The answer to one call of rewriteTo. */
struct google_rewrite {
	bool is_done;
	int64_t n_rewritten;              /* so far */
	char token[GOOGLE_TOKEN_MAX + 1]; /* for the next call, unless is_done */
	struct object_detail object;      /* the caller's, if is_done */
};
int google_parse_rewrite(const char *json, size_t n, struct google_rewrite *ret, struct fault *reterr);

/* How many bytes an upload's session has, of its Range header: "bytes=0-42" is 43, NULL is none. -EINVAL. */
int google_parse_stored(const char *range, int64_t *ret);

/* The CRC32C in an X-Goog-Hash header: "crc32c=AAAAAA==,md5=..."; false: there is none in it. */
bool google_parse_hash(const char *text, char ret[static GOOGLE_CRC_MAX]);
