/* SPDX-License-Identifier: MIT */
/* Headers as a list of names and values, and the two whose values are times. */
#include "http/engine.h"

#include "cleanup.h"
#include "clock.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static bool is_token_byte(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!is_token_byte(text[i]))
			return false;
	}
	return n > 0;
}

static int headers_append(struct http_headers *headers, const char *name, size_t n_name, const char *value,
			  size_t n_value)
{
	if (!is_token(name, n_name) || memchr(value, '\r', n_value) || memchr(value, '\n', n_value) ||
	    memchr(value, '\0', n_value))
		return -EINVAL;
	if (headers->n >= HTTP_N_HEADERS_MAX)
		return -EFBIG;
	struct http_header *grown = reallocarray(headers->header, headers->n + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	headers->header = grown;
	cleanup_free char *own_name = strndup(name, n_name);
	cleanup_free char *own_value = strndup(value, n_value);
	if (!own_name || !own_value)
		return -ENOMEM;
	grown[headers->n++] = (struct http_header){.name = STEAL(own_name), .value = STEAL(own_value)};
	return 0;
}

int http_headers_add(struct http_headers *headers, const char *name, const char *value)
{
	return headers_append(headers, name, strlen(name), value, strlen(value));
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int http_headers_add_line(struct http_headers *headers, const char *line, size_t n)
{
	const char *colon = memchr(line, ':', n);
	if (!colon)
		return 0;
	const char *value = colon + 1, *end = line + n;
	while (value < end && is_blank(*value))
		value++;
	while (end > value && is_blank(end[-1]))
		end--;
	int r = headers_append(headers, line, (size_t)(colon - line), value, (size_t)(end - value));
	return r == -EINVAL ? 0 : r;
}

const char *http_headers_get(const struct http_headers *headers, const char *name)
{
	for (size_t i = 0; i < headers->n; i++) {
		if (strcasecmp(headers->header[i].name, name) == 0)
			return headers->header[i].value;
	}
	return NULL;
}

void http_headers_release(struct http_headers *headers)
{
	if (!headers)
		return;
	for (size_t i = 0; i < headers->n; i++) {
		explicit_bzero(headers->header[i].value, strlen(headers->header[i].value));
		free(headers->header[i].value);
		free(headers->header[i].name);
	}
	free(headers->header);
	*headers = (struct http_headers){0};
}

void http_reply_release(struct http_reply *reply)
{
	if (!reply)
		return;
	http_headers_release(&reply->headers);
	str_release(&reply->body);
	*reply = (struct http_reply){0};
}

/* curl knows all three forms of a date, and far too many more: what is no date by its looks is none. */
int http_date_parse(const char *text, int64_t *ret_wall_ns)
{
	const int64_t ns_per_s = 1000000000;
	size_t n = strlen(text);

	if (n < 24 || n > 40 || text[0] < 'A' || text[0] > 'Z')
		return -EINVAL;
	time_t seconds = curl_getdate(text, NULL);
	if (seconds <= 0 || seconds > INT64_MAX / ns_per_s)
		return -EINVAL;
	*ret_wall_ns = (int64_t)seconds * ns_per_s;
	return 0;
}

int64_t http_headers_time(const struct http_headers *headers, const char *name)
{
	const char *text = http_headers_get(headers, name);
	int64_t ns;
	return text && http_date_parse(text, &ns) == 0 ? ns : 0;
}

int64_t http_retry_after_ms(const struct http_headers *headers, int64_t now_ns)
{
	const char *text = http_headers_get(headers, "Retry-After");
	int64_t theirs_ns = http_headers_time(headers, "Date"), seconds, until_ns;

	if (!text)
		return 0;
	if (str_to_int(text, 0, INT64_MAX / 1000, &seconds) == 0)
		return seconds * 1000;
	if (http_date_parse(text, &until_ns) < 0)
		return 0;
	if (theirs_ns)
		now_ns = theirs_ns;
	return until_ns > now_ns ? (until_ns - now_ns) / 1000000 : 0;
}
