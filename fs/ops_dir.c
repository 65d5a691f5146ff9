/* SPDX-License-Identifier: MIT */
/* Reading directories: a snapshot when one is opened, handed out entry by entry, with attributes where they are at hand. */
#include "ops_private.h"

#include "inode.h"
#include "listing.h"
#include "serve_private.h"

#include "reply.h"

#include <errno.h>

static int run_opendir(struct request *rq)
{
	struct node *n = rq->node;
	if (!n->kind->list)
		return -ENOTDIR;
	if (!rq->handle && !(rq->handle = handle_new(rq->call.serve, n, rq->flags)))
		return -ENOMEM;
	listing_free(rq->handle->listing);
	rq->handle->listing = calloc(1, sizeof(*rq->handle->listing));
	if (!rq->handle->listing)
		return -ENOMEM;
	int r = n->kind->list(&rq->call, n, rq->handle->listing);
	if (r == 0)
		rq->handle->mode = n->kind->entries_mode ? n->kind->entries_mode(n) : OPEN_DIRECT;
	return r;
}

void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct request *rq = request_new(req, id, "opendir", run_opendir, reply_opendir);
	if (!rq)
		return;
	rq->fi = *fi;
	request_start(rq);
}

static int rewind_listing(struct request *rq)
{
	struct listing *fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	int r = rq->handle->node->kind->list(&rq->call, rq->handle->node, fresh);
	if (r < 0) {
		listing_free(fresh);
		return r;
	}
	listing_free(rq->handle->listing);
	rq->handle->listing = fresh;
	return 0;
}

static size_t add_dot(struct request *rq, char *buf, size_t size, off_t position)
{
	struct stat st = {.st_ino = rq->node->ino, .st_mode = S_IFDIR};
	return fuse_add_direntry(rq->req, buf, size, position == 0 ? "." : "..", &st, position + 1);
}

static size_t add_plain(struct request *rq, char *buf, size_t size, size_t i)
{
	const struct listing *listing = rq->handle->listing;
	struct stat st = {.st_ino = (ino_t)-1, .st_mode = listing->entry[i].child.type};
	return fuse_add_direntry(rq->req, buf, size, listing_name(listing, i), &st, i + 3);
}

/* Under this, operations answer from what is known: they can neither block nor park the request of the whole listing. */
static void forbid_waiting(struct request *rq, bool is_forbidden, bool *may_block)
{
	bool old = rq->call.may_block;
	rq->call.request = is_forbidden ? NULL : rq;
	rq->call.may_block = *may_block;
	*may_block = old;
}

static int resolve_child(struct request *rq, const char *name, struct child *child)
{
	if (!child->obj) {
		int r = rq->node->kind->lookup(&rq->call, rq->node, name, child);
		if (r < 0)
			return r;
	}
	return ops_entry(rq, rq->node, name, child);
}

/* The child's node with attributes if that needs no waiting; else by name only: the kernel asks when it wants more. */
static bool resolve(struct request *rq, size_t i, struct fuse_entry_param *ret)
{
	const struct listing *listing = rq->handle->listing;
	struct child child = listing->entry[i].child;
	bool may_block = false;
	*ret = (struct fuse_entry_param){.attr = {.st_mode = child.type, .st_ino = (ino_t)-1}};
	forbid_waiting(rq, true, &may_block);
	int r = resolve_child(rq, listing_name(listing, i), &child);
	forbid_waiting(rq, false, &may_block);
	if (r < 0)
		return false;
	*ret = (struct fuse_entry_param){.ino = rq->child->id,
					 .attr = rq->attr.st,
					 .attr_timeout = rq->attr.attr_ttl,
					 .entry_timeout = rq->attr.entry_ttl};
	rq->child = NULL;
	return true;
}

static size_t add_plus(struct request *rq, char *buf, size_t size, size_t i)
{
	struct fuse_entry_param e;
	bool is_known = resolve(rq, i, &e);
	const char *name = listing_name(rq->handle->listing, i);
	size_t n = fuse_add_direntry_plus(rq->req, buf, size, name, &e, i + 3);
	if (n > size && is_known)
		inode_forget(rq->call.serve->table, e.ino, 1);
	return n;
}

static size_t add_dot_plus(struct request *rq, char *buf, size_t size, off_t position)
{
	struct fuse_entry_param e = {.attr = {.st_ino = rq->node->ino, .st_mode = S_IFDIR}};
	return fuse_add_direntry_plus(rq->req, buf, size, position == 0 ? "." : "..", &e, position + 1);
}

static int run_readdir(struct request *rq)
{
	bool plus = rq->flags;
	if (rq->offset == 0 && rq->handle->is_written) { /* rewinddir: a new look */
		int r = rewind_listing(rq);
		if (r < 0)
			return r;
	}
	rq->handle->is_written = true;
	if (!rq->data && !(rq->data = malloc(rq->size)))
		return -ENOMEM;
	size_t n_all = rq->handle->listing->n_entries + 2;
	size_t used = 0;
	for (size_t at = rq->offset; at < n_all; at++) {
		char *buf = rq->data + used;
		size_t room = rq->size - used, n;
		if (at < 2)
			n = plus ? add_dot_plus(rq, buf, room, at) : add_dot(rq, buf, room, at);
		else
			n = plus ? add_plus(rq, buf, room, at - 2) : add_plain(rq, buf, room, at - 2);
		if (n > room)
			break;
		used += n;
	}
	rq->call.fault.text[0] = '\0'; /* what could not be resolved is asked for by name */
	rq->done = used;
	return 0;
}

static void start_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
			  const struct fuse_file_info *fi, bool plus)
{
	struct request *rq = ops_handle_request(req, id, fi, "readdir", run_readdir, reply_data);
	if (!rq)
		return;
	rq->size = size;
	rq->offset = offset;
	rq->flags = plus;
	request_start(rq);
}

void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	start_readdir(req, id, size, offset, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	start_readdir(req, id, size, offset, fi, true);
}
