/* SPDX-License-Identifier: MIT */
/* models/: the models that the backend has, and those that jobs are of. */
#include "backend.h"
#include "cleanup.h"
#include "drafts.h"
#include "jobs.h"
#include "kinds.h"
#include "model.h"
#include "model_rename.h"
#include "node_version.h"
#include "remote.h"
#include "str.h"

#include <errno.h>
#include <string.h>

static int models_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct remote *remote = n->obj;
	LOCK_SCOPE(&remote->models->lock);
	model_node_attr(c, n, 0755, remote->models->changed_ns, TTL_LISTED, ret);
	return 0;
}

/* A list of jobs that cannot be had does not hide the models that the backend has. */
static int jobs_are_known(struct call *c, struct remote *remote)
{
	int r = remote->be && backend_has_jobs(remote->be) ? jobs_ready(c, remote->jobs) : 0;
	if (r == CALL_PARKED || r == -EAGAIN)
		return r;
	c->fault.text[0] = '\0';
	return 0;
}

static int find_shown(struct remote *remote, const char *name, struct child *ret)
{
	LOCK_SCOPE(&remote->models->lock);
	struct model *m = models_find_locked(remote->models, name);
	if (!m || !model_is_shown_locked(m))
		return -ENOENT;
	*ret = (struct child){.kind = &kind_model, .remote = remote, .obj = m, .type = S_IFDIR};
	return 0;
}

static int models_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct remote *remote = dir->obj;
	int r = models_ready(c, remote->models, NULL);
	if (r == 0)
		r = find_shown(remote, name, ret);
	if (r != -ENOENT)
		return r;
	r = jobs_are_known(c, remote);
	return r < 0 ? r : find_shown(remote, name, ret);
}

static int models_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct remote *remote = dir->obj;
	struct models *models = remote->models;
	int r = models_ready(c, models, NULL);
	if (r == 0)
		r = jobs_are_known(c, remote);
	if (r < 0)
		return r;
	LOCK_SCOPE(&models->lock);
	for (size_t i = 0; i < models->n_models && r == 0; i++) {
		struct child child = {
			.kind = &kind_model, .remote = remote, .obj = models->model[i], .type = S_IFDIR};
		if (model_is_shown_locked(models->model[i]))
			r = listing_add(ret, models->model[i]->name, &child);
	}
	return r;
}

int model_check_name(struct call *c, const char *what, const char *name)
{
	if (str_is_plain_name(name))
		return 0;
	return fault_set(&c->fault, EINVAL,
			 "%.200s: the name of a %s begins with a letter or digit and has only letters, "
			 "digits, '.', '_' "
			 "and '-', 128 at most",
			 name, what);
}

static int models_mkdir(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret)
{
	struct remote *remote = dir->obj;
	struct backend *be;
	int r = model_check_name(c, "model", name);
	if (r == 0)
		r = call_may_block(c, remote);
	if (r == 0)
		r = remote_backend(remote, &be, &c->fault);
	if (r == 0)
		r = backend_model_create(be, name, &c->fault);
	if (r == 0)
		r = models_set_listed(remote->models, name, true);
	if (r < 0)
		return r;
	struct model *m = models_find(remote->models, name);
	*ret = (struct child){.kind = &kind_model, .remote = remote, .obj = m, .type = S_IFDIR};
	return 0;
}

struct draft_search {
	const char *model;
	bool is_found;
};

static int is_draft_of_model(void *arg, struct draft *draft)
{
	struct draft_search *search = arg;
	search->is_found |= draft->place == PLACE_MODEL && strcmp(draft->model, search->model) == 0;
	return search->is_found;
}

static int may_remove_model(struct call *c, struct model *m)
{
	struct draft_search search = {.model = m->name};
	(void)drafts_each(m->remote->drafts, is_draft_of_model, &search);
	LOCK_SCOPE(&m->models->lock);
	if (search.is_found || versions_count_locked(m) > 0)
		return fault_set(&c->fault, ENOTEMPTY, "model %s has versions or drafts: remove those first",
				 m->name);
	if (m->has_job)
		return fault_set(&c->fault, EBUSY,
				 "models/%s is there as long as there are jobs of that model", m->name);
	return m->is_listed ? 0 : -ENOENT;
}

static int models_rmdir(struct call *c, struct node *dir, const char *name)
{
	struct remote *remote = dir->obj;
	struct backend *be;
	struct model *m = models_find(remote->models, name);
	if (!m)
		return -ENOENT;
	int r = call_may_block(c, remote);
	if (r == 0)
		r = model_refresh(m, &c->fault);
	if (r == 0)
		r = may_remove_model(c, m);
	if (r == 0)
		r = remote_backend(remote, &be, &c->fault);
	if (r == 0)
		r = backend_model_remove(be, name, &c->fault);
	return r < 0 ? r : models_set_listed(remote->models, name, false);
}

static int models_refuse_link(struct call *c, struct node *dir, const char *name, const char *target,
			      struct child *ret)
{
	return fault_set(&c->fault, EPERM, "a link to a job goes into a model: models/MODEL/%.200s", name);
}

const struct node_kind kind_models = {
	.name = "models",
	.type = S_IFDIR,
	.getattr = models_getattr,
	.lookup = models_lookup,
	.list = models_list,
	.mkdir = models_mkdir,
	.rmdir = models_rmdir,
	.symlink = models_refuse_link,
};
