/* SPDX-License-Identifier: MIT */
/* Lines of `trainfs check`, and sinks for what is asked only to see whether it may be. */
#pragma once

#include "backend.h"

/* "SUBJECT: GOOD", or "SUBJECT: BAD: what went wrong". */
void check_tell(check_sink sink, void *arg, int r, const struct fault *fault, const char *subject,
		const char *good, const char *bad);

int check_count_name(void *arg, const char *name); /* a name_sink; arg: unsigned */
int check_pass_object(void *arg, const struct object_entry *object);
