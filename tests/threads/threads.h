/* SPDX-License-Identifier: MIT */
/* What these programs share: a condition that ends the program when it does not hold, and threads by number. */
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define must(condition)                                                                           \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                                 \
		}                                                                                 \
	} while (0)

/* Each gets its number, from 0, as its argument. */
static inline void threads_start(pthread_t *thread, size_t n, void *(*fn)(void *number))
{
	for (size_t i = 0; i < n; i++)
		must(pthread_create(&thread[i], NULL, fn, (void *)i) == 0);
}

static inline void threads_join(const pthread_t *thread, size_t n)
{
	for (size_t i = 0; i < n; i++)
		must(pthread_join(thread[i], NULL) == 0);
}
