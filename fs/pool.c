/* SPDX-License-Identifier: MIT */
/* A bounded pool of threads: one queue, one lock, threads made on demand. */
#include "pool.h"

#include "cleanup.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

enum { THREADS_MAX = 16 };

struct task {
	void (*fn)(void *arg);
	void *arg;
};

struct pool {
	/* immutable after new */
	char name[16];
	size_t max_threads, max_queue;

	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t has_work;
	pthread_t thread[THREADS_MAX];
	size_t n_threads, n_idle;
	struct task *queue; /* a ring of max_queue */
	size_t first, n_queued;
	bool is_stopped;
};

int pool_new(const char *name, size_t max_threads, size_t max_queue, struct pool **ret)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->queue = calloc(max_queue, sizeof(*pool->queue));
	if (!pool->queue) {
		free(pool);
		return -ENOMEM;
	}
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	pool->max_threads = max_threads < THREADS_MAX ? max_threads : THREADS_MAX;
	pool->max_queue = max_queue;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->has_work, NULL);
	*ret = pool;
	return 0;
}

static void *pool_thread(void *arg)
{
	struct pool *pool = arg;
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (pool->n_queued == 0 && !pool->is_stopped) {
			pool->n_idle++;
			pthread_cond_wait(&pool->has_work, &pool->lock);
			pool->n_idle--;
		}
		if (pool->n_queued == 0)
			break;
		struct task task = pool->queue[pool->first];
		pool->first = (pool->first + 1) % pool->max_queue;
		pool->n_queued--;
		pthread_mutex_unlock(&pool->lock);
		task.fn(task.arg);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Signals are the main thread's: ours are blocked from birth. */
static int start_thread_locked(struct pool *pool)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&pool->thread[pool->n_threads], NULL, pool_thread, pool);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	(void)pthread_setname_np(pool->thread[pool->n_threads], pool->name); /* for people only */
	pool->n_threads++;
	return 0;
}

int pool_submit(struct pool *pool, void (*fn)(void *arg), void *arg)
{
	LOCK_SCOPE(&pool->lock);
	if (pool->is_stopped || pool->n_queued == pool->max_queue)
		return -EAGAIN;
	if (pool->n_idle <= pool->n_queued && pool->n_threads < pool->max_threads) {
		int r = start_thread_locked(pool);
		if (r < 0 && pool->n_threads == 0)
			return r;
	}
	pool->queue[(pool->first + pool->n_queued++) % pool->max_queue] = (struct task){fn, arg};
	pthread_cond_signal(&pool->has_work);
	return 0;
}

void pool_stop(struct pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->is_stopped = true;
	pthread_cond_broadcast(&pool->has_work);
	size_t n = pool->n_threads;
	pool->n_threads = 0;
	pthread_mutex_unlock(&pool->lock);
	for (size_t i = 0; i < n; i++)
		pthread_join(pool->thread[i], NULL);
}

void pool_free(struct pool *pool)
{
	if (!pool)
		return;
	pthread_cond_destroy(&pool->has_work);
	pthread_mutex_destroy(&pool->lock);
	free(pool->queue);
	free(pool);
}
