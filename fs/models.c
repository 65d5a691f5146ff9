/* SPDX-License-Identifier: MIT */
/*
 * The table of a remote's models. One lock, held for moments only, never over a call of the backend, the journal, a
 * reply or a notification. What is in it comes from models_read.c, and from what is done through this mount.
 */
#include "models.h"

#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "drafts.h"
#include "kinds.h"
#include "log.h"
#include "model.h"
#include "model_held.h"
#include "node_version.h"
#include "notify.h"
#include "pool.h"
#include "remote.h"
#include "report.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

enum { MODELS_MAX = 1 << 20 };

int models_new(struct remote *remote, struct models **ret)
{
	struct models *models = calloc(1, sizeof(*models));
	if (!models)
		return -ENOMEM;
	models->remote = remote;
	models->changed_ns = remote->serve->started_ns;
	clock_condition_init(&models->changed);
	pthread_mutex_init(&models->lock, NULL);
	*ret = models;
	return 0;
}

static void version_free(struct version *v)
{
	free(v->name);
	free(v->why);
	free(v->job);
	free(v->api);
	free(v->failure);
	json_decref(v->job_record);
	free(v);
}

void aliases_free(struct alias_entry *alias, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(alias[i].name);
		free(alias[i].version);
	}
	free(alias);
}

static void model_free(struct model *m)
{
	for (size_t i = 0; i < m->n_versions; i++)
		version_free(m->version[i]);
	free(m->version);
	aliases_free(m->alias, m->n_aliases);
	held_clear(m);
	free(m->previous);
	free(m->name);
	free(m);
}

void models_free(struct models *models)
{
	if (!models)
		return;
	models_free_making(models);
	for (size_t i = 0; i < models->n_models; i++)
		model_free(models->model[i]);
	free(models->model);
	pthread_cond_destroy(&models->changed);
	pthread_mutex_destroy(&models->lock);
	free(models);
}

int models_start(struct models *models)
{
	if (!backend_has_models(models->remote->be))
		return 0;
	return models_resume_making(models);
}

void models_flush(struct models *models)
{
	for (size_t i = 0;; i++) {
		pthread_mutex_lock(&models->lock);
		struct model *m = i < models->n_models ? models->model[i] : NULL;
		pthread_mutex_unlock(&models->lock);
		if (!m)
			return;
		held_flush(m);
	}
}

/* ---- models ---- */

struct model *models_find_locked(struct models *models, const char *name)
{
	for (size_t i = 0; i < models->n_models; i++)
		if (strcmp(models->model[i]->name, name) == 0)
			return models->model[i];
	return NULL;
}

struct model *models_find(struct models *models, const char *name)
{
	LOCK_SCOPE(&models->lock);
	return models_find_locked(models, name);
}

static int add_locked(struct models *models, const char *name, struct model **ret)
{
	if (models->n_models >= MODELS_MAX)
		return -EFBIG;
	struct model **grown = reallocarray(models->model, models->n_models + 1, sizeof(struct model *));
	if (!grown)
		return -ENOMEM;
	models->model = grown;
	struct model *m = calloc(1, sizeof(*m));
	if (!m || !(m->name = strdup(name))) {
		free(m);
		return -ENOMEM;
	}
	m->models = models;
	m->remote = models->remote;
	m->changed_ns = models->changed_ns;
	*ret = models->model[models->n_models++] = m;
	return 0;
}

int models_add_locked(struct models *models, const char *name, struct model **ret)
{
	*ret = models_find_locked(models, name);
	return *ret ? 0 : add_locked(models, name, ret);
}

bool model_is_shown_locked(const struct model *m)
{
	return m->is_listed || m->has_job || versions_count_locked(m) > 0;
}

void model_tell_entry(struct model *m)
{
	notify_names(m->remote->serve->notify, &kind_models, m->remote, 0);
}

int models_set_listed(struct models *models, const char *name, bool is_listed)
{
	struct model *m;
	pthread_mutex_lock(&models->lock);
	int r = models_add_locked(models, name, &m);
	if (r == 0) {
		m->is_listed = is_listed;
		m->revision++;
		m->changed_ns = models->changed_ns = clock_wall_ns();
	}
	pthread_mutex_unlock(&models->lock);
	return r;
}

void models_note_job(struct models *models, const char *model)
{
	struct model *m;
	if (!str_is_plain_name(model))
		return;
	pthread_mutex_lock(&models->lock);
	bool is_new = models_add_locked(models, model, &m) == 0 && !model_is_shown_locked(m);
	if (m) /* without memory for it, a later job shows it */
		m->has_job = true;
	pthread_mutex_unlock(&models->lock);
	if (is_new)
		model_tell_entry(m);
}

/* ---- versions ---- */

bool version_is_there_locked(const struct version *v)
{
	return v->is_listed || v->is_pending || v->failure;
}

/* One that this mount is making has failed once it is given up, with its sentence in errors, whatever a listing says. */
static bool is_as_listed_locked(const struct version *v)
{
	return v->is_listed && !(v->is_pending && v->state == VERSION_FAILED);
}

enum version_state version_state_locked(const struct version *v)
{
	if (v->is_removing)
		return VERSION_DELETING;
	if (is_as_listed_locked(v))
		return v->state;
	return v->is_pending ? VERSION_CREATING : VERSION_FAILED;
}

const char *version_why_locked(const struct version *v)
{
	const char *why = is_as_listed_locked(v) ? v->why : v->failure;
	return why ? why : "";
}

static struct version *version_known_locked(struct model *m, const char *name)
{
	for (size_t i = 0; i < m->n_versions; i++)
		if (strcmp(m->version[i]->name, name) == 0)
			return m->version[i];
	return NULL;
}

struct version *version_find_locked(struct model *m, const char *name)
{
	struct version *v = version_known_locked(m, name);
	return v && version_is_there_locked(v) ? v : NULL;
}

int version_add_locked(struct model *m, const char *name, struct version **ret)
{
	*ret = version_known_locked(m, name);
	if (*ret)
		return 0;
	struct version **grown = reallocarray(m->version, m->n_versions + 1, sizeof(struct version *));
	if (!grown)
		return -ENOMEM;
	m->version = grown;
	struct version *v = calloc(1, sizeof(*v));
	if (!v || !(v->name = strdup(name))) {
		free(v);
		return -ENOMEM;
	}
	v->model = m;
	*ret = m->version[m->n_versions++] = v;
	return 0;
}

size_t versions_count_locked(const struct model *m)
{
	size_t n = 0;
	for (size_t i = 0; i < m->n_versions; i++)
		n += version_is_there_locked(m->version[i]);
	return n;
}

/* ---- aliases ---- */

const char *alias_find_locked(const struct model *m, const char *name)
{
	for (size_t i = 0; i < m->n_aliases; i++)
		if (strcmp(m->alias[i].name, name) == 0)
			return m->alias[i].version;
	return NULL;
}

const char *alias_of_locked(const struct version *v)
{
	const struct model *m = v->model;
	for (size_t i = 0; i < m->n_aliases; i++)
		if (strcmp(m->alias[i].version, v->name) == 0)
			return m->alias[i].name;
	return NULL;
}

struct version *model_resolve_locked(struct model *m, const char *name)
{
	const char *target = alias_find_locked(m, name);
	if (!target && strcmp(name, "previous") == 0)
		target = m->previous;
	return version_find_locked(m, target ? target : name);
}

int alias_put_locked(struct model *m, const char *name, const char *version)
{
	char *copy = strdup(version);
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_aliases; i++)
		if (strcmp(m->alias[i].name, name) == 0) {
			free(m->alias[i].version);
			m->alias[i].version = copy;
			return 0;
		}
	char *own_name = strdup(name);
	struct alias_entry *grown = reallocarray(m->alias, m->n_aliases + 1, sizeof(*grown));
	if (grown)
		m->alias = grown;
	if (!own_name || !grown) {
		free(own_name);
		free(copy);
		return -ENOMEM;
	}
	m->alias[m->n_aliases++] = (struct alias_entry){.name = own_name, .version = copy};
	return 0;
}

void alias_drop_locked(struct model *m, const char *name)
{
	for (size_t i = 0; i < m->n_aliases; i++)
		if (strcmp(m->alias[i].name, name) == 0) {
			free(m->alias[i].name);
			free(m->alias[i].version);
			m->alias[i] = m->alias[--m->n_aliases];
			return;
		}
}

/* ---- telling ---- */

void model_touch_locked(struct model *m)
{
	m->revision++;
	m->changed_ns = clock_wall_ns();
}

void model_tell(struct model *m)
{
	struct notify *notify = m->remote->serve->notify;
	notify_attr(notify, &kind_model, m, 0, NULL);
	notify_attr(notify, &kind_model_file, m, MODEL_FILE_JSON, NULL);
	notify_attr(notify, &kind_model_file, m, MODEL_FILE_HISTORY, NULL);
}

void version_tell(struct version *v, bool came_or_went)
{
	struct model *m = v->model;
	struct notify *notify = m->remote->serve->notify;
	for (uint32_t file = 0; file < VERSION_FILE_MAX; file++)
		notify_attr(notify, &kind_version_file, v, file, NULL);
	notify_attr(notify, &kind_version, v, 0, NULL);
	if (came_or_went)
		notify_names(notify, &kind_model, m, 0);
}

void model_report(struct model *m, const char *name, int err, const char *sentence)
{
	struct serve *serve = m->remote->serve;
	const char *remote = m->remote->conf->name;
	cleanup_free char *path = NULL;
	if (str_format(&path, "%s%smodels/%s/%s", serve->is_single ? "" : remote, serve->is_single ? "" : "/",
		       m->name, name) == 0)
		report_error(serve->report, remote, path, err, sentence);
	log_error("models/%s/%s: %s: %s", m->name, name, fault_name(err), sentence);
}

/* ---- versions from drafts ---- */

static void refresh_behind(void *arg)
{
	struct fault fault = {0};
	struct model *m = arg;
	if (model_refresh(m, &fault) < 0)
		log_debug("models/%s: %s", m->name, fault.text); /* whoever looks is told */
}

static void begin_pending(struct models *models, const char *model, const char *version)
{
	struct model *m;
	struct version *v;
	pthread_mutex_lock(&models->lock);
	int r = models_add_locked(models, model, &m);
	if (r == 0)
		r = version_add_locked(m, version, &v);
	if (r == 0) {
		v->is_pending = v->is_ours = true;
		v->is_unsure = false;
		v->created_ns = v->created_ns ? v->created_ns : clock_wall_ns();
		free(v->failure);
		v->failure = NULL;
		model_touch_locked(m);
	}
	pthread_mutex_unlock(&models->lock);
	if (r < 0)
		return; /* the next reading shows it */
	version_tell(v, true);
	model_tell(m);
}

void models_note_pending(struct models *models, const char *model, const char *version, bool is_pending)
{
	struct remote *remote = models->remote;
	if (is_pending) {
		begin_pending(models, model, version);
		return;
	}
	struct model *m = models_find(models, model);
	if (!m)
		return;
	notify_names(remote->serve->notify, &kind_model, m, 0);
	if (drafts_find(remote->drafts, PLACE_MODEL, model, version))
		return; /* it is still there: open, or being sent */
	pthread_mutex_lock(&models->lock);
	struct version *v = version_find_locked(m, version);
	bool was_pending = v && v->is_pending;
	if (was_pending)
		v->is_unsure = m->is_stale = true;
	pthread_mutex_unlock(&models->lock);
	if (was_pending)
		(void)pool_submit(remote->pool, refresh_behind, m); /* else the first who looks reads it */
}

bool models_has_name(struct models *models, const char *model, const char *name)
{
	if (strcmp(name, "default") == 0 || strcmp(name, "previous") == 0 ||
	    strcmp(name, "model.json") == 0 || strcmp(name, "history.tsv") == 0)
		return true;
	LOCK_SCOPE(&models->lock);
	struct model *m = models_find_locked(models, model);
	return m && (version_find_locked(m, name) || alias_find_locked(m, name) || held_find_locked(m, name));
}
