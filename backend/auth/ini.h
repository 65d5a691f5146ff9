/* SPDX-License-Identifier: MIT */
/*
 * The INI dialect of the AWS files (and of gcloud's): pure, from bytes to lines.
 * https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
 *
 *   [section]             trailing text after ']' must be a comment
 *   key = value           ':' does as well; keys without case; blanks at the ends are no part
 *   # comment             or ';', at the start of a line only: a secret may hold them
 *   s3 =                  an empty value, then lines indented further than it: one level of nesting
 *     addressing_style = path
 *   key = one             indented further below a value: its next line
 *     two
 *
 * A later line wins over an earlier one of the same name, and sections of one name are one.
 */
#pragma once

#include <stddef.h>

#include "fault.h"

enum { INI_SIZE_MAX = 1 << 20, INI_LINE_MAX = 16 << 10, INI_VALUES_MAX = 10000 };

struct ini_value {
	char *section; /* trimmed; as written: "profile dev" */
	char *key;     /* lower case; "": the section's own line, there even when it holds nothing */
	char *sub;     /* lower case; NULL: not nested */
	char *value;   /* may be a secret; "" */
};

struct ini {
	struct ini_value *value;
	size_t n;
};

/*
 * -EINVAL with the number of the line, never its text: no section header, no key, a NUL, a key before any section.
 * -EFBIG: more than the maxima above. -ENOMEM.
 */
int ini_parse(const char *bytes, size_t n, struct ini *ret, struct fault *reterr);
/* Takes a zeroed one; wipes the values. */
void ini_release(struct ini *ini);
