/* SPDX-License-Identifier: MIT */
/* What the error reasons of Google mean. */
#pragma once

#include "google/parse.h"
#include "http/meaning.h"

/* The http_judge of every call to Google. */
void google_judge(int status, const struct http_headers *headers, const char *body, size_t n,
		  struct http_verdict *ret);
