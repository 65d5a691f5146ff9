/* SPDX-License-Identifier: MIT */
/*
 * Requests: one run, one answer.
 *
 * `is_answered` decides every race: who sets it first replies. The others' results are dropped; what they changed
 * stays changed and is known to the tree. References: one for whoever runs or keeps the request; the parking lot holds
 * none, a request takes itself out before it is freed.
 *
 * libfuse calls the interrupt function with the request's lock held, perhaps from inside its registration: it only sets
 * a flag and wakes the timer. Before replying, registering NULL waits for such a call to be over.
 */
#include "request.h"

#include "chunk.h"
#include "cleanup.h"
#include "clock.h"
#include "pool.h"
#include "remote.h"
#include "reply.h"
#include "serve_private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct parking {
	struct serve *serve;
	pthread_mutex_t lock;
	/* protected by lock */
	struct request *first;
	size_t n_parked;
	bool is_sweep_due;
};

enum { SWEEP_MS = 250 };

static void request_leave(struct request *rq, int error);

int parking_new(struct serve *serve, struct parking **ret)
{
	struct parking *parking = calloc(1, sizeof(*parking));
	if (!parking)
		return -ENOMEM;
	parking->serve = serve;
	pthread_mutex_init(&parking->lock, NULL);
	*ret = parking;
	return 0;
}

void parking_free(struct parking *parking)
{
	if (!parking)
		return;
	pthread_mutex_destroy(&parking->lock);
	free(parking);
}

size_t parking_count(struct parking *parking)
{
	LOCK_SCOPE(&parking->lock);
	return parking->n_parked;
}

static void sweep_is_due(void *arg)
{
	struct parking *parking = arg;
	pthread_mutex_lock(&parking->lock);
	parking->is_sweep_due = false;
	pthread_mutex_unlock(&parking->lock);
	parking_sweep(parking);
}

static void plan_sweep_locked(struct parking *parking)
{
	if (parking->is_sweep_due)
		return;
	parking->is_sweep_due = timers_in(parking->serve->timers, SWEEP_MS, sweep_is_due, parking) == 0;
}

/* One that is to be ended now, claimed and with a reference; NULL if there is none. */
static struct request *next_ended(struct parking *parking, bool all, int *ret_result)
{
	LOCK_SCOPE(&parking->lock);
	int64_t now = clock_mono_ms();
	for (struct request *rq = parking->first; rq; rq = rq->next_parked) {
		bool is_late = rq->deadline_ms && now >= rq->deadline_ms;
		if (rq->is_answered || !(all || rq->is_interrupted || is_late))
			continue;
		rq->n_refs++; /* before: its keeper lets go of it as soon as it is answered */
		if (!atomic_exchange(&rq->is_answered, true)) {
			*ret_result = rq->is_interrupted || !is_late ? -EINTR : -ETIMEDOUT;
			return rq;
		}
		rq->n_refs--; /* not the last: who has answered it waits to take it out of this list */
	}
	if (parking->first && !all)
		plan_sweep_locked(parking);
	return NULL;
}

static void end_parked(struct parking *parking, bool all)
{
	struct request *rq;
	int error;
	while ((rq = next_ended(parking, all, &error)))
		request_leave(rq, error);
}

void parking_sweep(struct parking *parking)
{
	end_parked(parking, false);
}

void parking_clear(struct parking *parking)
{
	end_parked(parking, true);
}

struct request *request_new(fuse_req_t req, uint64_t node_id, const char *what,
			    int (*run)(struct request *rq), void (*answer)(struct request *rq))
{
	struct serve *serve = fuse_req_userdata(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct request *rq = calloc(1, sizeof(*rq));
	struct node *node = rq ? inode_get(serve->table, node_id) : NULL;
	if (!node) {
		reply_error(req, rq ? -ESTALE : -ENOMEM);
		free(rq);
		return NULL;
	}
	rq->call = (struct call){
		.serve = serve, .request = rq, .pid = ctx->pid, .uid = ctx->uid, .gid = ctx->gid};
	rq->req = req;
	rq->what = what;
	rq->run = run;
	rq->answer = answer;
	rq->node = node;
	rq->n_refs = 1;
	return rq;
}

void request_unref(struct request *rq)
{
	if (--rq->n_refs > 0)
		return;
	struct serve *serve = rq->call.serve;
	assert(rq->is_answered && !rq->is_parked);
	inode_unref(serve->table, rq->node);
	inode_unref(serve->table, rq->other);
	handle_unref(serve, rq->handle);
	free(rq->name);
	free(rq->new_name);
	free(rq->data);
	loan_free(rq->loan);
	free(rq->text);
	free(rq);
}

static bool unpark_locked(struct parking *parking, struct request *rq)
{
	if (!rq->is_parked)
		return false;
	rq->is_parked = false;
	parking->n_parked--;
	if (rq->prev_parked)
		rq->prev_parked->next_parked = rq->next_parked;
	else
		parking->first = rq->next_parked;
	if (rq->next_parked)
		rq->next_parked->prev_parked = rq->prev_parked;
	return true;
}

static void unpark(struct request *rq)
{
	struct parking *parking = rq->call.serve->parking;
	bool was_parked;
	{
		LOCK_SCOPE(&parking->lock);
		was_parked = unpark_locked(parking, rq);
	}
	if (was_parked)
		fuse_req_interrupt_func(rq->req, NULL, NULL);
}

/* Who gets true here, and nobody else, replies. */
static bool claim_answer(struct request *rq)
{
	if (atomic_exchange(&rq->is_answered, true))
		return false;
	unpark(rq);
	return true;
}

/* Its caller goes, while somebody may still be at work on it: nothing but the immutable parts may be read here. */
static void request_leave(struct request *rq, int error)
{
	unpark(rq);
	reply_leave(rq, error);
	request_unref(rq);
}

bool request_hold(struct request *rq)
{
	struct parking *parking = rq->call.serve->parking;
	bool was_parked, is_answered;
	{
		LOCK_SCOPE(&parking->lock);
		is_answered = rq->is_answered;
		was_parked = !is_answered && unpark_locked(parking, rq);
	}
	if (was_parked)
		fuse_req_interrupt_func(rq->req, NULL, NULL);
	return !is_answered;
}

void request_finish(struct request *rq, int result)
{
	if (!claim_answer(rq)) {
		if (result == 0 && rq->child)
			reply_take_back(rq);
		request_unref(rq);
		return;
	}
	if (result < 0)
		reply_failure(rq, result);
	else
		rq->answer(rq);
	request_unref(rq);
}

static void request_run_blocking(void *arg)
{
	struct request *rq = arg;
	if (rq->is_answered) { /* its caller has left: nothing is begun */
		request_unref(rq);
		return;
	}
	rq->call.may_block = true;
	int r = rq->run(rq);
	if (r != CALL_PARKED) /* else it may be another thread's by now, or gone */
		request_finish(rq, r);
}

void request_resume(struct request *rq)
{
	rq->call.may_block = false;
	int r = rq->run(rq);
	if (r == CALL_PARKED)
		return;
	if (r != CALL_MUST_BLOCK) {
		request_finish(rq, r);
		return;
	}
	request_park(rq, REQUEST_DEADLINE_MS);
	r = pool_submit(rq->call.pool->pool, request_run_blocking, rq);
	if (r < 0) {
		fault_set(&rq->call.fault, EAGAIN, "%s: too many calls wait for %s already; try again later",
			  rq->what, rq->call.pool->conf->name);
		request_finish(rq, r);
	}
}

void request_start(struct request *rq)
{
	if (rq->call.serve
		    ->is_stopping) { /* programs ask again after EINTR, and nobody would end that wait */
		request_finish(rq, -ENOTCONN);
		return;
	}
	request_resume(rq);
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct request *rq = arg;
	struct parking *parking = rq->call.serve->parking;
	rq->is_interrupted = true;
	(void)timers_in(parking->serve->timers, 0, sweep_is_due, parking); /* else the next sweep finds it */
}

static void park_locked(struct parking *parking, struct request *rq)
{
	rq->is_parked = true;
	rq->prev_parked = NULL;
	rq->next_parked = parking->first;
	if (parking->first)
		parking->first->prev_parked = rq;
	parking->first = rq;
	parking->n_parked++;
}

void request_park(struct request *rq, int64_t timeout_ms)
{
	struct parking *parking = rq->call.serve->parking;
	/* for the first time: before anybody can find it; who answers it takes this back */
	if (!rq->is_parked && !rq->is_answered)
		fuse_req_interrupt_func(rq->req, on_interrupt, rq);
	LOCK_SCOPE(&parking->lock);
	rq->deadline_ms = timeout_ms ? clock_mono_ms() + timeout_ms : 0;
	if (!rq->is_parked && !rq->is_answered) /* its caller may have left while it was asked again */
		park_locked(parking, rq);
	plan_sweep_locked(parking);
}

bool request_is_answered(const struct request *rq)
{
	return rq->is_answered;
}

static void unref_is_due(void *arg)
{
	request_unref(arg);
}

/* The keeper holds his lock, and the last reference may close a handle of his kind: not here. */
static bool unref_later(struct request *rq)
{
	return timers_in(rq->call.serve->timers, 0, unref_is_due, rq) == 0;
}

void waiters_add(struct waiters *waiters, struct request *rq)
{
	struct request **at = &waiters->first;
	while (*at) {
		struct request *waiting = *at, *next = waiting->next_waiter;
		if (waiting->is_answered && unref_later(waiting))
			*at = next;
		else
			at = &waiting->next_waiter;
	}
	rq->next_waiter = waiters->first;
	waiters->first = rq;
}

struct request *waiters_take(struct waiters *waiters)
{
	return STEAL(waiters->first);
}

bool waiters_are_heard(const struct request *row)
{
	while (row && request_is_answered(row))
		row = row->next_waiter;
	return row;
}

struct request *waiters_join(struct request *row, struct request *other)
{
	struct request **end = &row;
	while (*end)
		end = &(*end)->next_waiter;
	*end = other;
	return row;
}

static struct request *shift(struct request **row)
{
	struct request *rq = *row;
	*row = STEAL(rq->next_waiter);
	return rq;
}

void waiters_finish(struct request *row)
{
	while (row)
		request_finish(shift(&row), 0);
}

void waiters_fail(struct request *row, int error, const struct fault *fault)
{
	while (row) {
		struct request *rq = shift(&row);
		rq->call.fault = *fault;
		request_finish(rq, error);
	}
}

void waiters_resume(struct request *row)
{
	while (row) {
		struct request *rq = shift(&row);
		rq->has_waited = true;
		if (rq->is_answered)
			request_unref(rq);
		else
			request_resume(rq);
	}
}

int call_may_block(struct call *c, const struct remote *remote)
{
	if (c->may_block)
		return 0;
	c->pool = remote;
	return CALL_MUST_BLOCK;
}
