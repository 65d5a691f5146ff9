/* SPDX-License-Identifier: MIT */
/*
 * A remote and its watch thread, which alone reads the lists of the backend: all pages at first, then what has changed,
 * as soon as the backend says so (watch) or at intervals. While the service fails the intervals grow, and what is known
 * stays readable.
 */
#include "remote.h"

#include "cleanup.h"
#include "clock.h"
#include "drafts.h"
#include "file.h"
#include "jobs.h"
#include "journal.h"
#include "log.h"
#include "models.h"
#include "objects.h"
#include "pool.h"
#include "serve_private.h"
#include "submitted.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>

enum {
	DYING_MS = 5000, /* a mount that is being killed holds its locks that long at most */
	DYING_POLL_MS = 20,
	CALL_THREADS = 4,
	CALL_QUEUE = 1024,
	WATCH_MS = 2000, /* also how often other mounts' drafts are looked for */
	POLL_MS = 10000, /* backends without watch */
	BACKOFF_MAX_MS = 30000,
	PLACE_MAX = 4096 + 1
};

/* ---- the lock of this mount in the remote's state ---- */

static int lock_path(const struct remote *remote, const char *mount_id, char **ret)
{
	return str_format(ret, "%s/mounts/%s", remote->conf->state_dir, mount_id);
}

/* Does the lock file `name` belong to a mount at our own mount point? Then it is one that is dying. */
static bool is_of_our_place(const struct remote *remote, int dir, const char *name)
{
	cleanup_free char *place = NULL;
	return file_read_all(dir, name, PLACE_MAX, &place, NULL) == 0 &&
	       strcmp(place, remote->serve->mount_point) == 0;
}

/* A mount point has one mount: another's lock there is let go soon. Its drafts are then ours at once. */
static void wait_for_dying(struct remote *remote, const char *dir)
{
	cleanup_closedir DIR *d = opendir(dir);
	const struct dirent *e;
	int64_t end = clock_mono_ms() + DYING_MS;
	while (d && (e = readdir(d)))
		while (e->d_name[0] != '.' && strcmp(e->d_name, remote->serve->id) != 0 &&
		       is_of_our_place(remote, dirfd(d), e->d_name) &&
		       remote_mount_is_alive(remote, e->d_name) && clock_mono_ms() < end)
			/* a lock has no event to wait for without taking it */
			(void)poll(NULL, 0, DYING_POLL_MS);
}

static int take_mount_lock(struct remote *remote, struct fault *reterr)
{
	cleanup_free char *dir = NULL, *path = NULL;
	int r = str_format(&dir, "%s/mounts", remote->conf->state_dir);
	if (r == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = lock_path(remote, remote->serve->id, &path);
	if (r == 0) {
		remote->mount_lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (remote->mount_lock < 0 || flock(remote->mount_lock, LOCK_EX | LOCK_NB) < 0)
			r = -errno;
	}
	const char *place = remote->serve->mount_point;
	if (r == 0)
		r = file_write_fd(remote->mount_lock, place, strlen(place));
	if (r == 0)
		wait_for_dying(remote, dir);
	return r < 0 ? fault_set(reterr, -r, "cannot lock %s: %s", path ? path : dir, strerror(-r)) : 0;
}

bool remote_mount_is_alive(const struct remote *remote, const char *mount_id)
{
	cleanup_free char *path = NULL;
	if (strcmp(mount_id, remote->serve->id) == 0)
		return true;
	if (lock_path(remote, mount_id, &path) < 0)
		return true; /* when in doubt it is not taken over */
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno != ENOENT;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return true;
	(void)unlink(path); /* a dead mount's: nobody takes that id again */
	return false;
}

static void drop_mount_lock(struct remote *remote)
{
	cleanup_free char *path = NULL;
	if (remote->mount_lock < 0)
		return;
	if (lock_path(remote, remote->serve->id, &path) == 0)
		(void)unlink(path);
	close(remote->mount_lock);
}

/* ---- watching ---- */

static void set_fault(struct remote *remote, const struct fault *fault)
{
	LOCK_SCOPE(&remote->lock);
	if (fault->err && remote->fault.err != fault->err)
		log_warning("%s: %s", remote->conf->name, fault->text);
	remote->fault = *fault;
	if (!fault->err)
		remote->fresh_ms = clock_mono_ms();
}

struct refresh {
	struct remote *remote;
	bool is_first;
};

static int take_job(void *arg, const struct job_entry *entry)
{
	const struct refresh *refresh = arg;
	if (!entry->is_gone)
		models_note_job(refresh->remote->models, entry->model);
	return jobs_apply(refresh->remote->jobs, entry, refresh->is_first);
}

static int refresh_jobs(struct remote *remote, struct job_page *page, bool is_first, struct fault *reterr)
{
	struct refresh refresh = {remote, is_first};
	page->has_more = true;
	int r = 0;
	while (r == 0 && page->has_more) {
		struct job_page next = {0};
		remote->n_calls++;
		r = backend_job_list(remote->be, page->cursor, take_job, &refresh, &next, reterr);
		if (r == 0)
			*page = next;
	}
	if (r == -ESTALE)
		page->cursor[0] = '\0';
	return r;
}

static bool wait_until(struct remote *remote, int64_t ms)
{
	int64_t due_ms = clock_mono_ms() + ms;
	LOCK_SCOPE(&remote->lock);
	while (!remote->is_poked && !remote->is_stopped && clock_wait(&remote->poked, &remote->lock, due_ms))
		;
	remote->is_poked = false;
	return !remote->is_stopped;
}

static bool is_stopped(struct remote *remote)
{
	LOCK_SCOPE(&remote->lock);
	return remote->is_stopped;
}

/* One reading of everything; false when it failed. */
static bool refresh(struct remote *remote, struct job_page *page, bool *is_first)
{
	struct fault fault = {0};
	bool has_jobs = backend_has_jobs(remote->be), has_models = backend_has_models(remote->be);
	int r = has_jobs ? refresh_jobs(remote, page, *is_first, &fault) : 0;
	if (r == 0 && has_models)
		r = models_refresh(remote->models, &fault);
	if (r < 0)
		remote->n_failures++;
	if (has_jobs || has_models)
		set_fault(remote, &fault);
	if (*is_first || r < 0)
		jobs_set_ready(remote->jobs, r == 0);
	if (r == 0)
		*is_first = false;
	return r == 0;
}

static bool wait_for_change(struct remote *remote, int64_t *backoff_ms, bool is_well)
{
	if (!is_well) {
		*backoff_ms = *backoff_ms * 2 < BACKOFF_MAX_MS ? *backoff_ms * 2 : BACKOFF_MAX_MS;
		return wait_until(remote, *backoff_ms);
	}
	*backoff_ms = 500;
	if (!backend_has_jobs(remote->be) || !backend_job_can_watch(remote->be))
		return wait_until(remote, POLL_MS);
	(void)backend_job_watch(remote->be, WATCH_MS); /* whatever it says, we look */
	return !is_stopped(remote);
}

static void *watch_thread(void *arg)
{
	struct remote *remote = arg;
	struct job_page page = {0};
	bool is_first = true;
	int64_t backoff_ms = 500;
	bool is_well;
	do {
		is_well = refresh(remote, &page, &is_first);
		drafts_reload(remote->drafts);
	} while (wait_for_change(remote, &backoff_ms, is_well));
	return NULL;
}

void remote_poke(struct remote *remote)
{
	pthread_mutex_lock(&remote->lock);
	remote->is_poked = true;
	pthread_cond_signal(&remote->poked);
	pthread_mutex_unlock(&remote->lock);
	if (remote->be && backend_has_jobs(remote->be))
		backend_job_wake(remote->be);
}

void remote_refresh(struct remote *remote)
{
	if (remote->objects)
		objects_refresh(remote->objects);
	remote_poke(remote);
}

int64_t remote_retry_ms(unsigned n_failures)
{
	return n_failures < 8 ? (int64_t)REMOTE_RETRY_MS << n_failures : REMOTE_RETRY_MAX_MS;
}

int remote_answered(struct remote *remote, int r, const struct fault *fault)
{
	static const struct fault none;
	if (r != -EINTR && r != CALL_PARKED)
		set_fault(remote, fault_is_passing(r) || r == -EACCES ? fault : &none);
	return r;
}

int remote_backend(struct remote *remote, struct backend **ret, struct fault *reterr)
{
	LOCK_SCOPE(&remote->lock);
	if (!remote->be)
		return fault_set(reterr, remote->fault.err ? remote->fault.err : EIO, "%s",
				 remote->fault.text);
	remote->n_calls++;
	*ret = remote->be;
	return 0;
}

/* ---- life ---- */

static int open_backend(struct remote *remote)
{
	struct backend_conf conf = {
		.name = remote->conf->name,
		.state_dir = remote->conf->state_dir,
		.options = remote->conf->options,
		.python = remote->serve->python,
	};
	return backend_open(remote->conf->type, &conf, &remote->be, &remote->fault);
}

static int open_parts(struct remote *remote, struct fault *reterr)
{
	int r = config_make_state_dir(remote->conf, reterr);
	if (r == 0)
		r = take_mount_lock(remote, reterr);
	if (r == 0)
		r = journal_open(remote->conf->state_dir, &remote->journal, reterr);
	if (r == 0)
		r = jobs_new(remote, &remote->jobs);
	if (r == 0)
		r = submitted_new(remote, &remote->submitted);
	if (r == 0)
		r = drafts_new(remote, &remote->drafts, reterr);
	if (r == 0)
		r = models_new(remote, &remote->models);
	if (r == 0)
		r = pool_new(remote->conf->name, CALL_THREADS, CALL_QUEUE, &remote->pool);
	return r;
}

int remote_new(struct serve *serve, const struct remote_conf *conf, struct remote **ret, struct fault *reterr)
{
	struct remote *remote = calloc(1, sizeof(*remote));
	if (!remote)
		return -ENOMEM;
	clock_condition_init(&remote->poked);
	pthread_mutex_init(&remote->lock, NULL);
	pthread_mutex_init(&remote->table_lock, NULL);
	remote->serve = serve;
	remote->conf = conf;
	remote->mount_lock = -1;
	int r = open_parts(remote, reterr);
	if (r < 0) {
		remote_free(remote);
		return r;
	}
	if (open_backend(remote) < 0) {
		log_warning("%s: %s", conf->name, remote->fault.text);
		jobs_set_ready(remote->jobs, false);
	} else if (backend_has_buckets(remote->be) && !backend_bucket_is_dir(remote->be)) {
		r = objects_new(remote, &remote->objects);
	}
	if (r < 0) {
		remote_free(remote);
		return r;
	}
	*ret = remote;
	return 0;
}

int remote_start(struct remote *remote)
{
	if (!remote->be)
		return 0;
	int r = drafts_start(remote->drafts);
	if (r == 0)
		r = models_start(remote->models);
	if (r == 0 && remote->objects)
		r = objects_start(remote->objects);
	if (r < 0)
		return r;
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&remote->watcher, NULL, watch_thread, remote);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	remote->has_watcher = r == 0;
	return r;
}

void remote_stop(struct remote *remote)
{
	pthread_mutex_lock(&remote->lock);
	remote->is_stopped = true;
	pthread_mutex_unlock(&remote->lock);
	remote_poke(remote);
	if (remote->has_watcher)
		pthread_join(remote->watcher, NULL);
	remote->has_watcher = false;
	if (remote->be && backend_has_models(remote->be))
		models_flush(remote->models);
	if (remote->objects)
		objects_stop(remote->objects);
	pool_stop(remote->pool);
}

void remote_free(struct remote *remote)
{
	if (!remote)
		return;
	objects_free(remote->objects);
	backend_close(remote->be);
	pool_free(remote->pool);
	models_free(remote->models);
	drafts_free(remote->drafts);
	submitted_free(remote->submitted);
	jobs_free(remote->jobs);
	journal_close(remote->journal);
	drop_mount_lock(remote);
	pthread_cond_destroy(&remote->poked);
	pthread_mutex_destroy(&remote->lock);
	pthread_mutex_destroy(&remote->table_lock);
	free(remote->table);
	free(remote);
}
