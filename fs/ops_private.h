/* SPDX-License-Identifier: MIT */
/* What the files of the FUSE front end share. */
#pragma once

#include "request.h"

/* The child as a node that the kernel will count (rq->child), with its attributes (rq->attr). */
int ops_entry(struct request *rq, struct node *dir, const char *name, const struct child *child);

/* A request on an open file or directory; NULL: it has been answered. */
struct request *ops_handle_request(fuse_req_t req, fuse_ino_t id, const struct fuse_file_info *fi,
				   const char *what, int (*run)(struct request *rq),
				   void (*answer)(struct request *rq));

/* A request about a name in a directory; NULL: it has been answered. */
struct request *ops_name_request(fuse_req_t req, fuse_ino_t dir, const char *name, const char *what,
				 int (*run)(struct request *rq), void (*answer)(struct request *rq));

/* What a directory that takes no such thing says. */
int ops_not_here(struct request *rq);

void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name);
void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode);
void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name);
void op_link(fuse_req_t req, fuse_ino_t from, fuse_ino_t dir, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t newdir, const char *newname,
	       unsigned flags);

void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi);
