/* SPDX-License-Identifier: MIT */
/* The copy of a package that a backend keeps, made of exactly the paths that were submitted. */
#pragma once

#include "backend.h"

/*
 * Makes the directory `name` with the files, directories and links that `package` names; -EEXIST if it is there.
 * Modes and times are kept. A failed copy leaves what was made: remove it (tree_remove).
 */
int package_copy(const struct package *package, int dst_dirfd, const char *name, struct fault *reterr);
