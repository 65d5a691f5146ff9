/* SPDX-License-Identifier: MIT */
/* One thread and a list sorted by due time: there are dozens of entries, not thousands. */
#include "timers.h"

#include "cleanup.h"
#include "clock.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>

struct entry {
	int64_t due_ms;
	void (*fn)(void *arg);
	void *arg;
	struct entry *next;
};

struct timers {
	pthread_t thread;
	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t changed;
	struct entry *first;
	bool is_running, is_stopped;
};

int timers_new(struct timers **ret)
{
	struct timers *timers = calloc(1, sizeof(*timers));
	if (!timers)
		return -ENOMEM;
	clock_condition_init(&timers->changed);
	pthread_mutex_init(&timers->lock, NULL);
	*ret = timers;
	return 0;
}

static void *timers_thread(void *arg)
{
	struct timers *timers = arg;
	pthread_mutex_lock(&timers->lock);
	while (!timers->is_stopped) {
		struct entry *entry = timers->first;
		if (!entry || entry->due_ms > clock_mono_ms()) {
			(void)clock_wait(&timers->changed, &timers->lock, entry ? entry->due_ms : INT64_MAX);
			continue;
		}
		timers->first = entry->next;
		pthread_mutex_unlock(&timers->lock);
		entry->fn(entry->arg);
		free(entry);
		pthread_mutex_lock(&timers->lock);
	}
	pthread_mutex_unlock(&timers->lock);
	return NULL;
}

int timers_start(struct timers *timers)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&timers->thread, NULL, timers_thread, timers);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	timers->is_running = r == 0;
	return -r;
}

void timers_stop(struct timers *timers)
{
	pthread_mutex_lock(&timers->lock);
	timers->is_stopped = true;
	bool was_running = timers->is_running;
	timers->is_running = false;
	pthread_cond_broadcast(&timers->changed);
	pthread_mutex_unlock(&timers->lock);
	if (was_running)
		pthread_join(timers->thread, NULL);
}

void timers_free(struct timers *timers)
{
	if (!timers)
		return;
	while (timers->first) {
		struct entry *entry = timers->first;
		timers->first = entry->next;
		free(entry);
	}
	pthread_cond_destroy(&timers->changed);
	pthread_mutex_destroy(&timers->lock);
	free(timers);
}

int timers_in(struct timers *timers, int64_t delay_ms, void (*fn)(void *arg), void *arg)
{
	struct entry *entry = malloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	*entry = (struct entry){.due_ms = clock_mono_ms() + delay_ms, .fn = fn, .arg = arg};
	LOCK_SCOPE(&timers->lock);
	struct entry **at = &timers->first;
	while (*at && (*at)->due_ms <= entry->due_ms)
		at = &(*at)->next;
	entry->next = *at;
	*at = entry;
	pthread_cond_signal(&timers->changed);
	return 0;
}
