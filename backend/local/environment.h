/* SPDX-License-Identifier: MIT */
/* Virtual environments for packages with requirements, made once for each content. */
#pragma once

#include "fault.h"

#include <stdint.h>

struct process_host;
struct store;

struct environment_request {
	const struct store *store;
	struct process_host *host; /* runs pip; its output goes to the job's log */
	const char *python;
	const char *run_dir;      /* the package */
	const char *requirements; /* a file of it */
	const char *private_dir;  /* where an environment goes that cannot be shared */
	char *const *environ;
};

/*
 * Gives the directory of a virtual environment that has the requirements: of the cache, or made now. -EBADMSG: they
 * cannot be had, and why; -ECANCELED: the job was cancelled meanwhile.
 */
int environment_get(const struct environment_request *request, char **ret_dir, struct fault *reterr);

/*
 * Can these requirements be known by their text alone? Not if they name files (-r, -c, -e, paths), which the package
 * may change without them.
 */
int environment_is_shareable(const char *requirements);
