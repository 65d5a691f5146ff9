/* SPDX-License-Identifier: MIT */
/* Two clocks: wall time is for people and records, monotonic time for every wait. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLOCK_TEXT_MAX = 40 };

/* Nanoseconds since 1970-01-01 UTC. May jump. */
int64_t clock_wall_ns(void);

/* Milliseconds of CLOCK_MONOTONIC. Never jumps; stands still during suspend. */
int64_t clock_mono_ms(void);

/* A condition for clock_wait; ended by pthread_cond_destroy. */
void clock_condition_init(pthread_cond_t *condition);
/* pthread_cond_wait until that moment of clock_mono_ms at most (INT64_MAX: however long); false: it has come. */
bool clock_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t until_ms);

/*
 * RFC 3339 UTC with milliseconds ("2026-11-20T11:15:00.250Z") into `ret`, or "" for 0 (not known).
 * Returns `ret`.
 */
char *clock_format(int64_t wall_ns, char ret[static CLOCK_TEXT_MAX]);

/* "YYYYMMDD_HHMMSS" UTC, as in made-up job ids. Returns `ret`. */
char *clock_stamp(int64_t wall_ns, char ret[static CLOCK_TEXT_MAX]);

/* Parses RFC 3339 with any offset; -EINVAL. */
int clock_parse(const char *text, int64_t *ret_wall_ns);
