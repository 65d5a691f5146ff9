/* SPDX-License-Identifier: MIT */
/* Names: looking them up, making, moving and removing them. */
#include "ops_private.h"

#include "inode.h"
#include "kinds.h"
#include "reply.h"
#include "serve_private.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static enum ttl missing_ttl(const struct node *dir)
{
	return dir->kind->missing_ttl ? dir->kind->missing_ttl(dir) : TTL_MISSING;
}

static char *take_name(struct request *rq, const char *name)
{
	rq->name = strdup(name);
	return rq->name;
}
struct request *ops_name_request(fuse_req_t req, fuse_ino_t dir, const char *name, const char *what,
				 int (*run)(struct request *rq), void (*answer)(struct request *rq))
{
	struct request *rq = request_new(req, dir, what, run, answer);
	if (rq && !take_name(rq, name)) {
		request_finish(rq, -ENOMEM);
		return NULL;
	}
	return rq;
}

static int run_lookup(struct request *rq)
{
	struct child child;
	struct node *dir = rq->node;
	if (!dir->kind->lookup)
		return -ENOTDIR;
	if (strlen(rq->name) > NAME_MAX) /* the kernel looks up what it makes or renames, too */
		return -ENAMETOOLONG;
	int r = node_is_junk(rq->name) && dir->kind != &kind_disk
			? -ENOENT
			: dir->kind->lookup(&rq->call, dir, rq->name, &child);
	if (r == 0)
		r = ops_entry(rq, dir, rq->name, &child);
	if (r == -ENOENT) { /* a negative entry */
		rq->missing_ttl = missing_ttl(dir);
		return 0;
	}
	return r;
}

void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct request *rq = ops_name_request(req, dir, name, "lookup", run_lookup, reply_entry);
	if (rq)
		request_start(rq);
}

int ops_not_here(struct request *rq)
{
	if (!rq->node->kind->lookup)
		return -ENOTDIR;
	return fault_set(
		&rq->call.fault, EPERM,
		"%s: not possible in this directory; README.md at the top of the mount tells what goes where",
		rq->what);
}

static int run_mkdir(struct request *rq)
{
	struct child child;
	if (!rq->node->kind->mkdir)
		return ops_not_here(rq);
	int r = rq->node->kind->mkdir(&rq->call, rq->node, rq->name, rq->mode, &child);
	return r < 0 ? r : ops_entry(rq, rq->node, rq->name, &child);
}

void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode)
{
	struct request *rq = ops_name_request(req, dir, name, "mkdir", run_mkdir, reply_entry);
	if (!rq)
		return;
	rq->mode = mode;
	request_start(rq);
}

static int run_mknod(struct request *rq)
{
	struct child child;
	if (!rq->node->kind->mknod)
		return ops_not_here(rq);
	int r = rq->node->kind->mknod(&rq->call, rq->node, rq->name, rq->mode, rq->rdev, &child);
	return r < 0 ? r : ops_entry(rq, rq->node, rq->name, &child);
}

void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev)
{
	struct request *rq = ops_name_request(req, dir, name, "mknod", run_mknod, reply_entry);
	if (!rq)
		return;
	rq->mode = mode;
	rq->rdev = rdev;
	request_start(rq);
}

static int run_symlink(struct request *rq)
{
	struct child child;
	if (!rq->node->kind->symlink)
		return ops_not_here(rq);
	int r = rq->node->kind->symlink(&rq->call, rq->node, rq->name, rq->new_name, &child);
	return r < 0 ? r : ops_entry(rq, rq->node, rq->name, &child);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name)
{
	struct request *rq = ops_name_request(req, dir, name, "symlink", run_symlink, reply_entry);
	if (!rq)
		return;
	rq->new_name = strdup(target);
	if (rq->new_name)
		request_start(rq);
	else
		request_finish(rq, -ENOMEM);
}

static int run_link(struct request *rq)
{
	struct child child;
	if (!rq->node->kind->link)
		return ops_not_here(rq);
	int r = rq->node->kind->link(&rq->call, rq->other, rq->node, rq->name, &child);
	return r < 0 ? r : ops_entry(rq, rq->node, rq->name, &child);
}

void op_link(fuse_req_t req, fuse_ino_t from, fuse_ino_t dir, const char *name)
{
	struct request *rq = ops_name_request(req, dir, name, "link", run_link, reply_entry);
	if (!rq)
		return;
	rq->other = inode_get(rq->call.serve->table, from);
	if (rq->other)
		request_start(rq);
	else
		request_finish(rq, -ESTALE);
}

static int run_unlink(struct request *rq)
{
	if (!rq->node->kind->unlink)
		return ops_not_here(rq);
	return rq->node->kind->unlink(&rq->call, rq->node, rq->name);
}

void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct request *rq = ops_name_request(req, dir, name, "unlink", run_unlink, reply_done);
	if (rq)
		request_start(rq);
}

static int run_rmdir(struct request *rq)
{
	if (!rq->node->kind->rmdir)
		return ops_not_here(rq);
	return rq->node->kind->rmdir(&rq->call, rq->node, rq->name);
}

void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	struct request *rq = ops_name_request(req, dir, name, "rmdir", run_rmdir, reply_done);
	if (rq)
		request_start(rq);
}

/* mv answers EINVAL, ENOSYS and EOPNOTSUPP in ways of its own: never let one through. */
static int rename_errno(int r)
{
	return r == -EINVAL || r == -EOPNOTSUPP || r == -ENOSYS ? -EPERM : r;
}

static int run_rename(struct request *rq)
{
	if (!rq->node->kind->rename)
		return ops_not_here(rq);
	if (rq->flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EPERM;
	return rename_errno(
		rq->node->kind->rename(&rq->call, rq->node, rq->name, rq->other, rq->new_name, rq->flags));
}

void op_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t newdir, const char *newname,
	       unsigned flags)
{
	struct request *rq = ops_name_request(req, dir, name, "rename", run_rename, reply_done);
	if (!rq)
		return;
	rq->other = inode_get(rq->call.serve->table, newdir);
	rq->new_name = strdup(newname);
	rq->flags = (int)flags;
	if (rq->other && rq->new_name)
		request_start(rq);
	else
		request_finish(rq, rq->other ? -ENOMEM : -ESTALE);
}
