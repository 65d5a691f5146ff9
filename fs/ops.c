/* SPDX-License-Identifier: MIT */
/*
 * Handlers of the FUSE low-level API. Each decodes its arguments into a request and starts it; its run_ function asks
 * the tree, on this worker or, when the tree says that it must block, again on a pool's thread; reply.c answers.
 */
#include "ops.h"

#include "chunk.h"
#include "cleanup.h"
#include "inode.h"
#include "kinds.h"
#include "node_files.h"
#include "node_object.h"
#include "ops_private.h"
#include "reply.h"
#include "serve_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

/* ---- what every kind is asked in the same way ---- */

static int tree_getattr(struct call *c, struct node *n, struct attr *ret)
{
	int r = n->kind->getattr(c, n, ret);
	if (r < 0)
		return r;
	if (n->kind->readlink && !n->kind->render)
		return 0;
	if (!n->kind->render)
		return 0;
	cleanup_str struct str text = {0};
	r = n->kind->render(c, n, &text);
	if (r == -EOPNOTSUPP)
		return 0;
	if (r < 0)
		return r;
	node_set_size(&ret->st, text.len);
	n->reported_size = text.len;
	return 0;
}

/*
 * Size and times as far as they are known without waiting. While a lookup is answered the kernel holds the name, and who
 * else looks it up or lists its directory waits where no signal reaches; attributes that expire at once are asked for
 * again, by the one caller who wants them.
 */
static int entry_getattr(struct request *rq, struct node *n)
{
	struct call quiet = rq->call;
	quiet.request = NULL;
	quiet.may_block = false;
	int r = tree_getattr(&quiet, n, &rq->attr);
	if (r == CALL_MUST_BLOCK || r == -EAGAIN) {
		r = n->kind->getattr(&rq->call, n, &rq->attr);
		rq->attr.attr_ttl = rq->attr.entry_ttl = TTL_NONE;
	} else if (r < 0) {
		rq->call.fault = quiet.fault;
	}
	return r;
}

int ops_entry(struct request *rq, struct node *dir, const char *name, const struct child *child)
{
	struct inode_table *table = rq->call.serve->table;
	struct node *n;
	int r = inode_intern(table, dir, name, child, true, &n);
	if (r < 0)
		return r;
	r = entry_getattr(rq, n);
	if (r < 0) {
		inode_forget(table, n->id, 1);
		return r;
	}
	if (rq->attr.attr_ttl == TTL_LIVE && inode_is_new(table, n))
		rq->attr.attr_ttl =
			TTL_MISSING; /* a notification may come before this answer, and get lost */
	rq->child = n;
	return 0;
}

static void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t n_lookups)
{
	struct serve *serve = fuse_req_userdata(req);
	inode_forget(serve->table, id, n_lookups);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forget)
{
	struct serve *serve = fuse_req_userdata(req);
	for (size_t i = 0; i < count; i++)
		inode_forget(serve->table, forget[i].ino, forget[i].nlookup);
	fuse_reply_none(req);
}

/* ---- attributes ---- */

static int run_getattr(struct request *rq)
{
	return tree_getattr(&rq->call, rq->node, &rq->attr);
}

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct request *rq = request_new(req, id, "getattr", run_getattr, reply_attr);
	if (rq)
		request_start(rq);
}

enum { SET_KEPT = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID };

/* Made-up nodes: times are taken and forgotten (a helper's touch makes inotify fire), the rest is refused. */
static int run_setattr(struct request *rq)
{
	struct node *n = rq->node;
	if (n->kind->setattr)
		return n->kind->setattr(&rq->call, n, rq->handle, &rq->st, rq->flags, &rq->attr);
	if (rq->flags & SET_KEPT)
		return fault_set(&rq->call.fault, EPERM, "chmod, chown: not possible here");
	if (rq->flags & FUSE_SET_ATTR_SIZE && !rq->handle) /* who opened it for writing may: > ctl */
		return fault_set(&rq->call.fault, EPERM, "truncate: not possible here");
	return tree_getattr(&rq->call, n, &rq->attr);
}

static void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct request *rq = request_new(req, id, "setattr", run_setattr, reply_attr);
	if (!rq)
		return;
	rq->st = *st;
	rq->flags = to_set;
	if (fi && fi->fh) {
		rq->handle = (struct handle *)(uintptr_t)fi->fh;
		handle_ref(rq->handle);
	}
	request_start(rq);
}

static int run_readlink(struct request *rq)
{
	return rq->node->kind->readlink ? rq->node->kind->readlink(&rq->call, rq->node, &rq->text) : -EINVAL;
}

static void op_readlink(fuse_req_t req, fuse_ino_t id)
{
	struct request *rq = request_new(req, id, "readlink", run_readlink, reply_text);
	if (rq)
		request_start(rq);
}

/* ---- files ---- */

static int open_handle(struct request *rq, struct node *n)
{
	if (!rq->handle)
		rq->handle = handle_new(rq->call.serve, n, rq->flags);
	if (!rq->handle)
		return -ENOMEM;
	if (n->kind->open)
		return n->kind->open(&rq->call, n, rq->flags, rq->handle);
	if ((rq->flags & O_ACCMODE) != O_RDONLY)
		return fault_set(&rq->call.fault, EPERM, "this file cannot be written");
	rq->handle->mode = n->kind->text_mode;
	return n->kind->render ? handle_render(&rq->call, rq->handle) : -EIO;
}

static int run_open(struct request *rq)
{
	return open_handle(rq, rq->node);
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct request *rq = request_new(req, id, "open", run_open, reply_open);
	if (!rq)
		return;
	rq->fi = *fi;
	rq->flags = fi->flags;
	request_start(rq);
}

static int run_create(struct request *rq)
{
	struct child child;
	int fd = -1;
	if (!rq->node->kind->create)
		return ops_not_here(rq);
	int r = rq->node->kind->create(&rq->call, rq->node, rq->name, rq->mode, rq->flags, &child, &fd);
	if (r == 0)
		r = ops_entry(rq, rq->node, rq->name, &child);
	if (r == 0) {
		rq->handle = handle_new(rq->call.serve, rq->child, rq->flags);
		if (!rq->handle)
			r = -ENOMEM;
	}
	if (r == 0 && fd < 0)
		r = open_handle(rq, rq->child);
	if (r == 0 && fd >= 0)
		rq->handle->fd = STEAL_FD(fd);
	if (fd >= 0)
		close(fd);
	if (r < 0 && rq->child)
		reply_take_back(rq);
	return r;
}

static void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct request *rq = ops_name_request(req, dir, name, "create", run_create, reply_create);
	if (!rq)
		return;
	rq->mode = mode;
	rq->fi = *fi;
	rq->flags = fi->flags;
	request_start(rq);
}

struct request *ops_handle_request(fuse_req_t req, fuse_ino_t id, const struct fuse_file_info *fi,
				   const char *what, int (*run)(struct request *rq),
				   void (*answer)(struct request *rq))
{
	struct request *rq = request_new(req, id, what, run, answer);
	if (!rq)
		return NULL;
	rq->handle = (struct handle *)(uintptr_t)fi->fh;
	handle_ref(rq->handle);
	return rq;
}

static int run_read(struct request *rq)
{
	const struct node_kind *kind = rq->handle->node->kind;
	/* sendfile(2) to a pipe goes through the page cache, without an owner: who is refused uses read(2), as busybox */
	if (rq->handle->mode == OPEN_STREAM && !rq->fi.lock_owner)
		return -EINVAL;
	ssize_t n =
		kind->lend ? kind->lend(&rq->call, rq->handle, rq->size, rq->offset, &rq->loan) : -EOPNOTSUPP;
	if (n != -EOPNOTSUPP) {
		if (n >= 0) /* else it may be parked, and another thread's */
			rq->done = n;
		return n < 0 ? (int)n : 0;
	}
	loan_free(STEAL(rq->loan)); /* what was there has been written over while it waited */
	if (!rq->data && !(rq->data = malloc(rq->size ? rq->size : 1)))
		return -ENOMEM;
	n = kind->read ? kind->read(&rq->call, rq->handle, rq->data, rq->size, rq->offset)
		       : handle_read_text(rq->handle, rq->data, rq->size, rq->offset);
	if (n < 0) /* also when it is parked: it may be another thread's by now */
		return (int)n;
	rq->done = n;
	return 0;
}

static void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct request *rq = ops_handle_request(req, id, fi, "read", run_read, reply_data);
	if (!rq)
		return;
	rq->fi = *fi;
	rq->size = size;
	rq->offset = offset;
	request_start(rq);
}

/* The kernel's bytes are ours until the handler returns: who has to wait needs a copy. */
static int run_write(struct request *rq)
{
	const struct node_kind *kind = rq->handle->node->kind;
	if (!kind->write)
		return -EPERM;
	const char *bytes = rq->data ? rq->data : rq->written;
	ssize_t n = kind->write(&rq->call, rq->handle, bytes, rq->size, rq->offset);
	if (n == CALL_MUST_BLOCK && !rq->data) {
		rq->data = malloc(rq->size ? rq->size : 1);
		if (!rq->data)
			return -ENOMEM;
		memcpy(rq->data, rq->written, rq->size);
	}
	if (n < 0)
		return (int)n;
	rq->handle->is_written = true;
	rq->done = n;
	return 0;
}

static void op_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct request *rq = ops_handle_request(req, id, fi, "write", run_write, reply_written);
	if (!rq)
		return;
	rq->written = buf;
	rq->size = size;
	rq->offset = offset;
	request_start(rq);
}

static int run_flush(struct request *rq)
{
	const struct node_kind *kind = rq->handle->node->kind;
	return kind->flush ? kind->flush(&rq->call, rq->handle) : 0;
}

static void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct request *rq = ops_handle_request(req, id, fi, "close", run_flush, reply_done);
	if (rq)
		request_start(rq);
}

static int run_fsync(struct request *rq)
{
	const struct node_kind *kind = rq->handle->node->kind;
	return kind->fsync ? kind->fsync(&rq->call, rq->handle, rq->flags) : 0;
}

static void op_fsync(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *fi)
{
	struct request *rq = ops_handle_request(req, id, fi, "fsync", run_fsync, reply_done);
	if (!rq)
		return;
	rq->flags = data_only;
	request_start(rq);
}

static void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct serve *serve = fuse_req_userdata(req);
	handle_unref(serve, (struct handle *)(uintptr_t)fi->fh);
	(void)fuse_reply_err(req, 0);
}

static int run_poll(struct request *rq)
{
	const struct node_kind *kind = rq->handle->node->kind;
	struct fuse_pollhandle *ph = STEAL(rq->poll_handle);
	if (kind->poll) {
		rq->events = kind->poll(&rq->call, rq->handle, ph);
		return 0;
	}
	if (ph)
		fuse_pollhandle_destroy(ph);
	rq->events = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
	return 0;
}

static void op_poll(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	struct request *rq = ops_handle_request(req, id, fi, "poll", run_poll, reply_poll);
	if (!rq) {
		if (ph)
			fuse_pollhandle_destroy(ph);
		return;
	}
	rq->poll_handle = ph;
	request_start(rq);
}

/* ---- directories ---- */

static int run_fsyncdir(struct request *rq)
{
	return rq->node->kind->fsyncdir ? rq->node->kind->fsyncdir(&rq->call, rq->node) : 0;
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *fi)
{
	struct request *rq = request_new(req, id, "sync", run_fsyncdir, reply_done);
	if (rq)
		request_start(rq);
}

/* ---- the rest ---- */

static int run_nothing(struct request *rq)
{
	return 0;
}

static void op_statfs(fuse_req_t req, fuse_ino_t id)
{
	struct request *rq = request_new(req, id, "statfs", run_nothing, reply_statfs);
	if (rq)
		request_start(rq);
}

static bool is_copied(const struct handle *from, const struct handle *to)
{
	if (from->node->kind == &kind_object_file)
		return to->node->kind == &kind_object_file && from->node->remote == to->node->remote;
	return from->node->kind == &kind_disk && to->node->kind == &kind_disk && from->fd >= 0 && to->fd >= 0;
}

static ssize_t copy_on_disk(struct request *rq, struct handle *to)
{
	int r = kind_disk.setattr(&rq->call, to->node, to, &rq->st, 0, &rq->attr); /* may it be changed? */
	if (r < 0)
		return r;
	off_t from_at = rq->offset, to_at = rq->st.st_size;
	ssize_t n = copy_file_range(rq->handle->fd, &from_at, to->fd, &to_at, rq->size, 0);
	return n < 0 ? -errno : n;
}

/* Within local directories, where the disk may share blocks, and at a service; elsewhere the kernel copies by itself. */
static int run_copy_range(struct request *rq)
{
	struct handle *to = (struct handle *)(uintptr_t)rq->fi.fh;
	ssize_t n;
	if (to->node->kind == &kind_object_file)
		n = object_copy_range(&rq->call, rq->handle, rq->offset, to, rq->st.st_size, rq->size);
	else
		n = copy_on_disk(rq, to);
	rq->done = n;
	return n < 0 ? (int)n : 0;
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_at, struct fuse_file_info *in_fi,
			       fuse_ino_t out, off_t out_at, struct fuse_file_info *out_fi, size_t len,
			       int flags)
{
	if (!is_copied((struct handle *)(uintptr_t)in_fi->fh, (struct handle *)(uintptr_t)out_fi->fh)) {
		reply_error(req, -EXDEV);
		return;
	}
	struct request *rq = ops_handle_request(req, in, in_fi, "copy", run_copy_range, reply_written);
	if (!rq)
		return;
	rq->fi = *out_fi;
	rq->offset = in_at;
	rq->st.st_size = out_at;
	rq->size = len;
	request_start(rq);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->max_background = 64;
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

/* ---- extended attributes ---- */

static const char xattr_prefix[] = "user.";
enum { XATTR_PREFIX = sizeof(xattr_prefix) - 1 };

static int run_getxattr(struct request *rq)
{
	const char *name = rq->new_name + XATTR_PREFIX;
	if (!str_has_prefix(rq->new_name, xattr_prefix) || !rq->node->kind->xattrs)
		return -ENODATA;
	cleanup_json json_t *all = json_object();
	int r = all ? rq->node->kind->xattrs(&rq->call, rq->node, name, all) : -ENOMEM;
	if (r < 0)
		return r;
	const json_t *value = json_object_get(all, name);
	if (!value)
		return -ENODATA;
	rq->done = json_string_length(value);
	rq->text = malloc(rq->done + 1);
	if (!rq->text)
		return -ENOMEM;
	memcpy(rq->text, json_string_value(value), rq->done + 1);
	return 0;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	struct request *rq = request_new(req, id, "getxattr", run_getxattr, reply_xattr);
	if (!rq)
		return;
	rq->size = size;
	rq->new_name = strdup(name);
	if (rq->new_name)
		request_start(rq);
	else
		request_finish(rq, -ENOMEM);
}

static int run_listxattr(struct request *rq)
{
	cleanup_json json_t *all = json_object();
	cleanup_str struct str text = {0};
	int r = all ? 0 : -ENOMEM;
	if (r == 0 && rq->node->kind->xattrs)
		r = rq->node->kind->xattrs(&rq->call, rq->node, NULL, all);
	if (r < 0)
		return r;
	const char *name;
	json_t *value;
	json_object_foreach (all, name, value) {
		str_append(&text, xattr_prefix);
		str_append_n(&text, name, strlen(name) + 1);
	}
	rq->done = text.len;
	return str_steal(&text, &rq->text);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	struct request *rq = request_new(req, id, "listxattr", run_listxattr, reply_xattr);
	if (!rq)
		return;
	rq->size = size;
	request_start(rq);
}

const struct fuse_lowlevel_ops fuse_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_release,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.create = op_create,
	.poll = op_poll,
	.copy_file_range = op_copy_file_range,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
};
