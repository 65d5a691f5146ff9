/* SPDX-License-Identifier: MIT */
/* Making URLs (RFC 3986) in the one way that signatures stand. */
#pragma once

#include <stdbool.h>

#include "str.h"

/* Unreserved bytes (A-Z a-z 0-9 - . _ ~) stay, others become %XX in upper case; '/' stays when keep_slash. */
int url_encode(struct str *s, const char *text, bool keep_slash);

/* Adds "?name=value" or "&name=value" to a URL under construction, both encoded; value NULL: nothing is added. */
int url_add_query(struct str *url, const char *name, const char *value);

/* The parts of an absolute URL, borrowed from it. -EINVAL. */
struct url {
	const char *scheme, *host, *path,
		*query; /* host with ":port" when given; path "" when there is none */
	int n_scheme, n_host, n_path, n_query;
};
int url_parse(const char *text, struct url *ret);
