/* SPDX-License-Identifier: MIT */
/* Which URL a bucket or an object has in Cloud Storage's JSON API. Names are one segment of the path each. */
#pragma once

#include <stdbool.h>

#include "str.h"

/* 3 to 63 of a-z 0-9 - _, or up to 222 with dots, as a new one may be called. */
bool google_is_bucket_name(const char *bucket);

/* "." and ".." are none: on their way they would turn into another path. */
bool google_is_key(const char *key);

/*
 * Each appends to `url`: BASE ("https://storage.googleapis.com", no '/' at its end) and the path. -ENOENT: there can be
 * no such bucket. -EINVAL: nor such a key.
 */
int google_url_bucket(const char *base, const char *bucket /* NULL: all */, struct str *url);
int google_url_object(const char *base, const char *bucket, const char *key /* NULL: all */, struct str *url);
int google_url_upload(const char *base, const char *bucket, struct str *url);
int google_url_rewrite(const char *base, const char *bucket, const char *key, const char *to_bucket,
		       const char *to_key, struct str *url);

/* Does an upload's session go to where the service is (its credentials may go there)? */
bool google_is_same_host(const char *base, const char *url);
/* http(s), and not less protected than the service. */
bool google_is_session_url(const char *base, const char *url);
