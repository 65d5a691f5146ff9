/* SPDX-License-Identifier: MIT */
/*
 * A mount's file system, put together and taken apart.
 *
 * Threads, and what each may do: FUSE workers (libfuse's) answer or park; a remote's pool (remote.c) blocks in the
 * backend; its watch thread reads lists; timers run short functions; notify alone speaks to the kernel unasked; logwatch
 * reads inotify. They end in that order: whoever may hand work to another ends first.
 */
#include "serve.h"

#include "chunk.h"
#include "cleanup.h"
#include "clock.h"
#include "helper_touch.h"
#include "jobs.h"
#include "kinds.h"
#include "listing.h"
#include "log.h"
#include "logstream.h"
#include "memory_limit.h"
#include "ops.h"
#include "remote.h"
#include "report.h"
#include "serve_private.h"
#include "spool.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

static int make_id(char ret[static 24])
{
	uint64_t random;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	snprintf(ret, 24, "%016llx", (unsigned long long)random);
	return 0;
}

static int add_remote(struct serve *serve, const struct remote_conf *conf, struct fault *reterr)
{
	struct fault fault = {0};
	struct remote *remote;
	int r = remote_new(serve, conf, &remote, &fault);
	if (r < 0)
		return fault_set(reterr, -r, "%s: %s", conf->name, fault.text[0] ? fault.text : strerror(-r));
	serve->remote[serve->n_remotes++] = remote;
	if (!remote->be)
		report_error(serve->report, conf->name, conf->name, remote->fault.err, remote->fault.text);
	if (serve->is_single && !remote->be)
		return fault_set(reterr, remote->fault.err, "%s: %s", conf->name, remote->fault.text);
	return 0;
}

static int open_remotes(struct serve *serve, const char *only, struct fault *reterr)
{
	const struct config *config = serve->config;
	serve->remote = calloc(config->n_remotes + 1, sizeof(struct remote *));
	if (!serve->remote)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_remotes; i++) {
		if (only && strcmp(only, config->remote[i].name) != 0)
			continue;
		int r = add_remote(serve, &config->remote[i], reterr);
		if (r < 0)
			return r;
	}
	if (only && serve->n_remotes == 0)
		return fault_set(reterr, ENOENT,
				 "there is no remote %s; `trainfs config` shows those there are", only);
	return 0;
}

static int make_root(struct serve *serve)
{
	struct child child = {.kind = &kind_root, .obj = serve, .type = S_IFDIR};
	if (serve->is_single)
		child = (struct child){.kind = &kind_remote,
				       .remote = serve->remote[0],
				       .obj = serve->remote[0],
				       .type = S_IFDIR};
	return inode_root(serve->table, &child, &serve->root);
}

/* For what is fetched from services: half of cache.memory, a quarter of what our cgroup may use. */
static int64_t fetch_budget(const struct config *config)
{
	int64_t ours = json_integer_value(json_object_get(config->cache, "memory")) / 2;
	int64_t group = memory_limit("/proc/self/cgroup", "/sys/fs/cgroup") / 4;
	return ours < group ? ours : group;
}

static int open_parts(struct serve *serve, const struct serve_options *options, struct fault *reterr)
{
	int r = make_id(serve->id);
	if (r == 0)
		r = inode_table_new(&serve->table);
	if (r == 0)
		r = chunks_new(fetch_budget(serve->config), &serve->chunks);
	if (r == 0)
		r = notify_new(serve->table, &serve->notify);
	if (r == 0)
		r = timers_new(&serve->timers);
	if (r == 0)
		r = parking_new(serve, &serve->parking);
	if (r == 0)
		r = report_new(serve, &serve->report);
	if (r == 0)
		r = logwatch_new(serve, &serve->logwatch);
	if (r == 0)
		r = open_remotes(serve, options->only_remote, reterr);
	return r < 0 ? r : make_root(serve);
}

int serve_new(const struct config *config, const struct serve_options *options, struct serve **ret,
	      struct fault *reterr)
{
	struct fault fault = {0};
	struct serve *serve = calloc(1, sizeof(*serve));
	if (!serve)
		return -ENOMEM;
	pthread_mutex_init(&serve->handles_lock, NULL);
	serve->config = config;
	serve->mount_point = strdup(options->mount_point);
	serve->python = options->python ? strdup(options->python) : NULL;
	serve->is_single = options->only_remote;
	serve->is_read_only = options->is_read_only;
	serve->ops = fuse_ops;
	if (!options->has_xattr) /* else every ls -l asks twice for each entry */
		serve->ops.getxattr = NULL, serve->ops.listxattr = NULL;
	serve->uid = geteuid();
	serve->gid = getegid();
	serve->started_ns = clock_wall_ns();
	int r = serve->mount_point ? open_parts(serve, options, &fault) : -ENOMEM;
	if (r < 0) {
		serve_free(serve);
		return fault_set(reterr, -r, "%s", fault.text[0] ? fault.text : strerror(-r));
	}
	*ret = serve;
	return 0;
}

void serve_tell_failed(const struct serve *serve, FILE *to)
{
	for (size_t i = 0; i < serve->n_remotes; i++) {
		struct remote *remote = serve->remote[i];
		LOCK_SCOPE(&remote->lock);
		if (!remote->be)
			fprintf(to, "trainfs: the remote %s did not open, its directory is empty: %s\n",
				remote->conf->name, remote->fault.text);
	}
}

void serve_name_pending(const struct serve *serve)
{
	for (size_t i = 0; i < serve->n_remotes; i++)
		if (serve->remote[i]->objects)
			objects_name_pending(serve->remote[i]->objects);
}

const struct fuse_lowlevel_ops *serve_ops(const struct serve *serve)
{
	return &serve->ops;
}

int serve_start(struct serve *serve, struct fuse_session *session)
{
	int r = notify_start(serve->notify, session);
	if (r == 0)
		r = timers_start(serve->timers);
	if (r == 0)
		r = logwatch_start(serve->logwatch);
	if (r == 0 && touch_start(&serve->touch) < 0)
		log_warning("no helper for inotify: nothing fires for changes at the remotes, ignoring");
	for (size_t i = 0; r == 0 && i < serve->n_remotes; i++)
		r = remote_start(serve->remote[i]);
	return r;
}

void serve_stop(struct serve *serve)
{
	if (atomic_exchange(&serve->is_stopping, true))
		return;
	if (serve->parking)
		parking_clear(serve->parking); /* who waits goes at once: a remote may take long to end */
	for (size_t i = 0; i < serve->n_remotes; i++)
		remote_stop(serve->remote[i]);
	if (serve->logwatch)
		logwatch_stop(serve->logwatch);
	if (serve->timers)
		timers_stop(serve->timers);
	if (serve->notify)
		notify_stop(serve->notify);
	if (serve->parking)
		parking_clear(serve->parking);
	for (size_t i = 0; i < serve->n_remotes; i++)
		jobs_let_go(serve->remote[i]->jobs);
}

/* ---- handles ---- */

struct handle *handle_new(struct serve *serve, struct node *n, int flags)
{
	struct handle *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->node = inode_ref(serve->table, n);
	h->flags = flags;
	h->fd = -1;
	h->n_refs = 1;
	serve->n_handles++;
	LOCK_SCOPE(&serve->handles_lock);
	h->next = serve->handle;
	if (h->next)
		h->next->prev = h;
	serve->handle = h;
	return h;
}

void handle_ref(struct handle *h)
{
	h->n_refs++;
}

static void take_out(struct serve *serve, struct handle *h)
{
	LOCK_SCOPE(&serve->handles_lock);
	*(h->prev ? &h->prev->next : &serve->handle) = h->next;
	if (h->next)
		h->next->prev = h->prev;
}

/* What was open when the mount was cut off: the kernel never closes it. */
static void close_handles(struct serve *serve)
{
	while (serve->handle) {
		serve->handle->n_refs = 1;
		handle_unref(serve, serve->handle);
	}
}

void handle_unref(struct serve *serve, struct handle *h)
{
	if (!h || --h->n_refs > 0)
		return;
	take_out(serve, h);
	if (h->node->kind->release)
		h->node->kind->release(h);
	if (h->fd >= 0)
		close(h->fd);
	listing_free(h->listing);
	free(h->text);
	inode_unref(serve->table, h->node);
	free(h);
	serve->n_handles--;
}

/* ---- the end ---- */

void serve_free(struct serve *serve)
{
	if (!serve)
		return;
	serve_stop(serve); /* also after a start that failed half-way */
	close_handles(serve);
	touch_free(serve->touch);
	inode_table_free(serve->table);
	for (size_t i = 0; i < serve->n_remotes; i++)
		remote_free(serve->remote[i]);
	free(serve->remote);
	logwatch_free(serve->logwatch);
	report_free(serve->report);
	parking_free(serve->parking);
	timers_free(serve->timers);
	chunks_free(serve->chunks);
	notify_free(serve->notify);
	free(serve->python);
	free(serve->mount_point);
	pthread_mutex_destroy(&serve->handles_lock);
	free(serve);
}
