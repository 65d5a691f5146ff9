/* SPDX-License-Identifier: MIT */
/* A job's directory: its files (node_job_file.c), and package/, a directory of this machine. */
#include "backend.h"
#include "clock.h"
#include "disk.h"
#include "drafts.h"
#include "jobs.h"
#include "node_job_file.h"
#include "process.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

enum { AFTER_REFUSAL_MS = 1000 };

static int job_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct job_row row;
	job_row_get(n->obj, &row);
	if (row.is_gone)
		return -ENOENT;
	node_stat(c, n, 0755, row.changed_ns, &ret->st);
	ret->entry_ttl = ret->attr_ttl = job_state_is_ended(row.state) ? TTL_FIXED : TTL_LIVE;
	return 0;
}

static const char is_read_only[] = "a job's package is what was submitted: it cannot be changed (a copy can)";

static int package_child(struct call *c, struct job *job, struct child *ret)
{
	static const struct disk_root properties = {
		.is_read_only = true, .is_lasting = true, .refusal = is_read_only, .refusal_err = EPERM};
	struct draft *draft = drafts_of_job(job->remote->drafts, job->id);
	struct backend *be;
	int fd, r = 0;
	if (draft)
		return draft_child(draft, ret);
	r = call_may_block(c, job->remote);
	if (r == 0)
		r = remote_backend(job->remote, &be, &c->fault);
	if (r == 0)
		r = backend_job_package_dir(be, job->id, &fd, &c->fault);
	return r < 0 ? r : disk_top(fd, &properties, job->remote, ret);
}

static int job_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct job *job = dir->obj;
	struct job_row row;
	job_row_get(job, &row);
	if (row.is_gone)
		return -ENOENT;
	if (strcmp(name, "package") == 0)
		return package_child(c, job, ret);
	for (int file = 0; file < JOB_FILE_MAX; file++) {
		if (strcmp(name, job_file_name(file)) != 0)
			continue;
		int r = job_file_is_there(c, job, file);
		/* a name without a lifetime; who wants more of it asks, and waits, alone */
		if (r == CALL_MUST_BLOCK)
			r = 0;
		if (r == 0)
			*ret = job_file_child(job, file);
		return r;
	}
	return -ENOENT;
}

/* What the facts decide is left out when they cannot be had: the rest is still worth listing. */
static int job_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct job *job = dir->obj;
	struct child package = {.kind = &kind_disk, .remote = job->remote, .type = S_IFDIR};
	int r = 0;
	for (int file = 0; r == 0 && file < JOB_FILE_MAX; file++) {
		if (!job_file_is_listed(file))
			continue;
		int is_there = job_file_is_there(c, job, file);
		if (is_there == CALL_MUST_BLOCK || is_there == CALL_PARKED)
			return is_there;
		struct child child = job_file_child(job, file);
		if (is_there == 0)
			r = listing_add(ret, job_file_name(file), &child);
	}
	c->fault.text[0] = '\0';
	return r < 0 ? r : listing_add(ret, "package", &package);
}

static enum ttl job_missing_ttl(const struct node *dir)
{
	return TTL_NONE; /* done, model come by themselves */
}

static int refuse(struct call *c, struct node *dir)
{
	struct job *job = dir->obj;
	return fault_set(&c->fault, EPERM, "job %s keeps its files; rmdir jobs/%s deletes an ended job",
			 job->id, job->id);
}

/* Notes who was refused; true if it was refused a moment ago already, as all but the first of an rm -r. */
static bool note_refusal(struct call *c, struct job *job)
{
	struct process process;
	if (!c->pid || process_of(c->pid, &process) < 0)
		return false;
	jobs_lock(job->remote->jobs);
	int64_t now = clock_mono_ms();
	bool is_repeated = job->refused.tgid == process.tgid && job->refused.started == process.started &&
			   now - job->refused_ms < AFTER_REFUSAL_MS;
	job->refused = process;
	job->refused_ms = now;
	jobs_unlock(job->remote->jobs);
	return is_repeated;
}

static int job_unlink(struct call *c, struct node *dir, const char *name)
{
	return note_refusal(c, dir->obj) ? -EPERM : refuse(c, dir); /* one sentence is enough */
}

static int job_mkdir(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret)
{
	return refuse(c, dir);
}

static int job_create(struct call *c, struct node *dir, const char *name, mode_t mode, int flags,
		      struct child *ret, int *ret_fd)
{
	return refuse(c, dir);
}

static int job_rename(struct call *c, struct node *dir, const char *name, struct node *newdir,
		      const char *newname, unsigned flags)
{
	return newdir->remote == dir->remote ? refuse(c, dir) : -EXDEV;
}

/* Why it failed. Only what is at hand: a listing that asks for every job's must not cost a call a job. */
static int job_xattrs(struct call *c, struct node *n, const char *name, json_t *ret)
{
	struct job *job = n->obj;
	jobs_lock(job->remote->jobs);
	const char *why = job->row.state == JOB_FAILED && job->facts ? job->facts->detail.why : NULL;
	int r = why ? json_object_set_new(ret, "error", json_string_nocheck(why)) : 0;
	jobs_unlock(job->remote->jobs);
	return r < 0 ? -ENOMEM : 0;
}

static enum open_mode dir_entries_mode(struct node *dir)
{
	return job_entries_mode(dir->obj);
}

const struct node_kind kind_job = {
	.entries_mode = dir_entries_mode,
	.name = "job",
	.xattrs = job_xattrs,
	.type = S_IFDIR,
	.getattr = job_getattr,
	.lookup = job_lookup,
	.list = job_list,
	.missing_ttl = job_missing_ttl,
	.mkdir = job_mkdir,
	.rmdir = job_unlink,
	.unlink = job_unlink,
	.create = job_create,
	.rename = job_rename,
};
