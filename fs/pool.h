/* SPDX-License-Identifier: MIT */
/* A small pool of threads that may block; one a remote, so that a dead remote holds up no other. */
#pragma once

#include <stddef.h>

struct pool;

/* Threads are started when there is work, and stay. */
int pool_new(const char *name, size_t max_threads, size_t max_queue, struct pool **ret);

/* Runs fn(arg) on one of the threads, in order of arrival. -EAGAIN: max_queue wait already, or the pool is stopped. */
int pool_submit(struct pool *pool, void (*fn)(void *arg), void *arg);

/* Takes no more work, runs what is queued, waits for the threads. */
void pool_stop(struct pool *pool);
void pool_free(struct pool *pool); /* stopped or never used; takes NULL */
