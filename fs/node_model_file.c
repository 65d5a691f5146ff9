/* SPDX-License-Identifier: MIT */
/*
 * The files and links of a model. Who writes model.json writes a copy in memory, his own; at close (and fsync) the copy
 * is read as a whole, and switches or is refused. Who saves by renaming writes a scratch file first (model_rename.c).
 */
#include "cleanup.h"
#include "inode.h"
#include "model_held.h"
#include "model_json.h"
#include "model_rename.h"
#include "node_files.h"
#include "node_version.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

/* ---- what both kinds of file do with a descriptor ---- */

static ssize_t fd_read(struct handle *h, char *buf, size_t size, off_t offset)
{
	ssize_t n = pread(h->fd, buf, size, offset);
	return n < 0 ? -errno : n;
}

static ssize_t fd_write(struct call *c, struct handle *h, const char *buf, size_t size, off_t offset)
{
	if (offset > MODEL_FILE_MAX || size > (size_t)(MODEL_FILE_MAX - offset))
		return fault_set(&c->fault, EFBIG, "a file in a model's directory holds at most 1 MiB");
	ssize_t n = pwrite(h->fd, buf, size, offset);
	return n < 0 ? -errno : n;
}

static int fd_resize(struct call *c, int fd, off_t size)
{
	if (size > MODEL_FILE_MAX)
		return fault_set(&c->fault, EFBIG, "a file in a model's directory holds at most 1 MiB");
	return ftruncate(fd, size) < 0 ? -errno : 0;
}

/* ---- model.json and history.tsv ---- */

static int model_file_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct model *m = n->obj;
	LOCK_SCOPE(&m->models->lock);
	model_node_attr(c, n, n->sub == MODEL_FILE_JSON ? 0644 : 0444, m->changed_ns, TTL_LIVE, ret);
	if (n->sub == MODEL_FILE_JSON)
		ret->entry_ttl = TTL_NONE; /* it is put aside and made anew by editors */
	return 0;
}

static int model_file_render(struct call *c, struct node *n, struct str *ret)
{
	struct model *m = n->obj;
	int r = models_ready(c, m->models, m);
	if (r < 0)
		return r;
	if (n->sub == MODEL_FILE_HISTORY)
		return model_render_history(m, ret);
	LOCK_SCOPE(&m->models->lock);
	return model_json_render_locked(m, ret);
}

static int open_copy(struct call *c, struct node *n, int flags, struct handle *h)
{
	cleanup_str struct str text = {0};
	struct model *m = n->obj;
	if (n->sub != MODEL_FILE_JSON)
		return fault_set(&c->fault, EPERM, "history.tsv is written by switching only");
	int r = flags & O_TRUNC ? 0 : model_file_render(c, n, &text);
	if (r < 0)
		return r;
	model_unhold(m, "model.json");
	cleanup_close int fd = memfd_create("model.json", MFD_CLOEXEC);
	if (fd < 0 || (text.len && pwrite(fd, text.data, text.len, 0) < 0))
		return -errno;
	h->fd = STEAL_FD(fd);
	h->mode = OPEN_DIRECT;
	return 0;
}

static int model_file_open(struct call *c, struct node *n, int flags, struct handle *h)
{
	if ((flags & O_ACCMODE) != O_RDONLY)
		return open_copy(c, n, flags, h);
	h->mode = OPEN_DIRECT;
	return handle_render(c, h);
}

static ssize_t model_file_read(struct call *c, struct handle *h, char *buf, size_t size, off_t offset)
{
	return h->fd >= 0 ? fd_read(h, buf, size, offset) : handle_read_text(h, buf, size, offset);
}

static ssize_t model_file_write(struct call *c, struct handle *h, const char *buf, size_t size, off_t offset)
{
	return fd_write(c, h, buf, size, offset);
}

/* At every close of a descriptor that was written since the last one. */
static int model_file_flush(struct call *c, struct handle *h)
{
	struct model *m = h->node->obj;
	cleanup_free char *text = NULL;
	size_t len;
	if (h->fd < 0 || !h->is_written)
		return 0;
	int r = call_may_block(c, m->remote);
	if (r == 0)
		r = fd_read_all(h->fd, &text, &len);
	if (r < 0)
		return r;
	h->is_written = false;
	r = model_save(c, m, text, len);
	model_tell(m);
	return r;
}

static int model_file_fsync(struct call *c, struct handle *h, bool data_only)
{
	return model_file_flush(c, h);
}

/* Modes and owners that editors copy are taken and forgotten; a size counts for who has it open. */
static int model_file_setattr(struct call *c, struct node *n, struct handle *h, const struct stat *st,
			      int to_set, struct attr *ret)
{
	cleanup_str struct str text = {0};
	bool is_resized = to_set & FUSE_SET_ATTR_SIZE;
	if (n->sub != MODEL_FILE_JSON &&
	    to_set & (FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID))
		return fault_set(&c->fault, EPERM, "history.tsv is written by switching only");
	int r = is_resized && h && h->fd >= 0 ? fd_resize(c, h->fd, st->st_size) : 0;
	if (r == 0)
		r = model_file_render(c, n, &text);
	if (r == 0)
		r = model_file_getattr(c, n, ret);
	if (r < 0)
		return r;
	ret->st.st_size = is_resized ? st->st_size : (off_t)text.len;
	if (is_resized)
		ret->attr_ttl = TTL_NONE;
	return 0;
}

const struct node_kind kind_model_file = {
	.name = "model-file",
	.type = S_IFREG,
	.getattr = model_file_getattr,
	.setattr = model_file_setattr,
	.render = model_file_render,
	.open = model_file_open,
	.read = model_file_read,
	.write = model_file_write,
	.flush = model_file_flush,
	.fsync = model_file_fsync,
};

/* ---- scratch files ---- */

static void scratch_drop(void *obj)
{
	scratch_unref(obj);
}

static int scratch_getattr(struct call *c, struct node *n, struct attr *ret)
{
	const struct scratch *file = n->obj;
	struct stat st;
	if (fstat(file->fd, &st) < 0)
		return -errno;
	model_node_attr(c, n, file->mode, 0, TTL_NONE, ret);
	ret->st.st_size = st.st_size;
	ret->st.st_blocks = (st.st_size + 511) / 512;
	ret->st.st_mtim = ret->st.st_ctim = ret->st.st_atim = st.st_mtim;
	return 0;
}

static void set_times(const struct scratch *file, const struct stat *st, int to_set)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		t[1].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		t[1] = st->st_mtim;
	(void)futimens(file->fd, t); /* a file that is gone in a minute */
}

static int scratch_setattr(struct call *c, struct node *n, struct handle *h, const struct stat *st,
			   int to_set, struct attr *ret)
{
	struct scratch *file = n->obj;
	if (to_set & FUSE_SET_ATTR_MODE)
		file->mode = st->st_mode & 0777;
	int r = to_set & FUSE_SET_ATTR_SIZE ? fd_resize(c, file->fd, st->st_size) : 0;
	if (r < 0)
		return r;
	set_times(file, st, to_set);
	return scratch_getattr(c, n, ret);
}

static int scratch_open(struct call *c, struct node *n, int flags, struct handle *h)
{
	struct scratch *file = n->obj;
	h->fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	if (h->fd < 0)
		return -errno;
	file->n_open++;
	h->mode = OPEN_KEEP;
	if (!(flags & O_TRUNC))
		return 0;
	h->mode = OPEN_CACHED;
	return fd_resize(c, h->fd, 0);
}

static ssize_t scratch_file_read(struct call *c, struct handle *h, char *buf, size_t size, off_t offset)
{
	return fd_read(h, buf, size, offset);
}

static void scratch_release(struct handle *h)
{
	struct scratch *file = h->node->obj;
	if (h->fd >= 0)
		file->n_open--;
}

const struct node_kind kind_model_scratch = {
	.name = "model-scratch",
	.type = S_IFREG,
	.getattr = scratch_getattr,
	.drop = scratch_drop,
	.setattr = scratch_setattr,
	.open = scratch_open,
	.read = scratch_file_read,
	.write = fd_write,
	.release = scratch_release,
};

/* ---- links ---- */

static int target_locked(struct model *m, const char *name, char **ret)
{
	const struct held *held = held_find_locked(m, name);
	const char *target = held ? held->target : alias_find_locked(m, name);
	if (!target && !held && strcmp(name, "previous") == 0)
		target = m->previous;
	if (!target)
		return -ENOENT;
	*ret = strdup(target);
	return *ret ? 0 : -ENOMEM;
}

static int model_link_readlink(struct call *c, struct node *n, char **ret)
{
	struct model *m = n->obj;
	struct node *parent;
	cleanup_free char *name = NULL;
	int r = models_ready(c, m->models, m);
	if (r == 0)
		r = inode_whereabouts(c->serve->table, n, &parent, &name);
	if (r < 0)
		return r;
	inode_unref(c->serve->table, parent);
	LOCK_SCOPE(&m->models->lock);
	return target_locked(m, name, ret);
}

/* Names of links are asked for anew each time: what they stand for changes in one step. */
static int model_link_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct model *m = n->obj;
	cleanup_free char *target = NULL;
	int r = model_link_readlink(c, n, &target);
	if (r < 0)
		return r;
	LOCK_SCOPE(&m->models->lock);
	model_node_attr(c, n, 0777, m->changed_ns, TTL_NONE, ret);
	ret->st.st_size = strlen(target);
	return 0;
}

const struct node_kind kind_model_link = {
	.name = "model-link",
	.type = S_IFLNK,
	.getattr = model_link_getattr,
	.readlink = model_link_readlink,
};
