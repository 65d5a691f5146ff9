/* SPDX-License-Identifier: MIT */
/* Answers to the kernel. */
#include "reply.h"

#include "chunk.h"
#include "inode.h"
#include "serve_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

void reply_error(fuse_req_t req, int error)
{
	assert(error < 0);
	(void)fuse_reply_err(req, -error); /* the kernel may have given up on it */
}

/* What no user should ever see as an errno number above the real ones. */
static int plain_errno(int error)
{
	return error <= -4096 ? -EIO : error;
}

void reply_failure(struct request *rq, int error)
{
	int err = plain_errno(error);
	const struct fault *fault = &rq->call.fault;
	if (fault->text[0] && err != -EINTR)
		serve_report(rq->call.serve, rq->node, rq->name, -err, fault->text);
	reply_error(rq->req, err);
}

void reply_leave(struct request *rq, int error)
{
	if (error == -ETIMEDOUT) {
		char sentence[128];
		snprintf(sentence, sizeof(sentence),
			 "%s: no answer in time; the service or the network is slow or away, try again later",
			 rq->what);
		serve_report(rq->call.serve, rq->node, rq->name, ETIMEDOUT, sentence);
	}
	reply_error(rq->req, error);
}

void reply_take_back(struct request *rq)
{
	inode_forget(rq->call.serve->table, rq->child->id, 1);
	rq->child = NULL;
}

static struct fuse_entry_param entry_param(const struct request *rq)
{
	return (struct fuse_entry_param){
		.ino = rq->child->id,
		.attr = rq->attr.st,
		.attr_timeout = rq->attr.attr_ttl,
		.entry_timeout = rq->attr.entry_ttl,
	};
}

void reply_done(struct request *rq)
{
	(void)fuse_reply_err(rq->req, 0);
}

void reply_entry(struct request *rq)
{
	if (!rq->child) {
		struct fuse_entry_param missing = {.entry_timeout = rq->missing_ttl};
		(void)(rq->missing_ttl ? fuse_reply_entry(rq->req, &missing)
				       : fuse_reply_err(rq->req, ENOENT));
		return;
	}
	struct fuse_entry_param e = entry_param(rq);
	if (fuse_reply_entry(rq->req, &e) < 0)
		reply_take_back(rq);
}

void reply_attr(struct request *rq)
{
	(void)fuse_reply_attr(rq->req, &rq->attr.st, rq->attr.attr_ttl);
}

void reply_text(struct request *rq)
{
	(void)fuse_reply_readlink(rq->req, rq->text);
}

/* The handle moves to the kernel, which gives it back in RELEASE; if it does not take it, it is released here. */
static void lend_handle(struct request *rq)
{
	struct handle *h = rq->handle;
	rq->fi.fh = (uint64_t)(uintptr_t)h;
	rq->fi.direct_io = h->mode == OPEN_DIRECT || h->mode == OPEN_STREAM;
	rq->fi.keep_cache = h->mode == OPEN_KEEP;
	rq->fi.nonseekable = h->mode == OPEN_STREAM;
	rq->fi.noflush = !h->node->kind->flush;
	handle_ref(h);
}

static void take_handle_back(struct request *rq)
{
	handle_unref(rq->call.serve, rq->handle);
}

void reply_open(struct request *rq)
{
	lend_handle(rq);
	if (fuse_reply_open(rq->req, &rq->fi) < 0)
		take_handle_back(rq);
}

void reply_opendir(struct request *rq)
{
	lend_handle(rq);
	rq->fi.direct_io = false;
	rq->fi.cache_readdir = rq->handle->mode != OPEN_DIRECT;
	if (fuse_reply_open(rq->req, &rq->fi) < 0)
		take_handle_back(rq);
}

void reply_create(struct request *rq)
{
	struct fuse_entry_param e = entry_param(rq);
	lend_handle(rq);
	if (fuse_reply_create(rq->req, &e, &rq->fi) < 0) {
		take_handle_back(rq);
		reply_take_back(rq);
	}
}

void reply_data(struct request *rq)
{
	if (rq->loan)
		(void)fuse_reply_iov(rq->req, rq->loan->part, (int)rq->loan->n_parts);
	else
		(void)fuse_reply_buf(rq->req, rq->data, rq->done);
}

void reply_written(struct request *rq)
{
	(void)fuse_reply_write(rq->req, rq->done);
}

void reply_poll(struct request *rq)
{
	(void)fuse_reply_poll(rq->req, rq->events);
}

void reply_xattr(struct request *rq)
{
	if (rq->size == 0)
		(void)fuse_reply_xattr(rq->req, rq->done);
	else if (rq->size < (size_t)rq->done)
		(void)fuse_reply_err(rq->req, ERANGE);
	else
		(void)fuse_reply_buf(rq->req, rq->text, rq->done);
}

/* Invented and large: installers refuse to work on a file system that says 0. */
void reply_statfs(struct request *rq)
{
	struct statvfs st = {
		.f_bsize = 4096,
		.f_frsize = 4096,
		.f_blocks = 1ULL << 38,
		.f_bfree = 1ULL << 38,
		.f_bavail = 1ULL << 38,
		.f_files = 1ULL << 40,
		.f_ffree = 1ULL << 40,
		.f_favail = 1ULL << 40,
		.f_namemax = 255,
	};
	(void)fuse_reply_statfs(rq->req, &st);
}
