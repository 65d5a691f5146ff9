/* SPDX-License-Identifier: MIT */
/* The job specification: job.yaml, job.json or the spec.json of an earlier job, checked and made canonical (DESIGN 4). */
#pragma once

#include "fault.h"
#include "package.h"
#include "yaml.h"

#include <jansson.h>

/*
 * Parses a specification's text (`name` ends in .json or not) and checks every field; **new** object with sorted
 * keys, of what was given. -EBADMSG with NAME:LINE:COLUMN. `ret_yaml` (to be released) knows the places.
 */
int spec_parse(const char *name, const char *text, size_t n, struct yaml *ret_yaml, json_t **ret,
	       struct fault *reterr);

/*
 * The specification of a package: parsed and completed by what the package shows. `file` is its name in `spec_fd`
 * (spec.json of a rerun), or NULL: job.yaml or job.json in `package_fd`, or neither. `default_model` is a plain name.
 * **new** object: "trainfs": 1 first, then sorted keys, among them "model" and one of "entry", "command".
 */
int spec_make(int spec_fd, const char *file, int package_fd, const struct package_list *list,
	      const char *default_model, json_t **ret, struct fault *reterr);

/* Is the file `spec.json` in the directory one of a job, that is with a field "trainfs" (or meant to have one)? */
bool spec_is_rerun(int dir_fd);
