/* SPDX-License-Identifier: MIT */
/* Which job came from a draft of which name: what submitted/NAME and latest point at. Thread-safe. */
#pragma once

#include <stdint.h>

struct job;
struct remote;
struct submitted;

int submitted_new(struct remote *remote, struct submitted **ret);
void submitted_free(struct submitted *submitted); /* takes NULL */

/* Reads what the journal has beyond what is known (all of it, at first; later what other mounts have added). */
int submitted_load(struct submitted *submitted);

/* Newest job that is still there and came from a draft of this name; NULL name: of any. -ENOENT. */
int submitted_find(struct submitted *submitted, const char *name, struct job **ret);

/* The names that have such a job. A negative return ends it. */
int submitted_names(struct submitted *submitted, int (*sink)(void *arg, const char *name), void *arg);
