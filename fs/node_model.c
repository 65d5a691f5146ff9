/* SPDX-License-Identifier: MIT */
/*
 * models/M. A name in a model's directory is, in this order: something held (model_held.h), one of its two
 * files, an alias, a version, a draft of a version.
 *
 * Links are switched in many ways. GNU ln makes a link of a passing name and renames it over the alias: one switch, in
 * the rename. busybox removes the alias and makes it anew: the removal is held back, and the new link is the switch.
 * Only a link with a name of its own waits, to see whether it is renamed.
 */
#include "backend.h"
#include "cleanup.h"
#include "drafts.h"
#include "kinds.h"
#include "model.h"
#include "model_held.h"
#include "model_rename.h"
#include "model_target.h"
#include "node_version.h"
#include "remote.h"
#include "serve_private.h"
#include "str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

/* ---- looking ---- */

static int model_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct model *m = n->obj;
	LOCK_SCOPE(&m->models->lock);
	if (!model_is_shown_locked(m))
		return -ENOENT;
	model_node_attr(c, n, 0755, m->changed_ns, TTL_LISTED, ret);
	return 0;
}

static struct child file_child(struct model *m, enum model_file file)
{
	return (struct child){&kind_model_file, m->remote, m, file, S_IFREG};
}

static struct child link_child(struct model *m)
{
	return (struct child){&kind_model_link, m->remote, m, NODE_BY_NAME, S_IFLNK};
}

static struct child version_child(struct version *v)
{
	return (struct child){&kind_version, v->model->remote, v, 0, S_IFDIR};
}

static int held_child_locked(struct model *m, struct held *held, struct child *ret)
{
	struct version *v;
	switch (held->type) {
	case HELD_REMOVED:
		return -ENOENT;
	case HELD_FILE:
		*ret = (struct child){&kind_model_scratch, m->remote, scratch_ref(held->file), 0, S_IFREG};
		return 0;
	case HELD_JOB:
		v = version_find_locked(m, held->name);
		*ret = v ? version_child(v) : link_child(m);
		return 0;
	case HELD_ALIAS:
		break;
	}
	*ret = link_child(m);
	return 0;
}

static bool is_link_locked(const struct model *m, const char *name)
{
	return alias_find_locked(m, name) || (m->previous && strcmp(name, "previous") == 0);
}

/* -ENODATA: it is not in the table. */
static int lookup_locked(struct model *m, const char *name, struct child *ret)
{
	struct held *held = held_find_locked(m, name);
	if (held)
		return held_child_locked(m, held, ret);
	bool has_files = versions_count_locked(m) > 0;
	if (has_files && strcmp(name, "model.json") == 0)
		*ret = file_child(m, MODEL_FILE_JSON);
	else if (has_files && strcmp(name, "history.tsv") == 0)
		*ret = file_child(m, MODEL_FILE_HISTORY);
	else if (is_link_locked(m, name))
		*ret = link_child(m);
	else if (version_find_locked(m, name))
		*ret = version_child(version_find_locked(m, name));
	else
		return -ENODATA;
	return 0;
}

static int model_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct model *m = dir->obj;
	int r = models_ready(c, m->models, m);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->models->lock);
	r = lookup_locked(m, name, ret);
	pthread_mutex_unlock(&m->models->lock);
	if (r != -ENODATA)
		return r;
	struct draft *draft = drafts_find(m->remote->drafts, PLACE_MODEL, m->name, name);
	return draft ? draft_child(draft, ret) : -ENOENT;
}

static int list_links_locked(struct model *m, struct listing *ret)
{
	struct child link = link_child(m);
	int r = 0;
	for (size_t i = 0; i < m->n_aliases && r == 0; i++)
		if (!held_find_locked(m, m->alias[i].name))
			r = listing_add(ret, m->alias[i].name, &link);
	if (r == 0 && m->previous)
		r = listing_add(ret, "previous", &link);
	return r;
}

/* A model without versions is an empty directory. */
static int list_files_locked(struct model *m, struct listing *ret)
{
	if (versions_count_locked(m) == 0)
		return 0;
	struct child json = file_child(m, MODEL_FILE_JSON), history = file_child(m, MODEL_FILE_HISTORY);
	int r = held_find_locked(m, "model.json") ? 0 : listing_add(ret, "model.json", &json);
	return r < 0 ? r : listing_add(ret, "history.tsv", &history);
}

/* By name only: a file's node is counted when it is looked up. */
static int list_held_locked(struct model *m, struct listing *ret)
{
	int r = 0;
	for (struct held *held = m->held; held && r == 0; held = held->next) {
		struct child child = {.kind = &kind_model_scratch, .remote = m->remote, .type = S_IFREG};
		if (held->type == HELD_ALIAS || (held->type == HELD_JOB && held->is_passing))
			child = link_child(m);
		if (held->type == HELD_FILE || child.kind == &kind_model_link)
			r = listing_add(ret, held->name, &child);
	}
	return r;
}

static int list_locked(struct model *m, struct listing *ret)
{
	LOCK_SCOPE(&m->models->lock);
	int r = list_files_locked(m, ret);
	if (r == 0)
		r = list_links_locked(m, ret);
	if (r == 0)
		r = list_held_locked(m, ret);
	for (size_t i = 0; i < m->n_versions && r == 0; i++) {
		struct child child = version_child(m->version[i]);
		if (version_is_there_locked(m->version[i]))
			r = listing_add(ret, m->version[i]->name, &child);
	}
	return r;
}

struct draft_names {
	struct model *m;
	struct listing *listing;
};

static int list_draft(void *arg, struct draft *draft)
{
	struct draft_names *names = arg;
	struct child child = {.kind = &kind_disk, .remote = names->m->remote, .type = S_IFDIR};
	if (draft->place != PLACE_MODEL || strcmp(draft->model, names->m->name) != 0 || draft->is_frozen)
		return 0;
	return listing_add(names->listing, draft->name, &child);
}

static int model_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct model *m = dir->obj;
	struct draft_names names = {m, ret};
	int r = models_ready(c, m->models, m);
	if (r == 0)
		r = list_locked(m, ret);
	return r < 0 ? r : drafts_each(m->remote->drafts, list_draft, &names);
}

static enum ttl model_missing_ttl(const struct node *dir)
{
	return TTL_NONE;
}

/* ---- making ---- */

static int refuse_taken(struct call *c, struct model *m, const char *name)
{
	if (!models_has_name(m->models, m->name, name))
		return 0;
	return fault_set(&c->fault, EEXIST,
			 "model %s has a %s already; a version never changes, nor is it replaced", m->name,
			 name);
}

/* May a version of that name be made? */
int model_check_version(struct call *c, struct model *m, const char *name)
{
	struct backend *be;
	int r = model_check_name(c, "version", name);
	if (r == 0)
		r = refuse_taken(c, m, name);
	if (r == 0)
		r = remote_backend(m->remote, &be, &c->fault);
	return r < 0 ? r : backend_model_check(be, m->name, name, &c->fault);
}

static int model_mkdir(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret)
{
	struct model *m = dir->obj;
	struct draft *draft;
	int r = model_check_name(c, "version", name);
	if (r == 0)
		r = call_may_block(c, m->remote);
	if (r == 0)
		r = models_ready(c, m->models, m);
	if (r == 0)
		r = model_check_version(c, m, name);
	if (r == 0)
		r = draft_make(c, m->remote->drafts, PLACE_MODEL, m->name, name, mode, &draft);
	return r < 0 ? r : draft_child(draft, ret);
}

static int refuse_derived(struct call *c, const char *name)
{
	if (strcmp(name, "previous") == 0)
		return fault_set(&c->fault, EPERM,
				 "previous tells which version was the default before; to go back to it: ln "
				 "-sfn previous "
				 "default");
	if (strcmp(name, "history.tsv") == 0)
		return fault_set(&c->fault, EPERM, "history.tsv is written by switching only");
	return 0;
}

static int link_to_version(struct call *c, struct model *m, const char *name, const char *target,
			   const char *version)
{
	bool is_passing = node_is_passing(name);
	pthread_mutex_lock(&m->models->lock);
	const struct held *old = held_find_locked(m, name);
	bool is_alias = alias_find_locked(m, name), is_removed = old && old->type == HELD_REMOVED;
	bool is_taken = version_find_locked(m, name) || (is_alias && !is_removed) || (old && !is_removed);
	pthread_mutex_unlock(&m->models->lock);
	struct held held = {
		.type = HELD_ALIAS,
		.name = (char *)name,
		.target = (char *)target,
		.meaning = (char *)version,
		.is_passing = is_passing,
		.pid = c->pid,
	};
	if (is_taken)
		return -EEXIST;
	if (is_passing)
		return held_add(m, &held, MODEL_PASSING_MS);
	int r = model_check_name(c, "alias", name);
	if (r < 0)
		return r;
	if (!is_alias && strcmp(name, "default") != 0)
		return held_add(m, &held, MODEL_HOLD_MS);
	r = model_switch(c, m, name, version);
	if (r < 0)
		return r;
	model_unhold(m, name); /* it was removed to be made anew */
	return 0;
}

static int link_to_job(struct call *c, struct model *m, const char *name, const char *target, const char *job)
{
	bool is_passing = node_is_passing(name);
	struct held held = {
		.type = HELD_JOB,
		.name = (char *)name,
		.target = (char *)target,
		.meaning = (char *)job,
		.is_passing = is_passing,
		.pid = c->pid,
	};
	if (is_passing)
		return held_add(m, &held, MODEL_PASSING_MS);
	if (strcmp(name, "default") == 0)
		return fault_set(&c->fault, EINVAL,
				 "default points at a version: first make one of the job (ln -s %.200s v1), "
				 "then ln -sfn v1 "
				 "default",
				 target);
	int r = model_check_version(c, m, name);
	if (r == 0)
		r = version_plan(c, m, name, job);
	if (r < 0)
		return r;
	r = held_add(m, &held, MODEL_HOLD_MS);
	return r < 0 ? version_make(m, name, job) : 0;
}

/* Emacs locks a file by a link that points nowhere. */
static int hold_lock(struct call *c, struct model *m, const char *name, const char *target)
{
	struct held held = {.type = HELD_ALIAS,
			    .name = (char *)name,
			    .target = (char *)target,
			    .is_passing = true,
			    .pid = c->pid};
	return held_add(m, &held, MODEL_PASSING_MS);
}

static int model_symlink(struct call *c, struct node *dir, const char *name, const char *target,
			 struct child *ret)
{
	struct model *m = dir->obj;
	struct target means = {0};
	*ret = link_child(m);
	if (str_has_prefix(name, ".#"))
		return hold_lock(c, m, name, target);
	int r = refuse_derived(c, name);
	if (r == 0 &&
	    (strcmp(name, "model.json") == 0 || drafts_find(m->remote->drafts, PLACE_MODEL, m->name, name)))
		r = -EEXIST;
	if (r == 0)
		r = call_may_block(c, m->remote);
	if (r == 0)
		r = models_ready(c, m->models, m);
	if (r == 0)
		r = model_target(c, m, target, &means);
	if (r < 0)
		return r;
	r = means.type == TARGET_JOB ? link_to_job(c, m, name, target, means.name)
				     : link_to_version(c, m, name, target, means.name);
	free(means.name);
	return r;
}

/* ---- removing ---- */

/* A link is gone at once here, and sent a moment later; default and model.json come back. */
static int hold_removal(struct call *c, struct model *m, const char *name)
{
	struct held held = {.type = HELD_REMOVED, .name = (char *)name, .pid = c->pid};
	pthread_mutex_lock(&m->models->lock);
	bool is_there = alias_find_locked(m, name) || strcmp(name, "model.json") == 0;
	bool is_refused = was_refused(c->pid, m->refused_pid, m->refused_ms);
	pthread_mutex_unlock(&m->models->lock);
	if (is_refused)
		return fault_set(&c->fault, EPERM,
				 "rm -r removes nothing of a model; remove its parts one by one");
	return is_there ? held_add(m, &held, MODEL_HOLD_MS) : -ENOENT;
}

static int model_unlink(struct call *c, struct node *dir, const char *name)
{
	struct model *m = dir->obj;
	int r = refuse_derived(c, name);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->models->lock);
	struct held *held = held_find_locked(m, name);
	bool is_held = held;
	if (held && held->is_sending)
		r = fault_set(&c->fault, EBUSY, "%s is being sent just now: try again in a moment", name);
	else if (held && held->type == HELD_REMOVED)
		r = -ENOENT;
	else if (held && (held->type != HELD_JOB || held->is_passing))
		held_drop_locked(m, held);
	else if (held)
		r = -EISDIR;
	pthread_mutex_unlock(&m->models->lock);
	return is_held ? r : hold_removal(c, m, name);
}

static int remove_version(struct call *c, struct model *m, const char *name)
{
	pthread_mutex_lock(&m->models->lock);
	struct version *v = version_find_locked(m, name);
	bool is_refused = v && was_refused(c->pid, v->refused_pid, v->refused_ms);
	struct held *held = held_find_locked(m, name);
	bool is_planned = held && held->type == HELD_JOB && !held->is_sending;
	if (is_planned && !is_refused)
		held_drop_locked(m, held);
	pthread_mutex_unlock(&m->models->lock);
	if (!v)
		return -ENOENT;
	if (is_refused)
		return fault_set(&c->fault, EPERM,
				 "rm -r removes nothing of a version; to delete all of version %s use rmdir "
				 "(its files need "
				 "no deleting)",
				 name);
	if (is_planned) {
		version_unplan(m, name);
		return 0;
	}
	return version_remove(c, v);
}

static int model_rmdir(struct call *c, struct node *dir, const char *name)
{
	struct model *m = dir->obj;
	int r = call_may_block(c, m->remote);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->models->lock);
	bool is_version = version_find_locked(m, name);
	pthread_mutex_unlock(&m->models->lock);
	struct draft *draft = is_version ? NULL : drafts_find(m->remote->drafts, PLACE_MODEL, m->name, name);
	return draft ? draft_remove(c, draft) : remove_version(c, m, name);
}

/* ---- files beside model.json ---- */

static bool may_be_beside(const char *name)
{
	return node_is_passing(name) || str_has_prefix(name, "sed") || strstr(name, "model.json") ||
	       strstr(name, "tmp") || str_has_suffix(name, ".json") || str_has_suffix(name, "~") ||
	       str_has_suffix(name, ".new") || str_has_suffix(name, ".bak");
}

/* An editor has put the old one aside: what is written is a save as any other. */
static int recreate_json(struct model *m, struct child *ret, int *ret_fd)
{
	int fd = memfd_create("model.json", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	model_unhold(m, "model.json");
	*ret = file_child(m, MODEL_FILE_JSON);
	*ret_fd = fd;
	return 0;
}

static int model_create(struct call *c, struct node *dir, const char *name, mode_t mode, int flags,
			struct child *ret, int *ret_fd)
{
	struct model *m = dir->obj;
	struct scratch *file;
	pthread_mutex_lock(&m->models->lock);
	bool is_empty = versions_count_locked(m) == 0;
	pthread_mutex_unlock(&m->models->lock);
	if (is_empty && strcmp(name, "model.json") == 0)
		return fault_set(&c->fault, EPERM,
				 "model %s has no versions yet: model.json has nothing to choose from",
				 m->name);
	if (strcmp(name, "model.json") == 0)
		return recreate_json(m, ret, ret_fd);
	if (strcmp(name, "history.tsv") == 0)
		return -EEXIST;
	if (!may_be_beside(name))
		return fault_set(&c->fault, EPERM,
				 "%.200s: a model takes no files but model.json; a version is a directory "
				 "(mkdir, cp -r) or a "
				 "link to a job",
				 name);
	int r = scratch_new("", 0, &file);
	if (r < 0)
		return r;
	file->mode = mode & 0777;
	struct held held = {
		.type = HELD_FILE, .name = (char *)name, .file = file, .is_passing = true, .pid = c->pid};
	int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	r = fd < 0 ? -errno : held_add(m, &held, MODEL_PASSING_MS);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		scratch_unref(file);
		return r;
	}
	file->n_open++;
	*ret = (struct child){&kind_model_scratch, m->remote, file, 0, S_IFREG};
	*ret_fd = fd;
	return 0;
}

const struct node_kind kind_model = {
	.name = "model",
	.type = S_IFDIR,
	.getattr = model_getattr,
	.lookup = model_lookup,
	.list = model_list,
	.missing_ttl = model_missing_ttl,
	.mkdir = model_mkdir,
	.rmdir = model_rmdir,
	.unlink = model_unlink,
	.symlink = model_symlink,
	.create = model_create,
	.rename = model_rename,
};
