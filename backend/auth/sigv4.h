/* SPDX-License-Identifier: MIT */
/*
 * AWS Signature Version 4 in its header form. Pure: no clock, no network, no environment.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/http.h"
#include "str.h"

enum { SIGV4_DATE_MAX = 17, SIGV4_HEX_MAX = 65, SIGV4_KEY_SIZE = 32 };

/* What may stand for the hash of a body (S3 only). Not covered by the signature: over TLS only. */
#define SIGV4_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"

/* Signing keys of the last few days, regions and services. May be used by several threads at once. */
struct sigv4_cache;
int sigv4_cache_new(struct sigv4_cache **ret);    /* -ENOMEM */
void sigv4_cache_free(struct sigv4_cache *cache); /* takes NULL */

/* All borrowed for the call. */
struct sigv4_request {
	const char *method;
	/* As sent: paths and query encoded by url_encode, for the signature stands on these bytes. */
	const char *url;
	/* May be NULL. All are signed but those that a proxy changes; none of the four that signing adds. */
	const struct http_headers *headers;
	const char *payload; /* SHA-256 of the body in hex, or a token such as SIGV4_UNSIGNED_PAYLOAD */

	const char *service, *region; /* of the scope: "s3", "us-east-1" */
	const char *key_id, *secret;
	const char *token;   /* of temporary keys; NULL */
	uint64_t generation; /* another one whenever the keys are others: what the cache knows them by */
};

/*
 * Adds X-Amz-Date, X-Amz-Security-Token (with a token), x-amz-content-sha256 (S3) and Authorization to `ret`.
 * S3 signs the path as it is sent, the others a path without dot segments that is encoded once more.
 * `cache` may be NULL. -EINVAL: no absolute URL. -ENOMEM. -EFBIG: too many headers.
 */
int sigv4_sign(struct sigv4_cache *cache, const struct sigv4_request *request, int64_t now_ns,
	       struct http_headers *ret);

/* Is `service` one of those whose paths are encoded once and whose payload hash is a header? */
bool sigv4_is_s3(const char *service);

/* ---- its steps, for tests and for whoever asks why a signature is refused ---- */

/* "20130524T000000Z" */
void sigv4_date(int64_t now_ns, char ret[static SIGV4_DATE_MAX]);
void sigv4_hash(const void *bytes, size_t n, char ret[static SIGV4_HEX_MAX]);
/* n bytes of a file from `at` on. -EIO: it is shorter. -errno of pread. */
int sigv4_hash_fd(int fd, int64_t at, int64_t n, char ret[static SIGV4_HEX_MAX]);
/* `date`: its first 8 bytes count. -ENOMEM: OpenSSL failed. */
int sigv4_key(const char *secret, const char *date, const char *region, const char *service,
	      unsigned char ret[static SIGV4_KEY_SIZE]);
/* HMAC-SHA-256 in hex. -ENOMEM: OpenSSL failed. */
int sigv4_hmac_hex(const unsigned char key[static SIGV4_KEY_SIZE], const char *text, size_t n,
		   char ret[static SIGV4_HEX_MAX]);
/* The canonical request, and the names that are signed, joined by ';'. It holds the session token. */
int sigv4_canonical(const struct sigv4_request *request, const char *date, struct str *ret,
		    struct str *ret_names);
