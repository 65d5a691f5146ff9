/* SPDX-License-Identifier: MIT */
/*
 * Reads models from the backend into the table, model by model. What we change ourselves while a reading is under way
 * raises the model's revision, and the reading is done again: so an old answer never undoes a switch.
 */
#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "jobs.h"
#include "kinds.h"
#include "model.h"
#include "model_json.h"
#include "remote.h"
#include "report.h"

#include <errno.h>
#include <string.h>

enum { NAMES_MAX = 1 << 20, READ_TRIES = 3, PREVIOUS_MS = 10000 };

/* What a reading changed, to be told without the lock. */
struct change {
	bool is_any, is_first;
	bool was_shown, is_shown;
	struct version **version; /* changed ones */
	bool *has_moved;          /* came or went */
	size_t n;
	char *first_default; /* owned */
};

static bool is_same_text(const char *a, const char *b)
{
	return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool take_text(char **to, char **from)
{
	if (is_same_text(*to, *from))
		return false;
	free(*to);
	*to = STEAL(*from);
	return true;
}

static bool take_entry_locked(struct version *v, struct version_entry *e)
{
	bool is_new = !v->is_listed || v->state != e->state || v->created_ns != e->created_ns;
	if (!is_same_text(v->job, e->job) ||
	    v->created_ns != e->created_ns) { /* another version of that name */
		json_decref(v->job_record);
		v->job_record = NULL;
	}
	is_new |= take_text(&v->why, &e->why);
	is_new |= take_text(&v->job, &e->job);
	is_new |= take_text(&v->api, &e->api);
	v->is_listed = true;
	v->state = e->state;
	v->created_ns = e->created_ns;
	free(v->failure);
	v->failure = NULL;
	return is_new;
}

static void note_change_locked(struct change *change, struct version *v, bool was_there)
{
	v->changed_ns = change->is_first ? v->created_ns : clock_wall_ns();
	change->is_any = true;
	if (!change->version)
		return;
	change->has_moved[change->n] = was_there != version_is_there_locked(v);
	change->version[change->n++] = v;
}

static bool detail_has(const struct model_detail *detail, const char *name)
{
	for (size_t i = 0; i < detail->n_versions; i++)
		if (strcmp(detail->version[i].name, name) == 0)
			return true;
	return false;
}

static void apply_versions_locked(struct model *m, struct model_detail *detail, struct change *change)
{
	for (size_t i = 0; i < m->n_versions; i++) {
		struct version *v = m->version[i];
		bool is_gone = v->is_listed && !detail_has(detail, v->name);
		bool was_there = version_is_there_locked(v);
		bool was_unsure = v->is_unsure;
		v->is_listed &= !is_gone;
		v->is_pending &= !was_unsure;
		v->is_unsure = false;
		if (is_gone || (was_unsure && !v->is_listed && !detail_has(detail, v->name)))
			note_change_locked(change, v, was_there);
	}
	for (size_t i = 0; i < detail->n_versions; i++) {
		struct version *v;
		if (version_add_locked(m, detail->version[i].name, &v) < 0)
			continue; /* the next reading has it */
		bool was_there = version_is_there_locked(v);
		if (take_entry_locked(v, &detail->version[i]))
			note_change_locked(change, v, was_there);
	}
}

static bool has_same_aliases_locked(const struct model *m, const struct model_detail *detail)
{
	if (m->n_aliases != detail->n_aliases)
		return false;
	for (size_t i = 0; i < detail->n_aliases; i++) {
		const char *version = alias_find_locked(m, detail->alias[i].name);
		if (!version || strcmp(version, detail->alias[i].version) != 0)
			return false;
	}
	return true;
}

static void apply_aliases_locked(struct model *m, struct model_detail *detail, struct change *change)
{
	if (has_same_aliases_locked(m, detail))
		return;
	change->is_any = true;
	bool had_default = alias_find_locked(m, "default");
	struct alias_entry *old = m->alias;
	size_t n_old = m->n_aliases;
	m->alias = STEAL(detail->alias);
	m->n_aliases = detail->n_aliases;
	detail->n_aliases = 0;
	aliases_free(old, n_old);
	const char *now = alias_find_locked(m, "default");
	struct version *v = now ? version_find_locked(m, now) : NULL;
	if (v && !had_default && v->is_ours && m->n_switching == 0)
		change->first_default = strdup(now); /* without it, history lacks a line */
}

static int64_t newest_locked(const struct model *m, int64_t at_least)
{
	int64_t newest = at_least;
	for (size_t i = 0; i < m->n_versions; i++)
		if (m->version[i]->created_ns > newest)
			newest = m->version[i]->created_ns;
	return newest;
}

static void apply_locked(struct model *m, struct model_detail *detail, bool is_listed, struct change *change)
{
	size_t room = m->n_versions + detail->n_versions + 1;
	change->version = calloc(room, sizeof(struct version *)); /* without memory: lifetimes tell */
	change->has_moved = calloc(room, sizeof(bool));
	if (!change->has_moved) {
		free(change->version);
		change->version = NULL;
	}
	change->is_first = !m->is_read;
	change->was_shown = model_is_shown_locked(m);
	change->is_any = m->is_listed != is_listed;
	m->is_listed = is_listed;
	apply_versions_locked(m, detail, change);
	apply_aliases_locked(m, detail, change);
	change->is_shown = model_is_shown_locked(m);
	m->is_read = true;
	m->is_stale = false;
	if (!change->is_any)
		return;
	m->changed_ns = change->is_first ? newest_locked(m, m->changed_ns) : clock_wall_ns();
	if (m->changed_ns > m->models->changed_ns)
		m->models->changed_ns = m->changed_ns;
	pthread_cond_broadcast(&m->models->changed);
}

/* The job that a version was made from has a link to it. */
static void tell_job(struct version *v)
{
	struct model *m = v->model;
	pthread_mutex_lock(&m->models->lock);
	cleanup_free char *job = v->job ? strdup(v->job) : NULL;
	pthread_mutex_unlock(&m->models->lock);
	if (job)
		jobs_forget_facts(m->remote->jobs, job);
}

static void tell_change(struct model *m, struct change *change)
{
	if (change->first_default)
		model_note_first_default(m, change->first_default);
	if (change->is_any || change->is_first)
		model_load_previous(m);
	for (size_t i = 0; i < change->n; i++) {
		struct version *v = change->version[i];
		version_tell(v, change->has_moved[i]);
		tell_job(v);
		if (!change->is_first)
			report_touch(m->remote, "models/%s/%s/state", m->name, v->name);
	}
	if (change->was_shown != change->is_shown)
		model_tell_entry(m);
	if (change->is_any)
		model_tell(m);
	free(change->version);
	free(change->has_moved);
	free(change->first_default);
}

/* Versions whose job is not described yet: what model.json says of it is read once. */
static void load_job_records(struct model *m)
{
	for (;;) {
		cleanup_free char *job = NULL;
		struct version *v = NULL;
		pthread_mutex_lock(&m->models->lock);
		for (size_t i = 0; i < m->n_versions && !v; i++)
			if (m->version[i]->is_listed && m->version[i]->job && !m->version[i]->job_record)
				v = m->version[i];
		if (v)
			job = strdup(v->job);
		pthread_mutex_unlock(&m->models->lock);
		json_t *record = job ? model_json_job(m->remote, job) : NULL;
		if (!record)
			return;
		pthread_mutex_lock(&m->models->lock);
		json_decref(v->job_record);
		v->job_record = record;
		pthread_mutex_unlock(&m->models->lock);
		model_tell(m);
	}
}

static bool is_recent(struct model *m)
{
	LOCK_SCOPE(&m->models->lock);
	return m->is_read && clock_wall_ns() - m->changed_ns < (int64_t)PREVIOUS_MS * 1000000;
}

/* One try; *ret_is_done is false when it has to be made again. */
static int read_once(struct model *m, struct backend *be, bool is_last, bool *ret_is_done,
		     struct fault *reterr)
{
	struct model_detail detail = {0};
	struct change change = {0};
	struct fault fault = {0};
	pthread_mutex_lock(&m->models->lock);
	uint64_t revision = m->revision;
	pthread_mutex_unlock(&m->models->lock);
	int r = backend_model_get(be, m->name, &detail, &fault);
	if (r < 0 && r != -ENOENT)
		return fault_set(reterr, -r, "%s", fault.text);
	pthread_mutex_lock(&m->models->lock);
	bool is_done = revision == m->revision || is_last;
	if (is_done)
		apply_locked(m, &detail, r == 0, &change);
	pthread_mutex_unlock(&m->models->lock);
	model_detail_release(&detail);
	if (is_done)
		tell_change(m, &change);
	*ret_is_done = is_done;
	return 0;
}

int model_refresh(struct model *m, struct fault *reterr)
{
	struct backend *be;
	int r = remote_backend(m->remote, &be, reterr);
	bool is_done = false;
	for (int try = 1; r == 0 && !is_done; try++)
		r = read_once(m, be, try == READ_TRIES, &is_done, reterr);
	if (r < 0)
		return r;
	if (model_settle_switches(m) ||
	    is_recent(m)) /* another mount journals its switch just after it was made */
		model_load_previous(m);
	load_job_records(m);
	return 0;
}

struct names {
	char **name;
	size_t n;
};

static void names_release(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->name[i]);
	free(names->name);
}

static int take_name(void *arg, const char *name)
{
	struct names *names = arg;
	if (names->n >= NAMES_MAX)
		return -EFBIG;
	char **grown = reallocarray(names->name, names->n + 1, sizeof(char *));
	if (!grown)
		return -ENOMEM;
	names->name = grown;
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	names->name[names->n++] = copy;
	return 0;
}

/* Models that are in the table and no longer at the backend are read too: that is how they end. */
static int add_known(struct models *models, struct names *names)
{
	LOCK_SCOPE(&models->lock);
	int r = 0;
	size_t n_listed = names->n;
	for (size_t i = 0; i < n_listed && r == 0; i++) {
		struct model *m;
		r = models_add_locked(models, names->name[i], &m);
	}
	for (size_t i = 0; i < models->n_models && r == 0; i++) {
		struct model *m = models->model[i];
		bool is_named = false;
		for (size_t j = 0; j < n_listed && !is_named; j++)
			is_named = strcmp(names->name[j], m->name) == 0;
		if (!is_named && (m->is_listed || m->is_stale || versions_count_locked(m) > 0))
			r = take_name(names, m->name);
		else if (!is_named)
			m->is_read = true;
	}
	return r;
}

/* Which models have a job? One whose last job was deleted is not shown for it any more. */
static void count_jobs(struct models *models)
{
	cleanup_free struct job **job = NULL;
	size_t n = 0;
	if (jobs_snapshot(models->remote->jobs, &job, &n) < 0)
		return;
	for (size_t i = 0;; i++) {
		pthread_mutex_lock(&models->lock);
		struct model *m = i < models->n_models ? models->model[i] : NULL;
		bool had_job = m && m->has_job;
		pthread_mutex_unlock(&models->lock);
		if (!m)
			return;
		bool has_job = false;
		for (size_t j = 0; j < n && had_job && !has_job; j++)
			has_job = strcmp(job[j]->row.model, m->name) == 0; /* a job's model never changes */
		if (!had_job || has_job)
			continue;
		pthread_mutex_lock(&models->lock);
		m->has_job = false;
		bool is_gone = !model_is_shown_locked(m);
		pthread_mutex_unlock(&models->lock);
		if (is_gone)
			model_tell_entry(m);
	}
}

int models_refresh(struct models *models, struct fault *reterr)
{
	struct backend *be;
	struct names names = {0};
	int r = remote_backend(models->remote, &be, reterr);
	if (r == 0)
		r = backend_model_list(be, take_name, &names, reterr);
	if (r == 0)
		r = add_known(models, &names);
	for (size_t i = 0; r == 0 && i < names.n; i++)
		r = model_refresh(models_find(models, names.name[i]), reterr);
	names_release(&names);
	if (r < 0)
		return r;
	pthread_mutex_lock(&models->lock);
	bool was_known = models->is_known;
	models->is_known = true;
	pthread_mutex_unlock(&models->lock);
	if (was_known)
		count_jobs(models);
	return 0;
}

int models_ready(struct call *c, struct models *models, struct model *m)
{
	pthread_mutex_lock(&models->lock);
	bool is_known = models->is_known;
	bool is_current = is_known && (!m || !m->is_stale);
	pthread_mutex_unlock(&models->lock);
	if (is_current)
		return 0;
	int r = call_may_block(c, models->remote);
	if (r < 0)
		return r;
	return is_known ? model_refresh(m, &c->fault) : models_refresh(models, &c->fault);
}
