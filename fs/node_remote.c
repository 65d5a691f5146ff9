/* SPDX-License-Identifier: MIT */
/* A remote's directory: train/, drafts/, submitted/, latest and the two tables. */
#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "drafts.h"
#include "inode.h"
#include "jobs.h"
#include "journal.h"
#include "kinds.h"
#include "node_files.h"
#include "notify.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "spool.h"
#include "submitted.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* ---- jobs.tsv, transfers.tsv ---- */

static int render_job(struct job *job, struct str *ret)
{
	struct job_row row;
	char time[3][CLOCK_TEXT_MAX], exit[16] = "";
	job_row_get(job, &row);
	if (row.exit != JOB_EXIT_UNKNOWN)
		snprintf(exit, sizeof(exit), "%d", row.exit);
	str_append_tsv(ret, job->id);
	str_printf(ret, "\t%s\t", job_state_name(row.state));
	str_append_tsv(ret, row.model);
	str_printf(ret, "\t%s\t%s\t%s\t%s\t", clock_format(row.created_ns, time[0]),
		   clock_format(row.started_ns, time[1]), clock_format(row.ended_ns, time[2]), exit);
	str_append_tsv(ret, row.cost);
	return str_append(ret, "\n");
}

static int render_table(struct remote *remote, struct str *ret)
{
	cleanup_free struct job **job = NULL;
	size_t n;
	int r = jobs_snapshot(remote->jobs, &job, &n);
	if (r < 0)
		return r;
	str_append(ret, "id\tstate\tmodel\tcreated\tstarted\tended\texit\tcost\n");
	for (size_t i = 0; r == 0 && i < n; i++)
		r = render_job(job[i], ret);
	return r;
}

/* The revision is read before the rows: a change meanwhile makes the text old again. */
static int refresh_table_locked(struct remote *remote)
{
	cleanup_str struct str text = {0};
	uint64_t revision = jobs_revision(remote->jobs);
	if (remote->table && remote->table_revision == revision)
		return 0;
	int r = render_table(remote, &text);
	if (r < 0)
		return r;
	free(STEAL(remote->table));
	remote->table_len = text.len;
	remote->table_revision = revision;
	return str_steal(&text, &remote->table);
}

/* Rendered once a change, not once a question: with a long history it takes a while. */
static int render_jobs(struct call *c, struct remote *remote, struct str *ret)
{
	int r = jobs_ready(c, remote->jobs);
	if (r < 0)
		return r;
	LOCK_SCOPE(&remote->table_lock);
	r = refresh_table_locked(remote);
	return r < 0 ? r : str_append_n(ret, remote->table, remote->table_len);
}

static int remote_file_render(struct call *c, struct node *n, struct str *ret)
{
	struct remote *remote = n->obj;
	if (n->sub == REMOTE_FILE_JOBS)
		return render_jobs(c, remote, ret);
	str_append(ret, "kind\tname\tphase\tbytes\ttotal\terror\n");
	int r = drafts_render(remote->drafts, ret);
	if (r == 0 && remote->objects)
		r = spools_render(remote->objects, ret);
	return r == 0 && remote->objects ? renames_render(remote->objects, ret) : r;
}

static int remote_file_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct remote *remote = n->obj;
	bool is_jobs = n->sub == REMOTE_FILE_JOBS;
	node_stat(c, n, 0444, is_jobs ? jobs_changed_ns(remote->jobs) : drafts_changed_ns(remote->drafts),
		  &ret->st);
	ret->entry_ttl = TTL_FIXED;
	ret->attr_ttl = is_jobs ? TTL_LIVE : TTL_NONE;
	return 0;
}

const struct node_kind kind_remote_file = {
	.name = "remote-file",
	.type = S_IFREG,
	.getattr = remote_file_getattr,
	.render = remote_file_render,
	.text_mode = OPEN_DIRECT,
};

/* ---- train/ and drafts/ ---- */

static int place_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct remote *remote = n->obj;
	node_stat(c, n, 0755, drafts_changed_ns(remote->drafts), &ret->st);
	ret->entry_ttl = TTL_FIXED;
	ret->attr_ttl = TTL_NONE; /* its time is that of the newest change */
	return 0;
}

static int place_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct remote *remote = dir->obj;
	struct draft *draft = drafts_find(remote->drafts, dir->sub, "", name);
	return draft ? draft_child(draft, ret) : -ENOENT;
}

struct place_list {
	struct listing *listing;
	struct remote *remote;
	enum place place;
};

static int list_draft(void *arg, struct draft *draft)
{
	const struct place_list *list = arg;
	struct child child = {.kind = &kind_disk, .remote = list->remote, .type = S_IFDIR};
	return draft->place == list->place ? listing_add(list->listing, draft->name, &child) : 0;
}

static int place_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct remote *remote = dir->obj;
	struct place_list list = {ret, remote, dir->sub};
	return drafts_each(remote->drafts, list_draft, &list);
}

static enum ttl place_missing_ttl(const struct node *dir)
{
	return TTL_NONE;
}

static int place_mkdir(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret)
{
	struct remote *remote = dir->obj;
	struct draft *draft;
	int r = draft_make(c, remote->drafts, dir->sub, "", name, mode, &draft);
	return r < 0 ? r : draft_child(draft, ret);
}

static int place_rmdir(struct call *c, struct node *dir, const char *name)
{
	struct remote *remote = dir->obj;
	struct draft *draft = drafts_find(remote->drafts, dir->sub, "", name);
	return draft ? draft_remove(c, draft) : -ENOENT;
}

static int refuse_file(struct call *c, struct node *dir, const char *name)
{
	struct remote *remote = dir->obj;
	drafts_set_aside(c, remote->drafts);
	return fault_set(&c->fault, EPERM,
			 "only directories go in here, one a package: copy the directory itself "
			 "(rsync -a pkg %s, not pkg/); what was copied of it so far is in drafts/",
			 dir->sub == PLACE_TRAIN ? "train/" : "drafts/");
}

static int place_create(struct call *c, struct node *dir, const char *name, mode_t mode, int flags,
			struct child *ret, int *ret_fd)
{
	return refuse_file(c, dir, name);
}

static int place_mknod(struct call *c, struct node *dir, const char *name, mode_t mode, dev_t rdev,
		       struct child *ret)
{
	return refuse_file(c, dir, name);
}

static int place_symlink(struct call *c, struct node *dir, const char *name, const char *target,
			 struct child *ret)
{
	return refuse_file(c, dir, name);
}

/* So that messages name the new place. */
static void follow_draft(struct draft *draft, struct node *newdir, const char *newname)
{
	struct inode_table *table = draft->remote->serve->table;
	struct child child;
	if (draft_child(draft, &child) < 0)
		return;
	struct node *n = inode_find(table, child.kind, child.obj, 0, newname);
	if (n)
		inode_moved(table, n, newdir, newname);
	inode_unref(table, n);
	child.kind->drop(child.obj);
}

/* Where a directory node takes drafts; false: nowhere. */
static bool place_of(const struct node *dir, enum place *ret_place, const char **ret_model)
{
	*ret_model = "";
	if (dir->kind == &kind_place)
		*ret_place = dir->sub;
	else if (dir->kind == &kind_jobs)
		*ret_place = PLACE_JOBS;
	else if (dir->kind == &kind_model)
		*ret_place = PLACE_MODEL, *ret_model = dir->name;
	else
		return false;
	return true;
}

int draft_rename(struct call *c, struct draft *draft, struct node *newdir, const char *newname,
		 unsigned flags)
{
	enum place place;
	const char *model;
	if (!place_of(newdir, &place, &model) || newdir->remote != draft->remote)
		return -EXDEV;
	if (flags & RENAME_EXCHANGE)
		return fault_set(&c->fault, EPERM, "drafts cannot be exchanged");
	int r = call_may_block(c, draft->remote);
	if (r == 0)
		r = draft_move(c, draft, place, model, newname);
	if (r == 0)
		follow_draft(draft, newdir, newname);
	return r;
}

static int place_rename(struct call *c, struct node *dir, const char *name, struct node *newdir,
			const char *newname, unsigned flags)
{
	struct remote *remote = dir->obj;
	struct draft *draft = drafts_find(remote->drafts, dir->sub, "", name);
	return draft ? draft_rename(c, draft, newdir, newname, flags) : -ENOENT;
}

const struct node_kind kind_place = {
	.name = "place",
	.type = S_IFDIR,
	.getattr = place_getattr,
	.lookup = place_lookup,
	.list = place_list,
	.missing_ttl = place_missing_ttl,
	.mkdir = place_mkdir,
	.rmdir = place_rmdir,
	.symlink = place_symlink,
	.mknod = place_mknod,
	.create = place_create,
	.rename = place_rename,
};

/* ---- submitted/ and latest ---- */

static int submitted_getattr(struct call *c, struct node *n, struct attr *ret)
{
	node_stat(c, n, 0755, jobs_changed_ns(n->remote->jobs), &ret->st);
	ret->entry_ttl = TTL_FIXED;
	ret->attr_ttl = TTL_NONE;
	return 0;
}

static struct child link_child(struct remote *remote)
{
	return (struct child){.kind = &kind_submitted_link,
			      .remote = remote,
			      .obj = remote,
			      .sub = NODE_BY_NAME,
			      .type = S_IFLNK};
}

static int submitted_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct job *job;
	int r = jobs_ready(c, dir->remote->jobs);
	if (r == 0)
		r = submitted_find(dir->remote->submitted, name, &job);
	if (r == 0)
		*ret = link_child(dir->remote);
	return r;
}

struct submitted_list {
	struct listing *listing;
	struct child child;
};

static int list_submitted(void *arg, const char *name)
{
	const struct submitted_list *list = arg;
	return listing_add(list->listing, name, &list->child);
}

static int submitted_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct submitted_list list = {ret, link_child(dir->remote)};
	int r = jobs_ready(c, dir->remote->jobs);
	return r < 0 ? r : submitted_names(dir->remote->submitted, list_submitted, &list);
}

static enum ttl submitted_missing_ttl(const struct node *dir)
{
	return TTL_NONE;
}

const struct node_kind kind_submitted = {
	.name = "submitted",
	.type = S_IFDIR,
	.getattr = submitted_getattr,
	.lookup = submitted_lookup,
	.list = submitted_list,
	.missing_ttl = submitted_missing_ttl,
};

/* `latest` stands in the remote's directory, the others in submitted/. */
static int link_readlink(struct call *c, struct node *n, char **ret)
{
	struct job *job;
	bool is_latest = n->parent->kind == &kind_remote;
	int r = submitted_find(n->remote->submitted, is_latest ? NULL : n->name, &job);
	return r < 0 ? r : str_format(ret, "%sjobs/%s", is_latest ? "" : "../", job->id);
}

static int link_getattr(struct call *c, struct node *n, struct attr *ret)
{
	cleanup_free char *target = NULL;
	int r = link_readlink(c, n, &target);
	if (r < 0)
		return r;
	node_stat(c, n, 0777, jobs_changed_ns(n->remote->jobs), &ret->st);
	node_set_size(&ret->st, strlen(target));
	ret->attr_ttl = ret->entry_ttl = TTL_NONE;
	return 0;
}

const struct node_kind kind_submitted_link = {
	.name = "submitted-link",
	.type = S_IFLNK,
	.getattr = link_getattr,
	.readlink = link_readlink,
};

/* ---- the remote's directory ---- */

struct remote_entry {
	const char *name;
	const struct node_kind *kind;
	uint32_t sub;
	bool (*is_shown)(const struct backend *be);
};

static bool has_transfers(const struct backend *be)
{
	return backend_has_jobs(be) || (backend_has_buckets(be) && !backend_bucket_is_dir(be));
}

static const struct remote_entry remote_entry[] = {
	{"train", &kind_place, PLACE_TRAIN, backend_has_jobs},
	{"drafts", &kind_place, PLACE_DRAFTS, backend_has_jobs},
	{"submitted", &kind_submitted, 0, backend_has_jobs},
	{"latest", &kind_submitted_link, NODE_BY_NAME, backend_has_jobs},
	{"jobs", &kind_jobs, 0, backend_has_jobs},
	{"jobs.tsv", &kind_remote_file, REMOTE_FILE_JOBS, backend_has_jobs},
	{"transfers.tsv", &kind_remote_file, REMOTE_FILE_TRANSFERS, has_transfers},
	{"models", &kind_models, 0, backend_has_models},
	{"buckets", &kind_buckets, 0, backend_has_buckets},
};

enum { N_REMOTE_ENTRIES = sizeof(remote_entry) / sizeof(remote_entry[0]) };

static bool is_latest(const struct remote_entry *entry)
{
	return entry->kind == &kind_submitted_link;
}

static bool is_there(struct remote *remote, const struct remote_entry *entry)
{
	struct job *job;
	if (!remote->be || !entry->is_shown(remote->be))
		return false;
	return !is_latest(entry) || submitted_find(remote->submitted, NULL, &job) == 0;
}

static struct child entry_child(struct remote *remote, const struct remote_entry *entry)
{
	return (struct child){.kind = entry->kind,
			      .remote = remote,
			      .obj = remote,
			      .sub = entry->sub,
			      .type = entry->kind->type};
}

static int remote_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct remote *remote = dir->obj;
	for (int i = 0; i < N_REMOTE_ENTRIES; i++) {
		if (strcmp(name, remote_entry[i].name) != 0)
			continue;
		int r = is_latest(&remote_entry[i]) ? jobs_ready(c, remote->jobs) : 0;
		if (r == 0 && !is_there(remote, &remote_entry[i]))
			r = -ENOENT;
		if (r == 0)
			*ret = entry_child(remote, &remote_entry[i]);
		return r;
	}
	return c->serve->is_single ? root_lookup(c, name, ret) : -ENOENT;
}

static int remote_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct remote *remote = dir->obj;
	int r = c->serve->is_single ? root_list(c, ret) : 0;
	for (int i = 0; r == 0 && i < N_REMOTE_ENTRIES; i++) {
		struct child child = entry_child(remote, &remote_entry[i]);
		if (is_there(remote, &remote_entry[i]))
			r = listing_add(ret, remote_entry[i].name, &child);
	}
	return r;
}

static enum ttl remote_missing_ttl(const struct node *dir)
{
	return TTL_NONE; /* `latest` comes with the first job */
}

static int remote_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct remote *remote = n->obj;
	node_stat(c, n, 0755, jobs_changed_ns(remote->jobs), &ret->st);
	ret->entry_ttl = TTL_FIXED;
	ret->attr_ttl = TTL_LIVE;
	return 0;
}

const struct node_kind kind_remote = {
	.name = "remote",
	.type = S_IFDIR,
	.getattr = remote_getattr,
	.lookup = remote_lookup,
	.list = remote_list,
	.missing_ttl = remote_missing_ttl,
};
