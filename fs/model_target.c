/* SPDX-License-Identifier: MIT */
/*
 * Reads the target of a link as the kernel would, but by its text alone: parts are pushed and popped on a stack that
 * begins with where the link stands.
 */
#include "model_target.h"

#include "cleanup.h"
#include "config.h"
#include "jobs.h"

#include "remote.h"
#include "serve_private.h"
#include "str.h"
#include "submitted.h"

#include <errno.h>
#include <string.h>

enum { PARTS_MAX = 64 };

struct path {
	const char *part[PARTS_MAX]; /* below the mount point */
	size_t n;
};

static int not_a_target(struct call *c, const struct model *m, const char *text)
{
	return fault_set(&c->fault, EINVAL,
			 "a link in models/%s points at a version (v1), or at a job to make a version of "
			 "(../../jobs/ID, "
			 "../../submitted/NAME); %.200s is neither",
			 m->name, text);
}

/* Cuts `text` (changed) into parts. */
static int walk(struct path *path, char *text)
{
	char *rest = text, *part;
	while ((part = strsep(&rest, "/"))) {
		if (!part[0] || strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			if (path->n == 0)
				return -EINVAL;
			path->n--;
		} else if (path->n == PARTS_MAX) {
			return -EINVAL;
		} else {
			path->part[path->n++] = part;
		}
	}
	return 0;
}

static bool is_remote(const struct serve *serve, const char *name)
{
	for (size_t i = 0; i < serve->n_remotes; i++)
		if (strcmp(serve->remote[i]->conf->name, name) == 0)
			return true;
	return false;
}

/* Leaves the parts below the remote's directory. */
static int below_remote(struct call *c, struct model *m, const char *text, struct path *path)
{
	const char *own = m->remote->conf->name;
	if (c->serve->is_single)
		return 0;
	if (path->n == 0)
		return not_a_target(c, m, text);
	if (strcmp(path->part[0], own) != 0) {
		if (!is_remote(c->serve, path->part[0]))
			return not_a_target(c, m, text);
		return fault_set(
			&c->fault, EXDEV,
			"%.200s is of the remote %s, and models/%s of %s: versions are made within one", text,
			path->part[0], m->name, own);
	}
	memmove(path->part, path->part + 1, --path->n * sizeof(path->part[0]));
	return 0;
}

/* `copy` is changed, and borrowed by the path. */
static int path_of(struct call *c, struct model *m, const char *text, char *copy, struct path *path)
{
	size_t len = strlen(c->serve->mount_point);
	if (text[0] == '/') {
		if (strncmp(text, c->serve->mount_point, len) != 0 || text[len] != '/')
			return not_a_target(c, m, text);
		copy += len;
	} else {
		if (!c->serve->is_single)
			path->part[path->n++] = m->remote->conf->name;
		path->part[path->n++] = "models";
		path->part[path->n++] = m->name;
	}
	if (walk(path, copy) < 0)
		return not_a_target(c, m, text);
	return below_remote(c, m, text, path);
}

static int version_target(struct call *c, struct model *m, const char *name, struct target *ret)
{
	LOCK_SCOPE(&m->models->lock);
	const struct version *v = model_resolve_locked(m, name);
	if (!v)
		return fault_set(&c->fault, ENOENT, "model %s has no version %s", m->name, name);
	ret->type = TARGET_VERSION;
	ret->name = strdup(v->name);
	return ret->name ? 0 : -ENOMEM;
}

static int job_target(struct call *c, struct job *job, struct target *ret)
{
	struct job_row row;
	job_row_get(job, &row);
	if (row.is_gone)
		return fault_set(&c->fault, ENOENT, "job %s is gone", job->id);
	if (!job_state_is_ended(row.state))
		return fault_set(&c->fault, EBUSY, "job %s is %s; a version is made when it has SUCCEEDED",
				 job->id, job_state_name(row.state));
	if (row.state != JOB_SUCCEEDED)
		return fault_set(&c->fault, EBADMSG,
				 "job %s is %s; a version is made of one that has SUCCEEDED", job->id,
				 job_state_name(row.state));
	ret->type = TARGET_JOB;
	ret->name = strdup(job->id);
	return ret->name ? 0 : -ENOMEM;
}

int model_target(struct call *c, struct model *m, const char *text, struct target *ret)
{
	struct path path = {0};
	struct job *job = NULL;
	cleanup_free char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	int r = path_of(c, m, text, copy, &path);
	if (r < 0)
		return r;
	const char *top = path.n ? path.part[0] : "";
	if (path.n == 3 && strcmp(top, "models") == 0 && strcmp(path.part[1], m->name) == 0)
		return version_target(c, m, path.part[2], ret);
	bool is_job = path.n == 2 && strcmp(top, "jobs") == 0;
	bool is_submitted = path.n == 2 && strcmp(top, "submitted") == 0;
	bool is_latest = path.n == 1 && strcmp(top, "latest") == 0;
	if (!is_job && !is_submitted && !is_latest)
		return not_a_target(c, m, text);
	r = jobs_ready(c, m->remote->jobs);
	if (r < 0)
		return r;
	if (is_job)
		job = jobs_find(m->remote->jobs, path.part[1]);
	else
		(void)submitted_find(m->remote->submitted, is_latest ? NULL : path.part[1],
				     &job); /* NULL: there is none */
	if (!job)
		return fault_set(&c->fault, ENOENT, "%.200s: there is no such job", text);
	return job_target(c, job, ret);
}
