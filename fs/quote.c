/* SPDX-License-Identifier: MIT */
/* What others named, shown in a sentence: escaped and cut, so that a terminal and a TSV reader survive it. */
#include "quote.h"

#include <stdio.h>
#include <string.h>

size_t quote_utf8_length(const unsigned char *s, size_t n)
{
	if (n == 0)
		return 0;
	if (s[0] < 0x80)
		return 1;
	size_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n < len)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if (s[0] == 0xe0 && s[1] < 0xa0)
		return 0;
	if (s[0] == 0xed && s[1] > 0x9f)
		return 0;
	if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

/* One character (or one bad byte) of `s` as it shall be shown; returns how many bytes of `s` it took. */
static size_t quote_one(const unsigned char *s, size_t n, char piece[static 8])
{
	size_t len = quote_utf8_length(s, n);
	int is_c1 = len == 2 && s[0] == 0xc2 && s[1] < 0xa0;
	if (s[0] == '\n' || s[0] == '\t' || s[0] == '\\') {
		snprintf(piece, 8, "\\%c", s[0] == '\n' ? 'n' : s[0] == '\t' ? 't' : '\\');
		return 1;
	}
	if (len == 0 || s[0] < 0x20 || s[0] == 0x7f || is_c1) {
		snprintf(piece, 8, "\\x%02X", s[0]);
		return 1;
	}
	memcpy(piece, s, len);
	piece[len] = '\0';
	return len;
}

char *quote_bytes(const char *text, size_t n, char ret[static QUOTE_MAX])
{
	size_t used = 0;
	for (size_t i = 0; i < n;) {
		char piece[8];
		size_t taken = quote_one((const unsigned char *)text + i, n - i, piece);
		size_t len = strlen(piece);
		if (used + len > QUOTE_MAX - 4) {
			memcpy(ret + used, "...", 3);
			used += 3;
			break;
		}
		memcpy(ret + used, piece, len);
		used += len;
		i += taken;
	}
	ret[used] = '\0';
	return ret;
}

char *quote(const char *text, char ret[static QUOTE_MAX])
{
	return quote_bytes(text, strlen(text), ret);
}
