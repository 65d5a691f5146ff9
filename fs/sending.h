/* SPDX-License-Identifier: MIT */
/* From a frozen draft to a job or a version, or back (DESIGN 3). */
#pragma once

#include "drafts.h"

/*
 * Checks the frozen draft, decides its job id and puts that on disk; after 0 it is in jobs/ as SUBMITTING (a version: is
 * shown as CREATING). Local checks only.
 */
int sending_begin(struct draft *draft, struct fault *reterr);

/* Sends what sending_begin or an earlier mount has decided, and tells the end: the draft is gone, or refused. Blocks. */
void sending_finish(void *draft);

/* Both, or the refusal: the whole way of a frozen draft. Blocks. */
void sending_run(void *draft);

/* Moves the draft to drafts/ with the reason in .error. Thaws it. */
void sending_refuse(struct draft *draft, int err, const char *sentence);
