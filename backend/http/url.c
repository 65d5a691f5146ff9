/* SPDX-License-Identifier: MIT */
/* Encoding without a choice: what a signature stands for must be what is sent, byte for byte. */
#include "http/url.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static bool is_alnum(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_unreserved(unsigned char c)
{
	return is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

int url_encode(struct str *s, const char *text, bool keep_slash)
{
	while (*text) {
		size_t n = 0;
		while (is_unreserved((unsigned char)text[n]) || (keep_slash && text[n] == '/'))
			n++;
		str_append_n(s, text, n);
		text += n;
		if (*text)
			str_printf(s, "%%%02X", (unsigned char)*text++);
	}
	return s->err;
}

int url_add_query(struct str *url, const char *name, const char *value)
{
	if (!value)
		return url->err;
	str_append(url, url->data && strchr(url->data, '?') ? "&" : "?");
	url_encode(url, name, false);
	str_append(url, "=");
	return url_encode(url, value, false);
}

/* A scheme begins with a letter; the rest of what RFC 3986 allows there as well. */
static int scheme_length(const char *text)
{
	int n = 0;

	while (is_alnum((unsigned char)text[n]) || (n > 0 && text[n] && strchr("+-.", text[n])))
		n++;
	return n > 0 && (*text < '0' || *text > '9') ? n : 0;
}

static bool is_port(const char *text, int n)
{
	int port = 0;

	if (n < 1 || n > 5)
		return false;
	for (int i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		port = port * 10 + (text[i] - '0');
	}
	return port > 0 && port <= 65535;
}

/* NAME, NAME:PORT, [ADDRESS] or [ADDRESS]:PORT; no user in front. */
static bool is_host(const char *text, int n)
{
	int i = 0;

	if (n > 0 && text[0] == '[') {
		const char *end = memchr(text, ']', (size_t)n);
		i = end ? (int)(end - text) + 1 : 0;
		if (i < 4 || (int)strspn(text + 1, "0123456789abcdefABCDEF:.") != i - 2)
			return false;
	} else {
		while (i < n && is_unreserved((unsigned char)text[i]))
			i++;
		if (i == 0)
			return false;
	}
	return i == n || (text[i] == ':' && is_port(text + i + 1, n - i - 1));
}

/* What may stand in a request line as it is. */
static bool is_printable(const char *text)
{
	for (; *text; text++) {
		if (*text <= 0x20 || *text >= 0x7F || *text == '#')
			return false;
	}
	return true;
}

int url_parse(const char *text, struct url *ret)
{
	struct url url = {.scheme = text, .n_scheme = scheme_length(text)};

	if (strnlen(text, INT_MAX) == INT_MAX || !is_printable(text))
		return -EINVAL;
	if (url.n_scheme == 0 || strncmp(text + url.n_scheme, "://", 3) != 0)
		return -EINVAL;
	url.host = text + url.n_scheme + 3;
	url.n_host = (int)strcspn(url.host, "/?");
	if (!is_host(url.host, url.n_host))
		return -EINVAL;
	url.path = url.host + url.n_host;
	url.n_path = (int)strcspn(url.path, "?");
	url.query = url.path + url.n_path;
	url.query += *url.query == '?';
	url.n_query = (int)strlen(url.query);
	*ret = url;
	return 0;
}
