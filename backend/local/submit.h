/* SPDX-License-Identifier: MIT */
/* A request on its way to being a job: checked, copied, entered. */
#pragma once

#include "backend.h"

struct local;

int submit_check(const struct local *local, const struct job_request *request, struct fault *reterr);
int submit_job(const struct local *local, const struct job_request *request, struct fault *reterr);

/* Is a reference to another machine's storage? */
bool submit_is_remote(const char *text);

/* Does this interpreter have these modules (a Python expression of `has("NAME")`s)? Asks it, some 50 ms. */
bool submit_python_has(const char *python, const char *expression);
