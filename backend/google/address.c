/* SPDX-License-Identifier: MIT */
/* https://cloud.google.com/storage/docs/request-endpoints, https://cloud.google.com/storage/docs/buckets#naming */
#include "google/address.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http/url.h"

enum { NAME_MIN = 3, NAME_MAX_BARE = 63, NAME_MAX_DOTTED = 222 };

static bool is_lower_alnum(char c)
{
	return islower((unsigned char)c) || isdigit((unsigned char)c);
}

bool google_is_bucket_name(const char *bucket)
{
	size_t n = strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-_.");
	size_t max = strchr(bucket, '.') ? NAME_MAX_DOTTED : NAME_MAX_BARE;
	return !bucket[n] && n >= NAME_MIN && n <= max && is_lower_alnum(bucket[0]) &&
	       is_lower_alnum(bucket[n - 1]) && !strstr(bucket, "..");
}

bool google_is_key(const char *key)
{
	return *key && strcmp(key, ".") != 0 && strcmp(key, "..") != 0;
}

/* "/b/BUCKET/o/KEY" */
static int place(struct str *url, const char *bucket, const char *key)
{
	if (!google_is_bucket_name(bucket))
		return -ENOENT;
	if (!google_is_key(key))
		return -EINVAL;
	str_printf(url, "/b/%s/o/", bucket);
	return url_encode(url, key, false);
}

int google_url_bucket(const char *base, const char *bucket, struct str *url)
{
	if (bucket && !google_is_bucket_name(bucket))
		return -ENOENT;
	str_printf(url, "%s/storage/v1/b", base);
	if (bucket)
		str_printf(url, "/%s", bucket);
	return url->err;
}

int google_url_object(const char *base, const char *bucket, const char *key, struct str *url)
{
	if (!key) {
		int r = google_url_bucket(base, bucket, url);
		return r < 0 ? r : str_append(url, "/o");
	}
	str_printf(url, "%s/storage/v1", base);
	return place(url, bucket, key);
}

int google_url_upload(const char *base, const char *bucket, struct str *url)
{
	if (!google_is_bucket_name(bucket))
		return -ENOENT;
	return str_printf(url, "%s/upload/storage/v1/b/%s/o", base, bucket);
}

int google_url_rewrite(const char *base, const char *bucket, const char *key, const char *to_bucket,
		       const char *to_key, struct str *url)
{
	int r = google_url_object(base, bucket, key, url);
	if (r < 0)
		return r;
	str_append(url, "/rewriteTo");
	return place(url, to_bucket, to_key);
}

static bool is_part(const char *a, int n_a, const char *b, int n_b)
{
	return n_a == n_b && strncasecmp(a, b, (size_t)n_a) == 0;
}

bool google_is_same_host(const char *base, const char *url)
{
	struct url a, b;
	return url_parse(base, &a) == 0 && url_parse(url, &b) == 0 &&
	       is_part(a.scheme, a.n_scheme, b.scheme, b.n_scheme) &&
	       is_part(a.host, a.n_host, b.host, b.n_host);
}

bool google_is_session_url(const char *base, const char *url)
{
	struct url parts;
	if (url_parse(url, &parts) < 0)
		return false;
	return is_part(parts.scheme, parts.n_scheme, "https", 5) || google_is_same_host(base, url);
}
