/* SPDX-License-Identifier: MIT */
/* The two styles of addressing: the bucket in the host, or in the path. */
#include "aws/address.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "http/url.h"

enum { BUCKET_NAME_MIN = 3, BUCKET_NAME_MAX = 63, BUCKET_OLD_NAME_MAX = 255, REGION_NAME_MAX = 40 };

static bool aws_is_label(const char *text, const char *more, size_t min, size_t max)
{
	size_t n = 0;
	for (; text[n] && n <= max; n++) {
		if (!islower((unsigned char)text[n]) && !isdigit((unsigned char)text[n]) &&
		    !strchr(more, text[n]))
			return false;
	}
	return n >= min && n <= max && isalnum((unsigned char)text[0]) && isalnum((unsigned char)text[n - 1]);
}

bool aws_is_bucket_name(const char *bucket)
{
	return aws_is_label(bucket, ".-", BUCKET_NAME_MIN, BUCKET_NAME_MAX) && !strstr(bucket, "..");
}

/* Names that us-east-1 once took are addressed by path. */
static bool aws_is_old_bucket_name(const char *bucket)
{
	size_t n = strspn(bucket, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
	return !bucket[n] && n >= BUCKET_NAME_MIN && n <= BUCKET_OLD_NAME_MAX && *bucket != '.';
}

bool aws_is_region(const char *region)
{
	return aws_is_label(region, "-", 1, REGION_NAME_MAX);
}

int aws_url(const struct aws_place *place, const char *bucket, const char *key, struct str *url)
{
	static const char https[] = "https://";
	if (bucket && !aws_is_old_bucket_name(bucket))
		return -EINVAL;
	bool is_host = bucket && !place->is_own && str_has_prefix(place->base, https) &&
		       !strchr(bucket, '.') && aws_is_bucket_name(bucket);
	if (is_host)
		str_printf(url, "%s%s.%s/", https, bucket, place->base + strlen(https));
	else
		str_printf(url, "%s/%s%s", place->base, bucket ? bucket : "", key ? "/" : "");
	return key ? url_encode(url, key, true) : url->err;
}

int aws_copy_source(const char *bucket, const char *key, struct str *s)
{
	str_printf(s, "/%s/", bucket);
	return url_encode(s, key, true);
}
