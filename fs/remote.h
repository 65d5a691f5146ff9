/* SPDX-License-Identifier: MIT */
/* One remote of a mount: its backend, its journal, what is known of its jobs and models, and the threads that work for it. */
#pragma once

#include "backend.h"
#include "config.h"
#include "node.h"

#include <pthread.h>
#include <stdatomic.h>

struct drafts;
struct jobs;
struct journal;
struct models;
struct objects;
struct pool;
struct submitted;

struct remote {
	/* immutable after remote_new */
	struct serve *serve;
	const struct remote_conf *conf;
	struct backend *be; /* NULL: it did not open, see fault */
	struct pool *pool;  /* for calls of the backend */
	struct journal *journal;
	struct jobs *jobs;
	struct drafts *drafts;
	struct models *models;
	struct submitted *submitted;
	struct objects *objects; /* NULL: buckets are directories, or there are none */
	int mount_lock;          /* held for the life of the mount: mounts/<mount id> in state_dir */

	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t poked;
	struct fault fault; /* why the newest contact failed; err 0: it did not */
	int64_t fresh_ms;   /* monotonic, of the newest answer; 0: none yet */
	bool is_poked, is_stopped;

	pthread_mutex_t table_lock;
	/* protected by table_lock */
	char *table; /* jobs.tsv at table_revision of the jobs; NULL: not rendered yet */
	size_t table_len;
	uint64_t table_revision;

	/* watch thread only */
	pthread_t watcher;
	bool has_watcher;

	/* atomic */
	atomic_ullong n_calls, n_failures;
};

/* Opens state and backend. A backend that does not open leaves `fault`; -errno is for what the mount cannot do without. */
int remote_new(struct serve *serve, const struct remote_conf *conf, struct remote **ret,
	       struct fault *reterr);

/* Replays the journal and starts the watch thread. */
int remote_start(struct remote *remote);

/* Ends the threads; calls of the backend under way are waited for. */
void remote_stop(struct remote *remote);
void remote_free(struct remote *remote); /* takes NULL */

/* Ask the service now, not when it is due. */
void remote_poke(struct remote *remote);
/* The same, and nothing that is known of buckets holds any more. */
void remote_refresh(struct remote *remote);

/* Is the mount of this id still alive? (Another process of the same state.) */
bool remote_mount_is_alive(const struct remote *remote, const char *mount_id);

/* -errno with a sentence when the remote did not open. */
int remote_backend(struct remote *remote, struct backend **ret, struct fault *reterr);
/* What a call of the service came to, for remotes.tsv; gives r back. */
int remote_answered(struct remote *remote, int r, const struct fault *fault);
/* How long to wait before something is tried again that has failed n times before: it doubles. */
enum { REMOTE_RETRY_MS = 2000, REMOTE_RETRY_MAX_MS = 300000 };
int64_t remote_retry_ms(unsigned n_failures);
