/* SPDX-License-Identifier: MIT */
/*
 * Text that nobody may see: owned here, wiped before its memory is given back, never formatted into anything but the
 * request that needs it. What copies libcurl, OpenSSL and jansson make inside is beyond its reach.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "str.h"

/* Zeroed is ready, and holds nothing. */
struct secret_text {
	char *text; /* NUL-terminated; NULL: none */
	size_t n;   /* bytes without the NUL */
};

/* Copies n bytes; what was held before is wiped. -ENOMEM, and then it is unchanged. */
int secret_set(struct secret_text *s, const char *text, size_t n);
/* The member `name` of a JSON object, which is wiped there. -ENOENT: none, no string, or an empty one. -ENOMEM. */
int secret_take_json(struct secret_text *s, json_t *object, const char *name);
/* Takes as long for any two of one length. Two that hold nothing are equal. */
bool secret_is_equal(const struct secret_text *a, const struct secret_text *b);
void secret_release(struct secret_text *s); /* takes NULL; leaves it ready */

/* For a text that a secret was built into: a form, a canonical request, an answer. Both take NULL. */
void secret_release_str(struct str *s);
void secret_free(char *text);

static inline void cleanup_secret_free_(char **text)
{
	secret_free(*text);
}
#define cleanup_secret      __attribute__((cleanup(secret_release)))
#define cleanup_secret_str  __attribute__((cleanup(secret_release_str)))
#define cleanup_secret_free __attribute__((cleanup(cleanup_secret_free_)))
