/* SPDX-License-Identifier: MIT */
/* What comes from a service or a configuration as text: lines of headers, the times in them, URLs. */
#include "http/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_headers(const char *text, size_t n)
{
	cleanup_http_headers struct http_headers headers = {0};

	for (const char *end = text + n; text < end;) {
		const char *line_end = memchr(text, '\n', (size_t)(end - text));
		size_t n_line = line_end ? (size_t)(line_end - text) + 1 : (size_t)(end - text);
		int r = http_headers_add_line(&headers, text, n_line);
		if (r != 0 && r != -EFBIG)
			abort();
		text += n_line;
	}
	for (size_t i = 0; i < headers.n; i++) {
		if (!*headers.header[i].name || strpbrk(headers.header[i].name, ": \t\r\n") ||
		    strpbrk(headers.header[i].value, "\r\n") ||
		    !http_headers_get(&headers, headers.header[i].name))
			abort();
	}
	if (headers.n > HTTP_N_HEADERS_MAX || http_retry_after_ms(&headers, INT64_C(1795173300000000000)) < 0)
		abort();
}

static void parse_url(const char *text)
{
	struct url url;

	if (url_parse(text, &url) < 0)
		return;
	if (url.n_scheme == 0 || url.n_host == 0 || memchr(url.host, '@', (size_t)url.n_host) ||
	    url.scheme != text || url.query + url.n_query != text + strlen(text) || strpbrk(text, " #\r\n"))
		abort();
}

static void encode(const char *text)
{
	cleanup_str struct str url = {0};

	str_append(&url, "http://h/");
	if (url_encode(&url, text, true) < 0 || url_add_query(&url, text, text) < 0)
		abort();
	struct url parts;
	if (url_parse(url.data, &parts) < 0 || parts.n_host != 1 ||
	    memchr(parts.path, '?', (size_t)parts.n_path))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	int64_t ns = 1;

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	parse_headers(text, size);
	parse_url(text);
	encode(text);
	if (http_date_parse(text, &ns) == 0 && ns <= 0)
		abort();
	free(text);
	return 0;
}
