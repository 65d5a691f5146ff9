/* SPDX-License-Identifier: MIT */
/* What in a package is to be run (DESIGN 4). */
#pragma once

#include "fault.h"
#include "package.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Does this Python text define `main(dataset_dir, model_output_dir)` at top level? Read as text, nothing is run:
 * strings and comments are skipped, annotations and defaults allowed; of several definitions the last counts.
 */
bool recognise_main(const char *text, size_t n);

/*
 * The entry of a package that names none. -EBADMSG names what was found. `dir_fd` is its root.
 */
int recognise_entry(int dir_fd, const struct package_list *list, char **ret, struct fault *reterr);

/*
 * An entry as a user wrote it, made canonical: "pkg.task", "train.py", "main.py:main". -EBADMSG with a sentence
 * (without a place) when it is neither a file nor a module of the package. A module that is not in the package is
 * taken when something is to be installed for it (`has_requirements`, requirements.txt, setup.py, pyproject.toml).
 */
int recognise_given(const struct package_list *list, const char *entry, bool has_requirements, char **ret,
		    struct fault *reterr);

/* A path within a package without `./` and double slashes; -EINVAL if absolute, empty, or with a `..` in it. */
int recognise_path(const char *path, char **ret);
