/* SPDX-License-Identifier: MIT */
/*
 * Out of memory at every place in turn: the Nth allocation fails, for N from 1 until a run needs fewer. The linker puts
 * these functions before libc's (meson.build: failing_allocation_dep).
 */
#pragma once

#include "fault.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

static unsigned long n_left; /* 0: none fails */

static bool must_fail(void)
{
	return n_left > 0 && --n_left == 0;
}

void *__wrap_malloc(size_t n)
{
	return must_fail() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return must_fail() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return must_fail() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return must_fail() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *s)
{
	return must_fail() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return must_fail() ? NULL : __real_strndup(s, n);
}

/* Runs `run` with each allocation failing once; it gives 0 or -errno. */
static inline void fail_each(int (*run)(void))
{
	for (unsigned long n = 1; n < 100000; n++) {
		n_left = n;
		int r = run();
		bool has_failed = n_left == 0;
		n_left = 0;
		if (!has_failed) {
			cr_assert(zero(int, r));
			cr_assert(gt(ulong, n, 1), "it does allocate");
			return;
		}
		cr_assert(r == 0 || r == -ENOMEM, "allocation %lu: %s", n, fault_name(-r));
	}
	cr_assert(false, "it never ends");
}
