/* SPDX-License-Identifier: MIT */
/* Scope-bound ownership: a local that owns something says so where it is declared. */
#pragma once

#include <dirent.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Takes the value out of a cleanup_* local: ownership moves to the expression's receiver. */
#define STEAL(pointer)                                   \
	({                                               \
		__typeof__(pointer) stolen_ = (pointer); \
		(pointer) = NULL;                        \
		stolen_;                                 \
	})
#define STEAL_FD(fd)                \
	({                          \
		int stolen_ = (fd); \
		(fd) = -1;          \
		stolen_;            \
	})

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}
static inline void cleanup_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void cleanup_fclose_(FILE **f)
{
	if (*f)
		fclose(*f);
}
static inline void cleanup_closedir_(DIR **d)
{
	if (*d)
		closedir(*d);
}
static inline void cleanup_json_(json_t **j)
{
	json_decref(*j);
}
static inline void cleanup_unlock_(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

#define cleanup_free     __attribute__((cleanup(cleanup_free_)))
#define cleanup_close    __attribute__((cleanup(cleanup_close_)))
#define cleanup_fclose   __attribute__((cleanup(cleanup_fclose_)))
#define cleanup_closedir __attribute__((cleanup(cleanup_closedir_)))
#define cleanup_json     __attribute__((cleanup(cleanup_json_)))

/* Holds `mutex` to the end of the enclosing block. */
#define LOCK_SCOPE(mutex)     LOCK_SCOPE_(mutex, __COUNTER__)
#define LOCK_SCOPE_(mutex, n) LOCK_SCOPE__(mutex, n)
#define LOCK_SCOPE__(mutex, n)                                                                    \
	__attribute__((cleanup(cleanup_unlock_), unused)) pthread_mutex_t *lock_##n##_ = (mutex); \
	pthread_mutex_lock(lock_##n##_)
