/* SPDX-License-Identifier: MIT */
/*
 * A version as a directory: its files, its artifacts, and the link to its job. It never changes, but for its end: rmdir
 * or `delete` in ctl. As in /sys/fs/cgroup, its files need no deleting first, and refuse it.
 */
#include "node_version.h"

#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "disk.h"
#include "model_held.h"
#include "model_json.h"
#include "node_files.h"
#include "notify.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { REFUSED_MS = 1000 };

static const char *const file_name[VERSION_FILE_MAX] = {
	[VERSION_FILE_STATE] = "state",     [VERSION_FILE_WHY] = "why",
	[VERSION_FILE_CREATED] = "created", [VERSION_FILE_INFO] = "info.json",
	[VERSION_FILE_API] = "api.json",    [VERSION_FILE_CTL] = "ctl",
};

static const char never_changes[] =
	"a version never changes: make another one, and delete this one with rmdir (or `echo delete > ctl`)";

static const struct node_kind kind_version_job;

void model_node_attr(struct call *c, const struct node *n, mode_t permissions, int64_t mtime_ns, enum ttl ttl,
		     struct attr *ret)
{
	node_stat(c, n, permissions, mtime_ns, &ret->st);
	ret->attr_ttl = ret->entry_ttl = ttl;
}

bool was_refused(pid_t pid, pid_t refused_pid, int64_t refused_ms)
{
	return pid && pid == refused_pid && clock_mono_ms() - refused_ms < REFUSED_MS;
}

static int64_t mtime_locked(const struct version *v)
{
	return v->changed_ns > v->created_ns ? v->changed_ns : v->created_ns;
}

/* ---- the directory ---- */

static int version_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct version *v = n->obj;
	LOCK_SCOPE(&v->model->models->lock);
	if (!version_is_there_locked(v))
		return -ENOENT;
	model_node_attr(c, n, 0755, mtime_locked(v), TTL_LISTED, ret);
	return 0;
}

static bool has_artifacts_locked(const struct version *v)
{
	return v->is_listed && v->state == VERSION_READY;
}

static int lookup_artifacts(struct call *c, struct version *v, struct child *ret)
{
	static const struct disk_root properties = {
		.is_read_only = true, .refusal_err = EPERM, .refusal = never_changes};
	struct model *m = v->model;
	struct backend *be;
	int fd;
	pthread_mutex_lock(&m->models->lock);
	bool is_there = has_artifacts_locked(v);
	pthread_mutex_unlock(&m->models->lock);
	if (!is_there)
		return -ENOENT;
	int r = call_may_block(c, m->remote);
	if (r == 0)
		r = remote_backend(m->remote, &be, &c->fault);
	if (r == 0)
		r = backend_model_artifacts_dir(be, m->name, v->name, &fd, &c->fault);
	return r < 0 ? r : disk_top(fd, &properties, m->remote, ret);
}

static int version_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct version *v = dir->obj;
	int r = models_ready(c, v->model->models, v->model);
	if (r < 0)
		return r;
	if (strcmp(name, "artifacts") == 0)
		return lookup_artifacts(c, v, ret);
	LOCK_SCOPE(&v->model->models->lock);
	if (!version_is_there_locked(v))
		return -ENOENT;
	if (strcmp(name, "job") == 0 && v->job) {
		*ret = (struct child){
			.kind = &kind_version_job, .remote = dir->remote, .obj = v, .type = S_IFLNK};
		return 0;
	}
	for (uint32_t i = 0; i < VERSION_FILE_MAX; i++)
		if (strcmp(name, file_name[i]) == 0) {
			*ret = (struct child){&kind_version_file, dir->remote, v, i, S_IFREG};
			return 0;
		}
	return -ENOENT;
}

static int version_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct version *v = dir->obj;
	int r = models_ready(c, v->model->models, v->model);
	if (r < 0)
		return r;
	pthread_mutex_lock(&v->model->models->lock);
	bool is_there = version_is_there_locked(v), has_artifacts = has_artifacts_locked(v), has_job = v->job;
	pthread_mutex_unlock(&v->model->models->lock);
	if (!is_there)
		return -ENOENT;
	for (uint32_t i = 0; i < VERSION_FILE_MAX && r == 0; i++) {
		struct child child = {&kind_version_file, dir->remote, v, i, S_IFREG};
		r = listing_add(ret, file_name[i], &child);
	}
	if (r == 0 && has_artifacts)
		r = listing_add(ret, "artifacts", &(struct child){&kind_disk, dir->remote, NULL, 0, S_IFDIR});
	if (r == 0 && has_job)
		r = listing_add(ret, "job", &(struct child){&kind_version_job, dir->remote, v, 0, S_IFLNK});
	return r;
}

static enum ttl version_missing_ttl(const struct node *dir)
{
	return TTL_NONE;
}

static int refuse_change(struct call *c)
{
	return fault_set(&c->fault, EPERM, "%s", never_changes);
}

static int version_mkdir(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret)
{
	return refuse_change(c);
}

static int version_create(struct call *c, struct node *dir, const char *name, mode_t mode, int flags,
			  struct child *ret, int *ret_fd)
{
	return refuse_change(c);
}

static int version_symlink(struct call *c, struct node *dir, const char *name, const char *target,
			   struct child *ret)
{
	return fault_set(&c->fault, EPERM,
			 "the link would be made inside version %s, where nothing changes: to move a link "
			 "that points at "
			 "a version, use ln -sfn",
			 ((struct version *)dir->obj)->name);
}

static int version_rename(struct call *c, struct node *dir, const char *name, struct node *newdir,
			  const char *newname, unsigned flags)
{
	return refuse_change(c);
}

/* rm -r: the rmdir that would follow is refused too, and the links that it has removed come back. */
static int refuse_removal(struct call *c, struct node *dir)
{
	struct version *v = dir->obj;
	struct model *m = v->model;
	pthread_mutex_lock(&m->models->lock);
	v->refused_pid = m->refused_pid = c->pid;
	v->refused_ms = m->refused_ms = clock_mono_ms();
	held_restore_locked(m, c->pid);
	pthread_mutex_unlock(&m->models->lock);
	return fault_set(&c->fault, EPERM,
			 "rm -r removes nothing of a version; to delete all of version %s use rmdir (its "
			 "files need no "
			 "deleting)",
			 v->name);
}

static int version_unlink(struct call *c, struct node *dir, const char *name)
{
	return refuse_removal(c, dir);
}

static int version_rmdir(struct call *c, struct node *dir, const char *name)
{
	return refuse_removal(c, dir);
}

const struct node_kind kind_version = {
	.name = "version",
	.type = S_IFDIR,
	.getattr = version_getattr,
	.lookup = version_lookup,
	.list = version_list,
	.missing_ttl = version_missing_ttl,
	.mkdir = version_mkdir,
	.rmdir = version_rmdir,
	.unlink = version_unlink,
	.symlink = version_symlink,
	.create = version_create,
	.rename = version_rename,
};

/* ---- its files ---- */

static int render_api_locked(const struct version *v, struct str *ret)
{
	const char *api = v->api ? v->api : "{}";
	return str_printf(ret, "%s%s", api, str_has_suffix(api, "\n") ? "" : "\n");
}

static int render_line(const char *text, struct str *ret)
{
	return text[0] ? str_printf(ret, "%s\n", text) : str_append(ret, "");
}

static int version_file_render(struct call *c, struct node *n, struct str *ret)
{
	struct version *v = n->obj;
	char at[CLOCK_TEXT_MAX];
	struct call quiet = {0};
	LOCK_SCOPE(&v->model->models->lock);
	if (!version_is_there_locked(v))
		return -ENOENT;
	switch ((enum version_file)n->sub) {
	case VERSION_FILE_STATE:
		return render_line(version_state_name(version_state_locked(v)), ret);
	case VERSION_FILE_WHY:
		return render_line(version_why_locked(v), ret);
	case VERSION_FILE_CREATED:
		return render_line(clock_format(v->created_ns, at), ret);
	case VERSION_FILE_INFO:
		return version_info_render_locked(v, ret);
	case VERSION_FILE_API:
		return render_api_locked(v, ret);
	case VERSION_FILE_CTL:
		return render_line(version_may_remove_locked(&quiet, v) == 0 ? "delete" : "", ret);
	case VERSION_FILE_MAX:
		break;
	}
	return -ENOENT;
}

static int version_file_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct version *v = n->obj;
	LOCK_SCOPE(&v->model->models->lock);
	if (!version_is_there_locked(v))
		return -ENOENT;
	model_node_attr(c, n, n->sub == VERSION_FILE_CTL ? 0644 : 0444, mtime_locked(v), TTL_LIVE, ret);
	return 0;
}

static ssize_t version_file_write(struct call *c, struct handle *h, const char *buf, size_t size,
				  off_t offset)
{
	static const char verb[] = "delete";
	struct version *v = h->node->obj;
	if (h->node->sub != VERSION_FILE_CTL)
		return refuse_change(c);
	size_t len = size && buf[size - 1] == '\n' ? size - 1 : size;
	if (len != sizeof(verb) - 1 || memcmp(buf, verb, len) != 0)
		return fault_set(&c->fault, EINVAL, "a version's ctl takes one verb: delete");
	int r = call_may_block(c, v->model->remote);
	if (r == 0)
		r = version_remove(c, v);
	if (r < 0)
		return r;
	notify_names(c->serve->notify, &kind_model, v->model, 0);
	return size;
}

static int version_file_open(struct call *c, struct node *n, int flags, struct handle *h)
{
	bool is_write = (flags & O_ACCMODE) != O_RDONLY;
	if (is_write && n->sub != VERSION_FILE_CTL)
		return refuse_change(c);
	h->mode = OPEN_DIRECT;
	return handle_render(c, h);
}

const struct node_kind kind_version_file = {
	.name = "version-file",
	.type = S_IFREG,
	.getattr = version_file_getattr,
	.render = version_file_render,
	.open = version_file_open,
	.write = version_file_write,
};

/* ---- the link to its job ---- */

static int job_target(struct version *v, char **ret)
{
	LOCK_SCOPE(&v->model->models->lock);
	return v->job ? str_format(ret, "../../../jobs/%s", v->job) : -ENOENT;
}

static int job_link_getattr(struct call *c, struct node *n, struct attr *ret)
{
	cleanup_free char *target = NULL;
	struct version *v = n->obj;
	int r = job_target(v, &target);
	if (r < 0)
		return r;
	model_node_attr(c, n, 0777, v->created_ns, TTL_LISTED, ret);
	ret->st.st_size = strlen(target);
	return 0;
}

static int job_link_readlink(struct call *c, struct node *n, char **ret)
{
	return job_target(n->obj, ret);
}

static const struct node_kind kind_version_job = {
	.name = "version-job",
	.type = S_IFLNK,
	.getattr = job_link_getattr,
	.readlink = job_link_readlink,
};
