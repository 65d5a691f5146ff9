/* SPDX-License-Identifier: MIT */
/*
 * Pool, timers and journal from many threads at once. argv[1] says which; 0, or a line on stderr and 1. What is handed
 * over by a lock of theirs is not atomic here, so that ThreadSanitizer sees when one is missing.
 */
#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "journal.h"
#include "pool.h"
#include "threads.h"
#include "timers.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

enum { N_SENDERS = 4, N_EACH = 2000, QUEUE_MAX = 16, ENOUGH = 500 };

static atomic_bool is_stopped;

/* ---- pool ---- */

struct task {
	size_t sender, number;
	unsigned n_runs;
};

static struct {
	struct pool *pool;
	struct task task[N_SENDERS][N_EACH];
	size_t next[N_SENDERS];    /* the pool's only thread */
	size_t n_taken[N_SENDERS]; /* each sender's own */
	sem_t has_begun, may_go_on;
	atomic_size_t n_run;
} pools;

static void run_in_order(void *arg)
{
	struct task *task = arg;

	must(task->number == pools.next[task->sender]++);
	task->n_runs++;
}

static void *send_tasks(void *arg)
{
	size_t sender = (size_t)arg;

	for (size_t i = 0; i < N_EACH; i++) {
		struct task *task = &pools.task[sender][i];
		*task = (struct task){.sender = sender, .number = i};
		int r;
		while ((r = pool_submit(pools.pool, run_in_order, task)) == -EAGAIN)
			(void)sched_yield(); /* the queue is full */
		must(r == 0);
	}
	return NULL;
}

static void tasks_run_once_and_in_order_of_arrival(void)
{
	pthread_t sender[N_SENDERS];

	must(pool_new("order", 1, QUEUE_MAX, &pools.pool) == 0);
	threads_start(sender, N_SENDERS, send_tasks);
	threads_join(sender, N_SENDERS);
	pool_stop(pools.pool);
	for (size_t i = 0; i < N_SENDERS; i++)
		for (size_t k = 0; k < N_EACH; k++)
			must(pools.task[i][k].n_runs == 1);
	must(pool_submit(pools.pool, run_in_order, &pools.task[0][0]) == -EAGAIN);
	pool_free(pools.pool);
}

static void count_run(void *arg)
{
	if (++pools.n_run == ENOUGH)
		must(sem_post(&pools.has_begun) == 0);
}

static void *send_until_stopped(void *arg)
{
	size_t *n_taken = &pools.n_taken[(size_t)arg];

	while (!is_stopped) {
		int r = pool_submit(pools.pool, count_run, NULL);
		must(r == 0 || r == -EAGAIN);
		if (r == 0)
			++*n_taken;
		else
			(void)sched_yield();
	}
	return NULL;
}

static void a_stop_loses_nothing_that_was_taken(void)
{
	pthread_t sender[N_SENDERS];
	size_t n_taken = 0;

	must(pool_new("stop", 4, QUEUE_MAX, &pools.pool) == 0);
	threads_start(sender, N_SENDERS, send_until_stopped);
	must(sem_wait(&pools.has_begun) == 0);
	pool_stop(pools.pool);
	size_t n_run = pools.n_run;
	must(pool_submit(pools.pool, count_run, NULL) == -EAGAIN);
	is_stopped = true;
	threads_join(sender, N_SENDERS);
	for (size_t i = 0; i < N_SENDERS; i++)
		n_taken += pools.n_taken[i];
	must(n_run == n_taken && pools.n_run == n_run);
	pool_free(pools.pool);
}

static void hold_the_thread(void *arg)
{
	must(sem_post(&pools.has_begun) == 0);
	must(sem_wait(&pools.may_go_on) == 0);
}

static void *stop_pool(void *arg)
{
	pool_stop(pools.pool);
	return NULL;
}

static void a_stop_runs_what_is_queued(void)
{
	static struct task queued[QUEUE_MAX];
	pthread_t stopper;

	memset(pools.next, 0, sizeof(pools.next));
	must(pool_new("queued", 1, QUEUE_MAX, &pools.pool) == 0);
	must(pool_submit(pools.pool, hold_the_thread, NULL) == 0);
	must(sem_wait(&pools.has_begun) == 0);
	for (size_t i = 0; i < QUEUE_MAX; i++) {
		queued[i] = (struct task){.number = i};
		must(pool_submit(pools.pool, run_in_order, &queued[i]) == 0);
	}
	must(pool_submit(pools.pool, run_in_order, &queued[0]) == -EAGAIN);
	threads_start(&stopper, 1, stop_pool);
	must(sem_post(&pools.may_go_on) == 0);
	threads_join(&stopper, 1);
	must(pools.next[0] == QUEUE_MAX);
	pool_free(pools.pool);
}

static void test_pool(void)
{
	must(sem_init(&pools.has_begun, 0, 0) == 0 && sem_init(&pools.may_go_on, 0, 0) == 0);
	tasks_run_once_and_in_order_of_arrival();
	a_stop_loses_nothing_that_was_taken();
	a_stop_runs_what_is_queued();
}

/* ---- timers ---- */

enum { N_WAITING = 32, N_DUE = 40, CHAIN = 1000, NEVER_MS = 3600000 };

struct due {
	int64_t earliest_ms, latest_ms;
	size_t place; /* in the order in which they ran */
};

static struct {
	struct timers *timers;
	sem_t room[N_SENDERS]; /* so many more may wait */
	sem_t is_enough, chain_ended;
	size_t number[N_SENDERS][N_WAITING];
	/* the timers' thread, until it has ended */
	size_t next[N_SENDERS];
	size_t n_run, n_chained, n_due;
	struct due due[N_DUE];
	bool is_over;
} clocks;

static void never(void *arg)
{
	must(!"a timer that is not due has run");
}

static void run_next(void *arg)
{
	const size_t *number = arg;
	size_t sender = (size_t)(number - &clocks.number[0][0]) / N_WAITING;

	must(!clocks.is_over);
	must(*number == clocks.next[sender]++);
	must(sem_post(&clocks.room[sender]) == 0);
	if (++clocks.n_run == ENOUGH * N_SENDERS)
		must(sem_post(&clocks.is_enough) == 0);
}

/* All due at once: those of one sender run as they came. */
static void *send_timers(void *arg)
{
	size_t sender = (size_t)arg;

	for (size_t i = 0;; i++) {
		must(sem_wait(&clocks.room[sender]) == 0);
		if (is_stopped)
			return NULL;
		size_t *number = &clocks.number[sender][i % N_WAITING];
		*number = i;
		must(timers_in(clocks.timers, 0, run_next, number) == 0);
	}
}

static void run_chain(void *arg)
{
	must(!clocks.is_over);
	if (++clocks.n_chained < CHAIN)
		must(timers_in(clocks.timers, 0, run_chain, NULL) == 0);
	else
		must(sem_post(&clocks.chain_ended) == 0);
}

static void run_due(void *arg)
{
	struct due *due = arg;

	must(clock_mono_ms() >= due->earliest_ms);
	due->place = ++clocks.n_due;
	if (clocks.n_due == N_DUE)
		must(sem_post(&clocks.is_enough) == 0);
}

static void timers_run_when_they_are_due(void)
{
	must(timers_new(&clocks.timers) == 0 && timers_start(clocks.timers) == 0);
	for (int i = 0; i < N_DUE; i++) {
		struct due *due = &clocks.due[i];
		int64_t delay_ms = i * 7 % N_DUE;
		due->earliest_ms = clock_mono_ms() + delay_ms;
		must(timers_in(clocks.timers, delay_ms, run_due, due) == 0);
		due->latest_ms = clock_mono_ms() + delay_ms;
	}
	must(sem_wait(&clocks.is_enough) == 0);
	timers_stop(clocks.timers);
	timers_free(clocks.timers);
	for (const struct due *a = clocks.due; a < clocks.due + N_DUE; a++)
		for (const struct due *b = clocks.due; b < clocks.due + N_DUE; b++)
			must(a->latest_ms >= b->earliest_ms || a->place < b->place);
}

static void timers_stop_while_more_are_set(void)
{
	pthread_t sender[N_SENDERS];

	must(timers_new(&clocks.timers) == 0 && timers_start(clocks.timers) == 0);
	must(timers_in(clocks.timers, NEVER_MS, never, NULL) == 0);
	must(timers_in(clocks.timers, 0, run_chain, NULL) == 0);
	threads_start(sender, N_SENDERS, send_timers);
	must(sem_wait(&clocks.is_enough) == 0 && sem_wait(&clocks.chain_ended) == 0);
	timers_stop(clocks.timers);
	clocks.is_over = true;
	must(timers_in(clocks.timers, 0, never, NULL) == 0);
	is_stopped = true;
	for (size_t i = 0; i < N_SENDERS; i++)
		must(sem_post(&clocks.room[i]) == 0);
	threads_join(sender, N_SENDERS);
	must(clocks.n_chained == CHAIN);
	timers_free(clocks.timers);
}

static void test_timers(void)
{
	must(sem_init(&clocks.is_enough, 0, 0) == 0 && sem_init(&clocks.chain_ended, 0, 0) == 0);
	for (size_t i = 0; i < N_SENDERS; i++)
		must(sem_init(&clocks.room[i], 0, N_WAITING) == 0);
	timers_run_when_they_are_due();
	timers_stop_while_more_are_set();
}

/* ---- journal ---- */

enum { N_SHARED = 16, N_OWN = 8 };

static struct {
	struct journal *journal[2]; /* two mounts of one state */
	pthread_barrier_t all_added;
	int64_t shared_id[N_SHARED]; /* whose draft it became; others read it after the barrier */
	atomic_uint n_added[N_SHARED], n_claimed[N_SHARED];
} books;

static void add_shared(struct journal *journal, size_t i)
{
	char name[32];
	int64_t id;

	(void)snprintf(name, sizeof(name), "shared%zu", i);
	int r = journal_draft_add(journal, PLACE_TRAIN, "", name, "everybody", &id);
	must(r == 0 || r == -EEXIST);
	if (r < 0)
		return;
	books.n_added[i]++;
	books.shared_id[i] = id;
	must(journal_draft_complete(journal, id) == 0);
}

static void claim_shared(struct journal *journal, size_t writer, size_t i)
{
	char job[32];

	(void)snprintf(job, sizeof(job), "job%zu-%zu", i, writer);
	int r = journal_draft_claim(journal, books.shared_id[i], "everybody", job);
	must(r == 0 || r == -EBUSY);
	if (r < 0)
		return;
	books.n_claimed[i]++;
	must(journal_draft_sent(journal, books.shared_id[i], job, job, (int64_t)i) == 0);
}

static void live_through_own(struct journal *journal, size_t writer, size_t i)
{
	char name[32];
	int64_t id;

	(void)snprintf(name, sizeof(name), "own%zu-%zu", writer, i);
	must(journal_draft_add(journal, PLACE_DRAFTS, "", name, "me", &id) == 0);
	must(journal_draft_move(journal, id, PLACE_TRAIN, "", name) == 0);
	must(journal_draft_adopt(journal, id, "another", "me") == -EBUSY);
	must(journal_draft_refuse(journal, id, name) == 0);
	if (i % 2)
		must(journal_draft_remove(journal, id) == 0);
	(void)journal_has_changed(journal); /* by others, or not */
}

static void *write_journal(void *arg)
{
	size_t writer = (size_t)arg;
	struct journal *journal = books.journal[writer % 2];

	for (size_t i = 0; i < N_SHARED; i++)
		add_shared(journal, i);
	(void)pthread_barrier_wait(&books.all_added);
	for (size_t i = 0; i < N_SHARED; i++)
		claim_shared(journal, writer, i);
	for (size_t i = 0; i < N_OWN; i++)
		live_through_own(journal, writer, i);
	return NULL;
}

static int count_draft(void *arg, const struct draft_row *row)
{
	must(row->phase == PHASE_OPEN && row->place == PLACE_DRAFTS && strncmp(row->name, "own", 3) == 0);
	++*(size_t *)arg;
	return 0;
}

static int count_submission(void *arg, int64_t row, const char *job, const char *name)
{
	must(strcmp(job, name) == 0);
	++*(size_t *)arg;
	return 0;
}

static void test_journal(void)
{
	char dir[] = "/tmp/trainfs-threads.XXXXXX";
	pthread_t writer[N_SENDERS];
	size_t n_drafts = 0, n_submissions = 0;

	must(mkdtemp(dir));
	must(pthread_barrier_init(&books.all_added, NULL, N_SENDERS) == 0);
	for (int i = 0; i < 2; i++)
		must(journal_open(dir, &books.journal[i], NULL) == 0);
	threads_start(writer, N_SENDERS, write_journal);
	threads_join(writer, N_SENDERS);
	for (size_t i = 0; i < N_SHARED; i++)
		must(books.n_added[i] == 1 && books.n_claimed[i] == 1);
	must(journal_drafts(books.journal[0], count_draft, &n_drafts) == 0);
	must(n_drafts == N_SENDERS * N_OWN / 2);
	must(journal_submissions(books.journal[1], 0, count_submission, &n_submissions) == 0);
	must(n_submissions == N_SHARED);
	for (int i = 0; i < 2; i++)
		journal_close(books.journal[i]);
	must(pthread_barrier_destroy(&books.all_added) == 0);
	must(tree_remove(AT_FDCWD, dir) == 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} part[] = {{"pool", test_pool}, {"timers", test_timers}, {"journal", test_journal}};

	must(argc == 2);
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		if (strcmp(argv[1], part[i].name) == 0) {
			part[i].run();
			return 0;
		}
	}
	must(!"no part of that name");
}
