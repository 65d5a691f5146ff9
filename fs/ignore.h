/* SPDX-License-Identifier: MIT */
/* Which names of a package stay out: the rules of .trainfsignore, the defaults, and what tools make in passing. */
#pragma once

#include "fault.h"

#include <stdbool.h>

enum { IGNORE_SIZE_MAX = 64 << 10, IGNORE_LINES_MAX = 2000 };

struct ignore;

/*
 * The rules for the package whose root is open as `dir_fd`. Only the root's .trainfsignore counts: gitignore syntax,
 * read after the defaults (`.git`, `__pycache__`, `.venv`, `*.pyc`), so that `!x.pyc` takes one back.
 * -EBADMSG when it is no plain file, or over 64 KiB or 2000 lines. One thread at a time for an instance.
 */
int ignore_new(int dir_fd, struct ignore **ret, struct fault *reterr);
void ignore_free(struct ignore *ignore); /* takes NULL */

/* `path` is relative to the root. A directory that is ignored hides what is below; the caller does not descend. */
int ignore_has(struct ignore *ignore, const char *path, bool is_dir, bool *ret);

/*
 * A file that an editor, `sed -i` or rsync makes and renames away: `.*.swp`, `.*.swx`, `4913`, `sedXXXXXX`,
 * `.name.XXXXXX`. The six are letters and digits, not all of them lower-case letters: `.env.docker` is a file.
 */
bool ignore_is_passing_name(const char *name);

/* `prefix` and such a six, as in `sedXXXXXX`; `Customer` is none of `Cu`. */
bool ignore_is_made_up(const char *name, const char *prefix);

/* Starts libgit2 once for this process. 0 or -ENOMEM. */
int ignore_init_git(void);
