/* SPDX-License-Identifier: MIT */
/*
 * What a draft directory submits: recognised, checked, listed (DESIGN 3, 4). Knows neither FUSE nor the tree: a
 * directory of this machine goes in, a specification and a list of files come out.
 */
#pragma once

#include "backend.h"
#include "fault.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a package was refused, in a file beside it that is no part of it. */
#define SUBMISSION_ERROR ".error"

struct submission {
	char *root; /* absolute: the draft, or its package/ when it is the copy of a job's directory */
	char *model;
	json_t *spec; /* as struct job_request wants it */
	char **path;  /* as struct package wants it */
	size_t n_paths;
	int64_t size_bytes;
	struct secret *secret; /* values wiped at release */
	size_t n_secrets;
};

void submission_release(struct submission *submission); /* takes a zeroed one; leaves it zeroed */

/*
 * Looks at the draft in `dir`. `default_model` is the model unless the specification (or, of a rerun, the old
 * one) names it. Local disk only. The directory is hostile: no symlink in it is followed, names are any bytes.
 *   -EBADMSG  with the file, line and column, or what was found and what was missing
 *   -EFBIG    over max_bytes (0: no limit), naming the largest files
 */
int submission_prepare(const char *dir, const char *default_model, int64_t max_bytes, struct submission *ret,
		       struct fault *reterr);

/* Is the draft empty, that is without one file of its own yet? Then there is nothing to judge. */
bool submission_is_empty(const char *dir);

/* {"branch","commit","dirty"} if the package came with its .git, else *ret = NULL. May take long in a big work tree. */
int submission_git(const char *root, char **ret);

/* Lends `submission` as a request; all pointers stay with it. */
void submission_as_request(const struct submission *submission, const char *id, const char *git,
			   struct package *package, struct job_request *ret);
