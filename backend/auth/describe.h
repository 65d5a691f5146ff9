/* SPDX-License-Identifier: MIT */
/* Inside auth/: lines for `trainfs check`. */
#pragma once

#include "auth/auth.h"

enum { DESCRIBE_ID_MAX = 16, DESCRIBE_UNTIL_MAX = 80 };

void describe_line(auth_sink sink, void *arg, bool is_ok, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* A finding that is wrong: the fault's sentence, or what -errno means. */
void describe_failure(int r, const struct fault *fault, auth_sink sink, void *arg);
/* "AKIA...MPLE"; shorter ones become "...". Returns `ret`. */
char *describe_id(const char *id, char ret[static DESCRIBE_ID_MAX]);
/* "good until 2026-11-20T11:15:00.000Z (54 min)", "good for ever". Returns `ret`. */
char *describe_until(int64_t expires_ns, int64_t now_ns, char ret[static DESCRIBE_UNTIL_MAX]);
