/* SPDX-License-Identifier: MIT */
/* One thread that keeps time: runs short functions when they are due. Monotonic throughout. */
#pragma once

#include <stdint.h>

struct timers;

int timers_new(struct timers **ret);
int timers_start(struct timers *timers);
void timers_stop(struct timers *timers); /* what is not due yet never runs */
void timers_free(struct timers *timers); /* takes NULL */

/* Runs fn(arg) once, `delay_ms` from now. fn must be short and must not block; it may call this again. */
int timers_in(struct timers *timers, int64_t delay_ms, void (*fn)(void *arg), void *arg);
