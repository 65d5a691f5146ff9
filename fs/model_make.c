/* SPDX-License-Identifier: MIT */
/*
 * Versions made from jobs, and their end. A version to be is a row of the journal first; one task of the remote's pool
 * at a time makes them in turn, so that big copies never fill the pool. A row goes when the backend has the version or
 * has refused it for good; what a crash leaves is gone on with at the next mount.
 */
#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "crash.h"
#include "journal.h"
#include "kinds.h"
#include "log.h"
#include "model.h"
#include "model_held.h"
#include "notify.h"
#include "pool.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

enum { AGAIN_MS = 5000 };

struct making {
	struct version *version;
	char *job;
	struct making *next;
};

static void making_free(struct making *making)
{
	free(making->job);
	free(making);
}

void models_free_making(struct models *models)
{
	while (models->first_making) {
		struct making *making = models->first_making;
		models->first_making = making->next;
		making_free(making);
	}
}

static void show_pending(struct version *v)
{
	struct model *m = v->model;
	pthread_mutex_lock(&m->models->lock);
	v->is_pending = v->is_ours = true;
	v->is_unsure = false;
	v->created_ns = v->changed_ns = clock_wall_ns();
	free(v->failure);
	v->failure = NULL;
	model_touch_locked(m);
	pthread_mutex_unlock(&m->models->lock);
	version_tell(v, true);
	model_tell(m);
}

static int known_version(struct model *m, const char *name, struct version **ret)
{
	LOCK_SCOPE(&m->models->lock);
	return version_add_locked(m, name, ret);
}

int version_plan(struct call *c, struct model *m, const char *name, const char *job)
{
	struct version *v;
	int r = journal_version_add(m->remote->journal, m->name, name, job, c->serve->id);
	if (r == -EEXIST)
		return fault_set(&c->fault, EEXIST, "version %s of model %s is being made already", name,
				 m->name);
	if (r < 0)
		return fault_set(&c->fault, -r, "cannot journal version %s of model %s: %s", name, m->name,
				 strerror(-r));
	crash_point("planned");
	r = known_version(m, name, &v);
	if (r < 0) {
		/* else the next mount makes it */
		(void)journal_version_remove(m->remote->journal, m->name, name);
		return r;
	}
	show_pending(v);
	return 0;
}

static void end_pending(struct version *v, const char *failure)
{
	struct model *m = v->model;
	pthread_mutex_lock(&m->models->lock);
	v->is_pending = false;
	free(v->failure);
	v->failure = failure && !v->is_listed ? strdup(failure) : NULL;
	v->changed_ns = clock_wall_ns();
	model_touch_locked(m);
	pthread_cond_broadcast(&m->models->changed);
	bool is_there = version_is_there_locked(v);
	pthread_mutex_unlock(&m->models->lock);
	version_tell(v, !is_there);
	model_tell(m);
}

static void forget_plan(struct version *v)
{
	struct model *m = v->model;
	int r = journal_version_remove(m->remote->journal, m->name, v->name);
	if (r < 0) /* the next mount finds that the version exists */
		log_warning("cannot journal that version %s of model %s is made: %s, ignoring", v->name,
			    m->name, strerror(-r));
}

void version_unplan(struct model *m, const char *name)
{
	pthread_mutex_lock(&m->models->lock);
	struct version *v = version_find_locked(m, name);
	pthread_mutex_unlock(&m->models->lock);
	if (!v)
		return;
	forget_plan(v);
	end_pending(v, NULL);
}

/* ---- making ---- */

static bool may_pass(int r)
{
	return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EAGAIN;
}

static void make_in_pool(void *arg);

static void start_making(struct models *models)
{
	pthread_mutex_lock(&models->lock);
	bool is_idle = !models->is_making && models->first_making;
	models->is_making |= is_idle;
	pthread_mutex_unlock(&models->lock);
	if (!is_idle || pool_submit(models->remote->pool, make_in_pool, models) == 0)
		return;
	pthread_mutex_lock(&models->lock);
	models->is_making = false;
	pthread_mutex_unlock(&models->lock);
}

static void make_again(void *arg)
{
	struct models *models = arg;
	if (!models->remote->serve->is_stopping)
		start_making(models);
}

static void append(struct models *models, struct making *making)
{
	LOCK_SCOPE(&models->lock);
	struct making **at = &models->first_making;
	while (*at)
		at = &(*at)->next;
	making->next = NULL;
	*at = making;
}

/* True when it is over, well or not. */
static bool make_one(struct making *making)
{
	struct version *v = making->version;
	struct model *m = v->model;
	struct fault fault = {0};
	struct backend *be;
	int r = remote_backend(m->remote, &be, &fault);
	if (r == 0)
		r = backend_model_version_create(be, m->name, v->name, making->job, NULL, &fault);
	crash_point("made");
	if (may_pass(r)) {
		log_warning("models/%s/%s: %s; trying again", m->name, v->name, fault.text);
		return false;
	}
	forget_plan(v);
	bool is_made = r == 0 || r == -EEXIST;
	if (!is_made)
		model_report(m, v->name, -r, fault.text);
	cleanup_free char *why = is_made ? NULL : strdup(fault.text);
	r = model_refresh(m, &fault);
	if (r < 0) { /* it is there, and cannot be seen just now */
		log_debug("models/%s: %s", m->name, fault.text);
		pthread_mutex_lock(&m->models->lock);
		v->is_unsure = m->is_stale = true;
		pthread_mutex_unlock(&m->models->lock);
	}
	if (r == 0 || !is_made)
		end_pending(v, why);
	return true;
}

static struct making *next_making(struct models *models)
{
	LOCK_SCOPE(&models->lock);
	struct making *making = models->first_making;
	if (!making || models->remote->serve->is_stopping) {
		models->is_making = false;
		return NULL;
	}
	models->first_making = making->next;
	return making;
}

static void make_in_pool(void *arg)
{
	struct models *models = arg;
	struct making *making;
	while ((making = next_making(models))) {
		if (make_one(making)) {
			making_free(making);
			continue;
		}
		append(models, making);
		pthread_mutex_lock(&models->lock);
		models->is_making = false;
		pthread_mutex_unlock(&models->lock);
		/* else the next mount */
		(void)timers_in(models->remote->serve->timers, AGAIN_MS, make_again, models);
		return;
	}
}

int version_make(struct model *m, const char *name, const char *job)
{
	struct making *making = calloc(1, sizeof(*making));
	if (!making)
		return -ENOMEM;
	int r = known_version(m, name, &making->version);
	making->job = strdup(job);
	if (r < 0 || !making->job) {
		making_free(making);
		return -ENOMEM;
	}
	append(m->models, making);
	start_making(m->models);
	return 0;
}

/* ---- after a restart ---- */

struct planned {
	char *model, *version, *job;
	struct planned *next;
};

struct resume {
	struct remote *remote;
	struct planned *first;
};

static void planned_free(struct planned *planned)
{
	free(planned->model);
	free(planned->version);
	free(planned->job);
	free(planned);
}

static int take_plan(void *arg, const char *model, const char *version, const char *job, const char *owner)
{
	struct resume *resume = arg;
	if (remote_mount_is_alive(resume->remote, owner))
		return 0;
	struct planned *planned = calloc(1, sizeof(*planned));
	if (!planned)
		return -ENOMEM;
	planned->model = strdup(model);
	planned->version = strdup(version);
	planned->job = strdup(job);
	if (!planned->model || !planned->version || !planned->job) {
		planned_free(planned);
		return -ENOMEM;
	}
	planned->next = resume->first;
	resume->first = planned;
	return 0;
}

/* The row gets this mount as its owner. */
static int adopt(struct models *models, const struct planned *planned)
{
	struct remote *remote = models->remote;
	int r = journal_version_remove(remote->journal, planned->model, planned->version);
	if (r == 0)
		r = journal_version_add(remote->journal, planned->model, planned->version, planned->job,
					remote->serve->id);
	if (r == 0)
		models_note_pending(models, planned->model, planned->version, true);
	struct model *m = r == 0 ? models_find(models, planned->model) : NULL;
	return m ? version_make(m, planned->version, planned->job) : r;
}

int models_resume_making(struct models *models)
{
	struct resume resume = {.remote = models->remote};
	int r = journal_versions(models->remote->journal, take_plan, &resume);
	while (resume.first) {
		struct planned *planned = resume.first;
		resume.first = planned->next;
		if (r == 0 && adopt(models, planned) < 0)
			log_warning("cannot go on with version %s of model %s, ignoring", planned->version,
				    planned->model);
		planned_free(planned);
	}
	return r;
}

/* ---- deleting ---- */

int version_may_remove_locked(struct call *c, const struct version *v)
{
	const struct model *m = v->model;
	const char *alias = alias_of_locked(v);
	if (!version_is_there_locked(v))
		return -ENOENT;
	if (alias && strcmp(alias, "default") == 0)
		return fault_set(
			&c->fault, EBUSY,
			"version %s is the default of model %s: point `default` at another one first",
			v->name, m->name);
	if (alias)
		return fault_set(
			&c->fault, EBUSY,
			"version %s of model %s is what the alias %s points at: move or remove that first",
			v->name, m->name, alias);
	enum version_state state = version_state_locked(v);
	if (state == VERSION_CREATING || state == VERSION_DELETING)
		return fault_set(&c->fault, EBUSY, "version %s of model %s is %s; wait until that is over",
				 v->name, m->name, version_state_name(state));
	return 0;
}

static int remove_listed(struct call *c, struct version *v)
{
	struct model *m = v->model;
	struct backend *be;
	version_tell(v, false);
	int r = remote_backend(m->remote, &be, &c->fault);
	if (r == 0)
		r = backend_model_version_remove(be, m->name, v->name, &c->fault);
	return r == -ENOENT ? 0 : r;
}

int version_remove(struct call *c, struct version *v)
{
	struct model *m = v->model;
	pthread_mutex_lock(&m->models->lock);
	int r = version_may_remove_locked(c, v);
	bool is_listed = v->is_listed;
	v->is_removing |= r == 0;
	pthread_mutex_unlock(&m->models->lock);
	if (r < 0)
		return r;
	if (is_listed)
		r = remove_listed(c, v);
	pthread_mutex_lock(&m->models->lock);
	v->is_removing = false;
	if (r == 0) {
		v->is_listed = v->is_ours = false;
		free(v->failure);
		v->failure = NULL;
	}
	model_touch_locked(m);
	pthread_mutex_unlock(&m->models->lock);
	version_tell(v, false); /* the kernel drops the name itself */
	model_load_previous(m);
	model_tell(m);
	return r;
}
