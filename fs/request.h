/* SPDX-License-Identifier: MIT */
/*
 * One FUSE request on its way: asked on the worker, asked again from a pool when the answer needs a backend, or parked
 * until something happens. It is answered exactly once: by its result, its interrupt or its deadline, whichever is first.
 */
#pragma once

#define FUSE_USE_VERSION 314
#include "node.h"

#include <fuse_lowlevel.h>
#include <stdatomic.h>

/* A parked call of a kind that waits for a backend ends after this; waits for events (wait, follow) have no end. */
enum { REQUEST_DEADLINE_MS = 30000, REQUEST_READ_DEADLINE_MS = 15000 };

struct request {
	struct call call;
	fuse_req_t req;
	const char *what;                   /* "mkdir", for messages */
	int (*run)(struct request *rq);     /* asks the tree: 0, -errno or a CALL_ value */
	void (*answer)(struct request *rq); /* replies the result of a run that gave 0 */

	/* arguments: nodes and the handle are referenced, strings owned */
	struct node *node, *other;
	struct handle *handle;
	char *name, *new_name;
	mode_t mode;
	dev_t rdev;
	int flags;
	struct stat st;
	struct fuse_file_info fi;
	bool has_fi;
	off_t offset;
	size_t size;
	char *data;        /* of a write that had to wait; what a read brought */
	struct loan *loan; /* owned: the same, of a kind that lends */
	const char *written;
	void *poll_handle;

	/* results */
	struct attr attr;
	struct node *child; /* counted as a kernel lookup */
	enum ttl missing_ttl;
	char *text;
	ssize_t done;
	unsigned events;

	bool has_waited; /* it is asked again after CALL_PARKED */

	/* atomic */
	atomic_bool is_answered, is_interrupted;
	atomic_int n_refs;

	/* changed with the parking lot's lock */
	atomic_bool is_parked;

	/* protected by the parking lot's lock */
	int64_t deadline_ms; /* monotonic; 0: none */
	struct request *prev_parked, *next_parked;

	/* for whoever keeps it after CALL_PARKED: protected by the keeper's lock */
	struct request *next_waiter;
};

struct parking;
int parking_new(struct serve *serve, struct parking **ret);
void parking_free(struct parking *parking); /* takes NULL */
size_t parking_count(struct parking *parking);
/* Answers what is interrupted or overdue; called by the timer. */
void parking_sweep(struct parking *parking);
/* Answers everything that is parked with -EINTR. */
void parking_clear(struct parking *parking);

/* NULL: out of memory, and the request was answered so. */
struct request *request_new(fuse_req_t req, uint64_t node_id, const char *what,
			    int (*run)(struct request *rq), void (*answer)(struct request *rq));

/* Asks on this thread, which may not block; goes on in a pool if it must. Takes the caller's reference. */
void request_start(struct request *rq);

/* From now on it can be interrupted. Call it before anybody else can finish the request. deadline_ms 0: none. */
void request_park(struct request *rq, int64_t timeout_ms);

/*
 * From now on neither interrupt nor deadline ends it: whoever keeps it answers soon. False: it is answered already, its
 * caller has left.
 */
bool request_hold(struct request *rq);

/* Asks again (not blocking) and answers, unless it parks again. Takes the keeper's reference. */
void request_resume(struct request *rq);

/* Answers with what `run` gave (or an errno) unless that has been done; takes the keeper's reference. */
void request_finish(struct request *rq, int result);

bool request_is_answered(const struct request *rq);
void request_unref(struct request *rq);

/* A row of waiting requests, kept by somebody under a lock of his own. */
struct waiters {
	struct request *first;
};
void waiters_add(struct waiters *waiters, struct request *rq); /* drops those that are answered already */
/* Takes the whole row out, to be resumed without the lock. */
struct request *waiters_take(struct waiters *waiters);
/* Is there one in the row whose caller has not left? */
bool waiters_are_heard(const struct request *row);
/* The rows in one; both may be NULL. */
struct request *waiters_join(struct request *row, struct request *other);
/* Not under a lock, as the next two: each asks again, is answered with 0, fails alike. */
void waiters_resume(struct request *row);
void waiters_finish(struct request *row);
void waiters_fail(struct request *row, int error, const struct fault *fault);

/* May this call block? If not: notes whose pool is to be used, and gives CALL_MUST_BLOCK; else 0. */
int call_may_block(struct call *c, const struct remote *remote);
