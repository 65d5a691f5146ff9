/* SPDX-License-Identifier: MIT */
/* Names and texts of users made fit for a sentence: no control bytes, valid UTF-8, never long. */
#pragma once

#include <stddef.h>

enum { QUOTE_MAX = 160 };

/*
 * `n` bytes of `text` into `ret`: control bytes and what is not UTF-8 become \xHH (tab, newline and backslash
 * \t \n \\); what does not fit is cut and ends in "...". Returns `ret`.
 */
char *quote_bytes(const char *text, size_t n, char ret[static QUOTE_MAX]);
char *quote(const char *text, char ret[static QUOTE_MAX]);

/* Length of the UTF-8 character at `s` (1 to 4), or 0 if there is none: overlong, surrogate, cut off. */
size_t quote_utf8_length(const unsigned char *s, size_t n);
