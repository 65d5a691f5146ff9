/* SPDX-License-Identifier: MIT */
/* The only callers of fuse_reply_*, and the only place where an error's sign flips. */
#pragma once

#include "request.h"

/* A request that never became one. */
void reply_error(fuse_req_t req, int error);

/* Replies the errno, and reports the sentence if the tree gave one. */
void reply_failure(struct request *rq, int error);

/* The caller leaves before there is a result: its interrupt (-EINTR) or its deadline (-ETIMEDOUT). */
void reply_leave(struct request *rq, int error);

/* A result that nobody will hear: the lookup that it counted is given back. */
void reply_take_back(struct request *rq);

/* Results of runs that gave 0; each is the `answer` of some operation. */
void reply_done(struct request *rq);
void reply_entry(struct request *rq); /* child and attr; child NULL: not there, for missing_ttl */
void reply_attr(struct request *rq);
void reply_text(struct request *rq);    /* readlink */
void reply_open(struct request *rq);    /* handle, fi */
void reply_opendir(struct request *rq); /* the same, of a directory */
void reply_create(struct request *rq);
void reply_data(struct request *rq); /* data, done */
void reply_written(struct request *rq);
void reply_poll(struct request *rq);
void reply_statfs(struct request *rq);
void reply_xattr(struct request *rq); /* text, done: its length; size: the room there is */
