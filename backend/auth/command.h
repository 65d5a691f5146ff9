/* SPDX-License-Identifier: MIT */
/* Inside auth/: runs a program that prints a secret. No shell takes part. */
#pragma once

#include "fault.h"
#include "http/http.h"
#include "str.h"

enum { COMMAND_ARGS_MAX = 64, COMMAND_OUTPUT_MAX = 64 << 10, COMMAND_LIMIT_MS = 60000 };

/*
 * Splits as a POSIX shell does, quotes and backslashes included, and expands nothing. New, NULL at the end; each text
 * and the array are the caller's. -EINVAL: nothing, an open quote, too many.
 */
int command_split(const char *text, char ***ret);
void command_free(char **argv); /* takes NULL; wipes */

/*
 * Runs argv[0] (looked up on PATH) with no input and its errors thrown away; its output goes to `ret`, for
 * secret_release_str. Its whole process group is killed when it takes longer than limit_ms, writes too much, or
 * `cancel` (may be NULL) is set. -ENOENT and others: it could not be started. -ECHILD: it failed, *ret_exit says how
 * (128+N: by a signal). -ETIMEDOUT, -EFBIG, -EINTR.
 */
int command_run(char *const *argv, int limit_ms, const struct http_cancel *cancel, struct str *ret,
		int *ret_exit);
