/* SPDX-License-Identifier: MIT */
/*
 * Renames by what is renamed: a held link over an alias is a switch; a held link to a job becomes a version of its new
 * name; a file over model.json is a save; an alias takes another name; an open draft goes its way. Versions stay.
 */
#include "model_rename.h"

#include "backend.h"
#include "cleanup.h"
#include "drafts.h"
#include "inode.h"
#include "journal.h"
#include "kinds.h"
#include "model_held.h"
#include "model_json.h"
#include "node_version.h"
#include "notify.h"
#include "remote.h"
#include "serve_private.h"
#include "str.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void model_unhold(struct model *m, const char *name)
{
	LOCK_SCOPE(&m->models->lock);
	struct held *held = held_find_locked(m, name);
	if (held && !held->is_sending)
		held_drop_locked(m, held);
}

/* A copy of what is held under that name; HELD_… type, or -ENOENT. */
struct found {
	enum held_type type;
	char *meaning;
	struct scratch *file;
};

static void found_release(struct found *found)
{
	free(found->meaning);
	scratch_unref(found->file);
}

static int find_held(struct call *c, struct model *m, const char *name, struct found *ret)
{
	LOCK_SCOPE(&m->models->lock);
	struct held *held = held_find_locked(m, name);
	if (!held)
		return -ENODATA;
	if (held->type == HELD_REMOVED)
		return -ENOENT;
	if (held->is_sending)
		return fault_set(&c->fault, EBUSY, "%s is being sent just now: try again in a moment", name);
	ret->type = held->type;
	ret->meaning = held->meaning ? strdup(held->meaning) : NULL;
	ret->file = held->file ? scratch_ref(held->file) : NULL;
	return held->meaning && !ret->meaning ? -ENOMEM : 0;
}

static int rename_held(struct model *m, const char *name, const char *newname)
{
	LOCK_SCOPE(&m->models->lock);
	struct held *held = held_find_locked(m, name);
	return held ? held_rename_locked(m, held, newname) : -ENOENT;
}

static bool is_version(struct model *m, const char *name)
{
	LOCK_SCOPE(&m->models->lock);
	return version_find_locked(m, name);
}

static bool is_alias(struct model *m, const char *name)
{
	LOCK_SCOPE(&m->models->lock);
	return alias_find_locked(m, name);
}

static int refuse_target(struct call *c, struct model *m, const char *newname)
{
	if (strcmp(newname, "previous") == 0)
		return fault_set(&c->fault, EPERM,
				 "previous tells which version was the default before; to go back to it: ln "
				 "-sfn previous "
				 "default");
	if (strcmp(newname, "history.tsv") == 0)
		return fault_set(&c->fault, EPERM, "history.tsv is written by switching only");
	if (is_version(m, newname))
		return fault_set(&c->fault, EEXIST,
				 "model %s has a version %s already, and a version is never replaced",
				 m->name, newname);
	return 0;
}

/* An alias of that name now: in one step. */
static int become_alias(struct call *c, struct model *m, const char *name, const char *newname,
			const char *version)
{
	if (strcmp(newname, "model.json") == 0)
		return fault_set(&c->fault, EPERM, "model.json is a file, not a link");
	if (node_is_passing(newname))
		return rename_held(m, name, newname);
	if (!version)
		return fault_set(&c->fault, EPERM, "%.200s does not point at a version", name);
	if (!str_is_plain_name(newname))
		return fault_set(&c->fault, EPERM, "%.200s: not a name for an alias", newname);
	int r = model_switch(c, m, newname, version);
	if (r < 0)
		return r;
	model_unhold(m, name);
	model_unhold(m, newname);
	return 0;
}

static int become_version(struct call *c, struct model *m, const char *name, const char *newname,
			  const char *job)
{
	if (node_is_passing(newname) && node_is_passing(name))
		return rename_held(m, name, newname);
	if (strcmp(newname, "default") == 0 || is_alias(m, newname))
		return fault_set(&c->fault, EPERM,
				 "%s points at a version: first make one of the job (ln -s ../../jobs/%s "
				 "v1), then ln -sfn v1 "
				 "%s",
				 newname, job, newname);
	int r = model_check_version(c, m, newname);
	if (r == 0)
		r = version_plan(c, m, newname, job);
	if (r < 0)
		return r;
	model_unhold(m, name);
	if (!node_is_passing(name))
		version_unplan(m, name);
	return version_make(m, newname, job);
}

static int become_file(struct call *c, struct model *m, const char *name, const char *newname,
		       const struct scratch *file)
{
	cleanup_free char *text = NULL;
	size_t len;
	if (is_alias(m, newname))
		return fault_set(&c->fault, EPERM, "%s is a link to a version: ln -sfn", newname);
	if (strcmp(newname, "model.json") != 0)
		return rename_held(m, name, newname);
	int r = scratch_read(file, &text, &len);
	if (r == 0)
		r = model_save(c, m, text, len);
	if (r < 0)
		return r;
	model_unhold(m, name);
	model_unhold(m, newname);
	model_tell(m);
	return 0;
}

/* An editor puts the old file aside: what it puts there is a copy, and model.json is back in a moment. */
static int set_json_aside(struct call *c, struct model *m, const char *newname)
{
	cleanup_str struct str text = {0};
	struct scratch *file;
	pthread_mutex_lock(&m->models->lock);
	int r = model_json_render_locked(m, &text);
	pthread_mutex_unlock(&m->models->lock);
	if (r == 0)
		r = scratch_new(text.data, text.len, &file);
	if (r < 0)
		return r;
	struct held aside = {
		.type = HELD_FILE, .name = (char *)newname, .file = file, .is_passing = true, .pid = c->pid};
	struct held removed = {.type = HELD_REMOVED, .name = (char *)"model.json", .pid = c->pid};
	r = held_add(m, &aside, MODEL_PASSING_MS);
	if (r == 0)
		r = held_add(m, &removed, MODEL_HOLD_MS);
	scratch_unref(file);
	return r;
}

/* mv of an alias: the new one is made, then the old one goes; default only moves. */
static int rename_alias(struct call *c, struct model *m, const char *name, const char *newname)
{
	cleanup_free char *version = NULL;
	struct backend *be;
	if (strcmp(name, "default") == 0)
		return fault_set(&c->fault, EPERM,
				 "default moves from version to version, it is never removed or renamed");
	if (!str_is_plain_name(newname) || strcmp(newname, "model.json") == 0)
		return fault_set(&c->fault, EPERM, "%.200s: not a name for an alias", newname);
	pthread_mutex_lock(&m->models->lock);
	const char *target = alias_find_locked(m, name);
	version = target ? strdup(target) : NULL;
	pthread_mutex_unlock(&m->models->lock);
	if (!version)
		return -ENOENT;
	int r = remote_backend(m->remote, &be, &c->fault);
	if (r == 0)
		r = model_switch(c, m, newname, version);
	if (r == 0)
		r = backend_model_alias_remove(be, m->name, name, &c->fault);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->models->lock);
	alias_drop_locked(m, name);
	model_touch_locked(m);
	pthread_mutex_unlock(&m->models->lock);
	model_unhold(m, newname);
	model_tell(m);
	return 0;
}

/* A draft of a version, to another name or place. */
static int rename_draft(struct call *c, struct model *m, const char *name, struct node *newdir,
			const char *newname)
{
	struct draft *draft = drafts_find(m->remote->drafts, PLACE_MODEL, m->name, name);
	if (!draft)
		return -ENOENT;
	if (newdir->kind == &kind_model) {
		struct model *to = newdir->obj;
		int r = model_check_version(c, to, newname);
		return r < 0 ? r : draft_move(c, draft, PLACE_MODEL, to->name, newname);
	}
	if (newdir->kind == &kind_place && newdir->sub == PLACE_DRAFTS)
		return draft_move(c, draft, PLACE_DRAFTS, "", newname);
	return fault_set(&c->fault, EPERM, "a draft of a version goes to another model or to drafts/");
}

static int rename_here(struct call *c, struct model *m, const char *name, const char *newname)
{
	struct found found = {0};
	int r = refuse_target(c, m, newname);
	if (r < 0)
		return r;
	r = find_held(c, m, name, &found);
	if (r == 0 && found.type == HELD_ALIAS)
		r = become_alias(c, m, name, newname, found.meaning);
	else if (r == 0 && found.type == HELD_JOB)
		r = become_version(c, m, name, newname, found.meaning);
	else if (r == 0)
		r = become_file(c, m, name, newname, found.file);
	else if (r == -ENODATA && strcmp(name, "model.json") == 0)
		r = set_json_aside(c, m, newname);
	else if (r == -ENODATA)
		r = is_alias(m, name) ? rename_alias(c, m, name, newname) : -ENOENT;
	found_release(&found);
	return r;
}

/* What the destination is, for RENAME_NOREPLACE. */
static bool is_taken(struct model *m, const char *name)
{
	LOCK_SCOPE(&m->models->lock);
	struct held *held = held_find_locked(m, name);
	if (held)
		return held->type != HELD_REMOVED;
	return alias_find_locked(m, name) || version_find_locked(m, name) || strcmp(name, "model.json") == 0;
}

static int refuse_source(struct call *c, struct model *m, const char *name, struct node *newdir,
			 unsigned flags)
{
	if (flags & RENAME_EXCHANGE)
		return fault_set(&c->fault, EPERM, "names in a model cannot be exchanged");
	if (strcmp(name, "previous") == 0 || strcmp(name, "history.tsv") == 0)
		return fault_set(&c->fault, EPERM, "%s cannot be renamed", name);
	pthread_mutex_lock(&m->models->lock);
	const struct held *held = held_find_locked(m, name);
	bool is_fixed = version_find_locked(m, name) && !(held && held->type == HELD_JOB);
	bool is_draft = !held && !is_fixed && !alias_find_locked(m, name) && strcmp(name, "model.json") != 0;
	pthread_mutex_unlock(&m->models->lock);
	if (is_fixed)
		return fault_set(&c->fault, EPERM,
				 "version %s of model %s cannot be renamed: a version never changes", name,
				 m->name);
	if (!is_draft && (newdir->kind != &kind_model || newdir->obj != m))
		return fault_set(&c->fault, EPERM, "%s cannot leave models/%s", name, m->name);
	return 0;
}

int model_rename(struct call *c, struct node *dir, const char *name, struct node *newdir, const char *newname,
		 unsigned flags)
{
	struct model *m = dir->obj;
	int r = call_may_block(c, m->remote);
	if (r == 0)
		r = models_ready(c, m->models, m);
	if (r == 0)
		r = refuse_source(c, m, name, newdir, flags);
	if (r < 0)
		return r;
	if (drafts_find(m->remote->drafts, PLACE_MODEL, m->name, name))
		return newdir->remote == dir->remote ? rename_draft(c, m, name, newdir, newname) : -EXDEV;
	if (newdir != dir)
		return -ENOENT;
	if (flags & RENAME_NOREPLACE && is_taken(m, newname))
		return -EEXIST;
	return strcmp(name, newname) == 0 ? 0 : rename_here(c, m, name, newname);
}
