/* SPDX-License-Identifier: MIT */
/* The sentence that goes with an errno: what was attempted, what was answered, what to do. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

enum { FAULT_TEXT_MAX = 1024 };

/*
 * A fixed-size struct of the caller, so that failing needs no memory.
 * Every function that takes a `struct fault *` accepts NULL, and writes it only when it fails.
 */
struct fault {
	int err;                   /* positive errno; 0: nothing was said */
	char text[FAULT_TEXT_MAX]; /* one sentence, UTF-8, no newline */
};

/* Fills `fault` (may be NULL) and returns -err, so that a failing line reads `return fault_set(...)`. */
int fault_set(struct fault *fault, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
int fault_vset(struct fault *fault, int err, const char *format, va_list ap);

/* Does this -errno say that a service cannot be asked, or could not do it, just now? Later it may. */
bool fault_is_passing(int r);

/* The errno's symbolic name ("ENOENT"); "E?" for one that has none. */
const char *fault_name(int err);
