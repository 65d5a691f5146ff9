/* SPDX-License-Identifier: MIT */
/*
 * submitted/: for each name the jobs that came from it, newest last. The journal is the truth; this is what it held when
 * it was read last, and only what is new is read again.
 */
#include "submitted.h"

#include "cleanup.h"
#include "jobs.h"
#include "journal.h"
#include "kinds.h"
#include "notify.h"
#include "remote.h"
#include "serve_private.h"
#include "str.h"

#include <errno.h>
#include <string.h>

enum { N_BUCKETS = 4096 };

struct origin {
	char *job;
	struct origin *older; /* of the same name */
	struct origin *older_any;
};

struct origin_name {
	char *name;
	struct origin *newest;
	struct origin_name *next;
};

struct submitted {
	struct remote *remote; /* immutable */

	pthread_mutex_t lock;
	/* protected by lock */
	struct origin_name *bucket[N_BUCKETS];
	struct origin *newest;
	int64_t last_row;
};

int submitted_new(struct remote *remote, struct submitted **ret)
{
	struct submitted *submitted = calloc(1, sizeof(*submitted));
	if (!submitted)
		return -ENOMEM;
	pthread_mutex_init(&submitted->lock, NULL);
	submitted->remote = remote;
	*ret = submitted;
	return 0;
}

void submitted_free(struct submitted *submitted)
{
	if (!submitted)
		return;
	while (submitted->newest) {
		struct origin *origin = submitted->newest;
		submitted->newest = origin->older_any;
		free(origin->job);
		free(origin);
	}
	for (int i = 0; i < N_BUCKETS; i++) {
		while (submitted->bucket[i]) {
			struct origin_name *name = submitted->bucket[i];
			submitted->bucket[i] = name->next;
			free(name->name);
			free(name);
		}
	}
	pthread_mutex_destroy(&submitted->lock);
	free(submitted);
}

static struct origin_name **bucket_of(struct submitted *submitted, const char *name)
{
	return &submitted->bucket[str_hash(STR_HASH_START, name, strlen(name)) % N_BUCKETS];
}

static struct origin_name *find_locked(struct submitted *submitted, const char *name)
{
	struct origin_name *at = *bucket_of(submitted, name);
	while (at && strcmp(at->name, name) != 0)
		at = at->next;
	return at;
}

static struct origin_name *name_locked(struct submitted *submitted, const char *name)
{
	struct origin_name *found = find_locked(submitted, name);
	if (found)
		return found;
	found = calloc(1, sizeof(*found));
	if (!found || !(found->name = strdup(name))) {
		free(found);
		return NULL;
	}
	struct origin_name **bucket = bucket_of(submitted, name);
	found->next = *bucket;
	*bucket = found;
	return found;
}

/* A row of the journal, oldest first. The lock is held. */
static int take_row(void *arg, int64_t row, const char *job, const char *name)
{
	struct submitted *submitted = arg;
	struct notify *notify = submitted->remote->serve->notify;
	struct origin_name *by_name = name_locked(submitted, name);
	struct origin *origin = by_name ? calloc(1, sizeof(*origin)) : NULL;
	if (!origin || !(origin->job = strdup(job))) {
		free(origin);
		return -ENOMEM;
	}
	origin->older = by_name->newest;
	by_name->newest = origin;
	origin->older_any = submitted->newest;
	submitted->newest = origin;
	submitted->last_row = row;
	notify_names(notify, &kind_submitted, submitted->remote, 0);
	return 0;
}

int submitted_load(struct submitted *submitted)
{
	struct remote *remote = submitted->remote;
	pthread_mutex_lock(&submitted->lock);
	int r = journal_submissions(remote->journal, submitted->last_row, take_row, submitted);
	pthread_mutex_unlock(&submitted->lock);
	notify_names(remote->serve->notify, &kind_remote, remote, 0);
	return r;
}

static bool is_there(struct submitted *submitted, const char *id, struct job **ret)
{
	struct job_row row;
	struct job *job = jobs_find(submitted->remote->jobs, id);
	if (!job)
		return false;
	job_row_get(job, &row);
	*ret = job;
	return !row.is_gone;
}

static int newest_locked(struct submitted *submitted, const struct origin_name *name, struct job **ret)
{
	for (const struct origin *origin = name->newest; origin; origin = origin->older)
		if (is_there(submitted, origin->job, ret))
			return 0;
	return -ENOENT;
}

int submitted_find(struct submitted *submitted, const char *name, struct job **ret)
{
	LOCK_SCOPE(&submitted->lock);
	if (name) {
		const struct origin_name *found = find_locked(submitted, name);
		return found ? newest_locked(submitted, found, ret) : -ENOENT;
	}
	for (const struct origin *origin = submitted->newest; origin; origin = origin->older_any)
		if (is_there(submitted, origin->job, ret))
			return 0;
	return -ENOENT;
}

int submitted_names(struct submitted *submitted, int (*sink)(void *arg, const char *name), void *arg)
{
	struct job *job;
	LOCK_SCOPE(&submitted->lock);
	int r = 0;
	for (int i = 0; i < N_BUCKETS; i++)
		for (const struct origin_name *name = submitted->bucket[i]; name && r == 0; name = name->next)
			if (newest_locked(submitted, name, &job) == 0)
				r = sink(arg, name->name);
	return r;
}
