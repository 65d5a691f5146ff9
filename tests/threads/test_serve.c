/* SPDX-License-Identifier: MIT */
/*
 * The inside of a mount without a kernel: requests and how they are parked, notifications, the report and the table of
 * jobs, from many threads at once. Messages as the kernel would send them go straight into libfuse, whose replies are
 * counted: each request has one. argv[1] says which part; 0, or a line on stderr and 1.
 */
#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "jobs.h"
#include "log.h"
#include "pool.h"
#include "remote.h"
#include "reply.h"
#include "report.h"
#include "serve_private.h"
#include "threads.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/uio.h>

enum { N_THREADS = 4, N_REQUESTS = 1600, DEADLINE_S = 60 };

/* ---- a mount without a kernel ---- */

static struct {
	/* immutable once threads run */
	struct serve serve;
	struct remote remote;
	struct remote_conf conf;
	struct fuse_session *session;
	int (*run)(struct request *rq);

	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t changed;
	size_t n_answered;
	struct {
		unsigned n;
		int error;
	} answer[N_REQUESTS];
	bool is_timely; /* the timers have come to the end of what was due */

	/* atomic */
	atomic_size_t n_notified;
} test;

/* The kernel's numbers of requests are even; an interrupt has the one of its request, plus one. */
static uint64_t unique_of(size_t number)
{
	return (number + 1) * 2;
}

static ssize_t take_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *header = iov[0].iov_base;
	ssize_t n = 0;

	for (int i = 0; i < count; i++)
		n += (ssize_t)iov[i].iov_len;
	if (header->unique == 0)
		test.n_notified++;
	if (header->unique < unique_of(0) || header->unique % 2)
		return n;
	size_t number = header->unique / 2 - 1;
	pthread_mutex_lock(&test.lock);
	must(number < N_REQUESTS && test.answer[number].n == 0);
	test.answer[number].n = 1;
	test.answer[number].error = header->error;
	test.n_answered++;
	pthread_cond_broadcast(&test.changed);
	pthread_mutex_unlock(&test.lock);
	return n;
}

static ssize_t read_nothing(int fd, void *buf, size_t size, void *userdata)
{
	return -ENODEV;
}

static void send_message(uint32_t opcode, uint64_t unique, uint32_t pid, const void *body, size_t size)
{
	struct {
		struct fuse_in_header header;
		char body[256];
	} message = {.header = {.len = (uint32_t)(sizeof(message.header) + size),
				.opcode = opcode,
				.unique = unique,
				.nodeid = FUSE_ROOT_ID,
				.pid = pid}};

	if (size > 0)
		memcpy(message.body, body, size);
	const struct fuse_buf buf = {.mem = &message, .size = message.header.len};
	fuse_session_process_buf(test.session, &buf);
}

/* The number of a request is the pid of its caller. */
static void ask(size_t number)
{
	const struct fuse_getattr_in body = {0};

	send_message(FUSE_GETATTR, unique_of(number), (uint32_t)number, &body, sizeof(body));
}

static void interrupt(size_t number)
{
	const struct fuse_interrupt_in body = {.unique = unique_of(number)};

	send_message(FUSE_INTERRUPT, unique_of(number) + 1, 0, &body, sizeof(body));
}

static void on_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct request *rq = request_new(req, id, "getattr", test.run, reply_done);

	must(rq);
	request_start(rq);
}

static void *ask_share(void *arg)
{
	for (size_t i = (size_t)arg; i < N_REQUESTS; i += N_THREADS)
		ask(i);
	return NULL;
}

static void await_answers(size_t n)
{
	struct timespec until = {.tv_sec = clock_mono_ms() / 1000 + DEADLINE_S};

	pthread_mutex_lock(&test.lock);
	while (test.n_answered < n)
		must(pthread_cond_clockwait(&test.changed, &test.lock, CLOCK_MONOTONIC, &until) == 0);
	pthread_mutex_unlock(&test.lock);
}

static void open_session(void)
{
	static const struct fuse_lowlevel_ops ops = {.getattr = on_getattr};
	static const struct fuse_custom_io io = {.writev = take_reply, .read = read_nothing};
	const struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
	char *argv[] = {"trainfs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);

	test.session = fuse_session_new(&args, &ops, sizeof(ops), &test.serve);
	fuse_opt_free_args(&args);
	must(test.session);
	must(fuse_session_custom_io(test.session, &io, open("/dev/null", O_RDWR | O_CLOEXEC)) == 0);
	send_message(FUSE_INIT, 1, 0, &init, sizeof(init));
}

static const struct node_kind kind_test = {.name = "test", .type = S_IFREG};

static void set_up(int (*run)(struct request *rq))
{
	struct serve *serve = &test.serve;
	const struct child root = {.kind = &kind_test, .obj = serve};

	log_init(LOG_LEVEL_ERROR, false);
	test.run = run;
	test.conf.name = "far";
	test.remote.conf = &test.conf;
	test.remote.serve = serve;
	serve->mount_point = "/nowhere";
	must(pthread_mutex_init(&test.lock, NULL) == 0 && pthread_cond_init(&test.changed, NULL) == 0);
	must(pthread_mutex_init(&test.remote.lock, NULL) == 0);
	must(inode_table_new(&serve->table) == 0 && inode_root(serve->table, &root, &serve->root) == 0);
	must(notify_new(serve->table, &serve->notify) == 0 && timers_new(&serve->timers) == 0);
	must(parking_new(serve, &serve->parking) == 0 && report_new(serve, &serve->report) == 0);
	must(pool_new("far", N_THREADS, N_REQUESTS, &test.remote.pool) == 0);
	must(jobs_new(&test.remote, &test.remote.jobs) == 0);
	open_session();
	must(notify_start(serve->notify, test.session) == 0 && timers_start(serve->timers) == 0);
}

/* As serve_stop and serve_free do it. */
static void stop(void)
{
	test.serve.is_stopping = true;
	parking_clear(test.serve.parking);
	pool_stop(test.remote.pool);
}

static void timers_are_done(void *arg)
{
	pthread_mutex_lock(&test.lock);
	test.is_timely = true;
	pthread_cond_broadcast(&test.changed);
	pthread_mutex_unlock(&test.lock);
}

/* Until what was due has been done: references are let go there. */
static void await_timers(void)
{
	must(timers_in(test.serve.timers, 0, timers_are_done, NULL) == 0);
	pthread_mutex_lock(&test.lock);
	while (!test.is_timely)
		pthread_cond_wait(&test.changed, &test.lock);
	pthread_mutex_unlock(&test.lock);
}

static void tear_down(void)
{
	struct serve *serve = &test.serve;

	await_timers();
	timers_stop(serve->timers);
	notify_stop(serve->notify);
	parking_clear(serve->parking);
	must(parking_count(serve->parking) == 0);
	must(inode_count(serve->table) == 1);
	fuse_session_destroy(test.session);
	jobs_let_go(test.remote.jobs);
	must(serve->root->n_refs == 1); /* the table's own: no request is left */
	inode_table_free(serve->table);
	jobs_free(test.remote.jobs);
	report_free(serve->report);
	parking_free(serve->parking);
	timers_free(serve->timers);
	notify_free(serve->notify);
	pool_free(test.remote.pool);
}

/* ---- requests ---- */

enum way {
	WAY_AT_ONCE,
	WAY_POOL,
	WAY_WOKEN,        /* parked by the worker, asked again by another thread */
	WAY_POOL_WOKEN,   /* the same by a thread of the pool */
	WAY_INTERRUPTED,  /* its interrupt comes once it is parked */
	WAY_INTERRUPTING, /* while it is being parked */
	WAY_RACED,        /* interrupted and woken at the same time */
	WAY_LATE,         /* nobody wakes it before its deadline */
	WAY_MAX,
};

static struct {
	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t changed;
	struct waiters woken, kept;
	size_t to_interrupt[N_REQUESTS], n_to_interrupt, n_interrupted;
	bool is_over;
} parked;

static void want_interrupt(size_t number)
{
	pthread_mutex_lock(&parked.lock);
	parked.to_interrupt[parked.n_to_interrupt++] = number;
	pthread_cond_broadcast(&parked.changed);
	pthread_mutex_unlock(&parked.lock);
}

/* As the tree does it: the request is parked and kept with the keeper's lock held. */
static int park(struct request *rq, struct waiters *row, int64_t timeout_ms)
{
	pthread_mutex_lock(&parked.lock);
	request_park(rq, timeout_ms);
	waiters_add(row, rq);
	pthread_cond_broadcast(&parked.changed);
	pthread_mutex_unlock(&parked.lock);
	return CALL_PARKED;
}

static int park_for_interrupt(struct request *rq, enum way way)
{
	size_t number = (size_t)rq->call.pid; /* the request may be gone when it is parked */

	if (way == WAY_INTERRUPTED) {
		(void)park(rq, &parked.kept, 0);
		want_interrupt(number);
		return CALL_PARKED;
	}
	want_interrupt(number);
	return park(rq, way == WAY_RACED ? &parked.woken : &parked.kept, 0);
}

static int run_way(struct request *rq)
{
	enum way way = (enum way)(rq->call.pid % WAY_MAX);

	if (rq->has_waited)
		return 0;
	switch (way) {
	case WAY_AT_ONCE:
		return 0;
	case WAY_POOL:
		return call_may_block(&rq->call, &test.remote);
	case WAY_WOKEN:
		return park(rq, &parked.woken, 0);
	case WAY_POOL_WOKEN:
		return call_may_block(&rq->call, &test.remote) ? CALL_MUST_BLOCK : park(rq, &parked.woken, 0);
	case WAY_LATE:
		return park(rq, &parked.kept, 1);
	default:
		return park_for_interrupt(rq, way);
	}
}

static void *wake(void *arg)
{
	for (;;) {
		pthread_mutex_lock(&parked.lock);
		while (!parked.woken.first && !parked.is_over)
			pthread_cond_wait(&parked.changed, &parked.lock);
		struct request *row = waiters_take(&parked.woken);
		pthread_mutex_unlock(&parked.lock);
		if (!row)
			return NULL;
		waiters_resume(row);
	}
}

static void *send_interrupts(void *arg)
{
	size_t number;

	for (;;) {
		pthread_mutex_lock(&parked.lock);
		while (parked.n_interrupted == parked.n_to_interrupt && !parked.is_over)
			pthread_cond_wait(&parked.changed, &parked.lock);
		bool has_one = parked.n_interrupted < parked.n_to_interrupt;
		number = has_one ? parked.to_interrupt[parked.n_interrupted++] : 0;
		pthread_mutex_unlock(&parked.lock);
		if (!has_one)
			return NULL;
		interrupt(number);
	}
}

static bool is_right_answer(size_t number, int error)
{
	switch ((enum way)(number % WAY_MAX)) {
	case WAY_INTERRUPTED:
	case WAY_INTERRUPTING:
		return error == -EINTR;
	case WAY_RACED:
		return error == 0 || error == -EINTR;
	case WAY_LATE:
		return error == -ETIMEDOUT;
	default:
		return error == 0;
	}
}

static bool is_right_at_the_end(size_t number, int error)
{
	return is_right_answer(number, error) || error == -EINTR || error == -ENOTCONN || error == -EAGAIN;
}

static void end_parked(const pthread_t *waker, const pthread_t *interrupter)
{
	pthread_mutex_lock(&parked.lock);
	parked.is_over = true;
	pthread_cond_broadcast(&parked.changed);
	pthread_mutex_unlock(&parked.lock);
	threads_join(waker, 1);
	threads_join(interrupter, 1);
	waiters_resume(waiters_take(&parked.kept));
	/* libfuse keeps an interrupt that came after the answer until the next request, and has no other use for it */
	for (size_t i = 0; i < parked.n_interrupted; i++)
		send_message(FUSE_READLINK, 1, 0, NULL, 0);
}

static void run_requests(bool is_stopped_meanwhile)
{
	pthread_t worker[N_THREADS], waker, interrupter;

	set_up(run_way);
	must(pthread_mutex_init(&parked.lock, NULL) == 0 && pthread_cond_init(&parked.changed, NULL) == 0);
	threads_start(&waker, 1, wake);
	threads_start(&interrupter, 1, send_interrupts);
	threads_start(worker, N_THREADS, ask_share);
	if (is_stopped_meanwhile) {
		await_answers(N_REQUESTS / 4);
		stop();
	}
	threads_join(worker, N_THREADS);
	if (is_stopped_meanwhile)
		parking_clear(test.serve.parking);
	await_answers(N_REQUESTS);
	end_parked(&waker, &interrupter);
	stop();
	for (size_t i = 0; i < N_REQUESTS; i++) {
		int error = test.answer[i].error;
		must(is_stopped_meanwhile ? is_right_at_the_end(i, error) : is_right_answer(i, error));
	}
	tear_down();
}

static void test_requests(void)
{
	run_requests(false);
}

static void test_stop(void)
{
	run_requests(true);
}

/* ---- answers ---- */

enum { N_FINISHERS = 2 };

static struct {
	struct request *request;
	pthread_barrier_t step;
	atomic_size_t n_ready;
} shared;

static int run_shared(struct request *rq)
{
	request_park(rq, 0);
	rq->n_refs += N_FINISHERS - 1;
	shared.request = rq;
	return CALL_PARKED;
}

/* Both at the same moment, for which they spin: one of them answers. */
static void *finish_each(void *arg)
{
	for (size_t i = 0; i < N_REQUESTS; i++) {
		if (pthread_barrier_wait(&shared.step) == PTHREAD_BARRIER_SERIAL_THREAD)
			ask(i);
		(void)pthread_barrier_wait(&shared.step);
		for (shared.n_ready++; shared.n_ready < (i + 1) * N_FINISHERS;)
			;
		request_finish(shared.request, 0);
	}
	return NULL;
}

static void test_answers(void)
{
	pthread_t finisher[N_FINISHERS];

	set_up(run_shared);
	must(pthread_barrier_init(&shared.step, NULL, N_FINISHERS) == 0);
	threads_start(finisher, N_FINISHERS, finish_each);
	threads_join(finisher, N_FINISHERS);
	must(test.n_answered == N_REQUESTS);
	stop();
	tear_down();
}

/* ---- notify ---- */

enum { N_NOTICES = 2000, N_NAMES = 16 };

static struct {
	size_t told[N_THREADS][N_NOTICES];
	size_t next[N_THREADS]; /* the notify thread's */
} notices;

static void take_notice(void *arg)
{
	const size_t *told = arg;
	size_t sender = (size_t)(told - &notices.told[0][0]) / N_NOTICES;

	must(*told == notices.next[sender]++);
}

/* The kernel learns of a name, is told of it, forgets it; another thread has the same name. */
static void *send_notices(void *arg)
{
	static const char *const name[N_NAMES] = {"a", "b", "c", "d", "e", "f", "g", "h",
						  "i", "j", "k", "l", "m", "n", "o", "p"};
	size_t sender = (size_t)arg;
	struct serve *serve = &test.serve;

	for (size_t i = 0; i < N_NOTICES; i++) {
		size_t which = (i + sender) % N_NAMES;
		const struct child child = {.kind = &kind_test, .obj = serve, .sub = (uint32_t)which + 1};
		struct node *n;
		must(inode_intern(serve->table, serve->root, name[which], &child, true, &n) == 0);
		notify_attr(serve->notify, &kind_test, serve, (uint32_t)which + 1, NULL);
		notices.told[sender][i] = i;
		must(notify_then(serve->notify, take_notice, &notices.told[sender][i]) == 0);
		notify_attr_now(serve->notify, n);
		inode_forget(serve->table, n->id, 1);
	}
	return NULL;
}

static void test_notify(void)
{
	pthread_t sender[N_THREADS];

	set_up(NULL);
	threads_start(sender, N_THREADS, send_notices);
	threads_join(sender, N_THREADS);
	stop();
	notify_stop(test.serve.notify);
	for (size_t i = 0; i < N_THREADS; i++)
		must(notices.next[i] == N_NOTICES);
	must(test.n_notified >= N_THREADS * N_NOTICES); /* at once; of those queued some are one */
	tear_down();
}

/* ---- report ---- */

enum { N_LINES = 500 };

static atomic_bool is_report_over;

static void *write_report(void *arg)
{
	size_t writer = (size_t)arg;
	char path[32];

	for (size_t i = 0; i < N_LINES; i++) {
		(void)snprintf(path, sizeof(path), "%zu/%zu", writer, i);
		report_error(test.serve.report, "far", path, ENOSPC, "a sentence with\ta tab");
		report_event(test.serve.report, "far", path, i ? "QUEUED" : NULL, "RUNNING");
	}
	return NULL;
}

/* What is there stays, and ends with a line's end. */
static void *read_report(void *arg)
{
	int64_t size[2] = {0}, changed_ns;
	size_t n_errors = 0;

	while (!is_report_over) {
		for (int kind = REPORT_ERRORS; kind <= REPORT_EVENTS; kind++) {
			int64_t now = report_size(test.serve.report, kind, &changed_ns);
			char last = '\n';
			must(now >= size[kind]);
			if (now > 0)
				must(report_read(test.serve.report, kind, &last, 1, now - 1) == 1);
			must(last == '\n');
			size[kind] = now;
		}
		size_t n = report_n_errors(test.serve.report);
		must(n >= n_errors);
		n_errors = n;
		(void)sched_yield();
	}
	return NULL;
}

/* Each line is whole, and a writer's lines are in order. */
static void check_report(enum report_kind kind, const char *format)
{
	size_t next[N_THREADS] = {0}, n_lines = 0, writer, i;
	int64_t changed_ns, size = report_size(test.serve.report, kind, &changed_ns);
	cleanup_free char *text = calloc(1, (size_t)size + 1);

	must(text && report_read(test.serve.report, kind, text, (size_t)size, 0) == size);
	for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line; n_lines++) {
		const char *at = strstr(line, format);
		must(at && sscanf(at + strlen(format), "%zu/%zu", &writer, &i) == 2);
		must(writer < N_THREADS && i == next[writer]++);
	}
	must(n_lines == N_THREADS * N_LINES);
}

static void test_report(void)
{
	pthread_t writer[N_THREADS], reader[2];

	set_up(NULL);
	threads_start(reader, 2, read_report);
	threads_start(writer, N_THREADS, write_report);
	threads_join(writer, N_THREADS);
	is_report_over = true;
	threads_join(reader, 2);
	must(report_n_errors(test.serve.report) == N_THREADS * N_LINES);
	check_report(REPORT_ERRORS, "\tfar\t");
	check_report(REPORT_EVENTS, "\"job\":\"");
	stop();
	tear_down();
}

/* ---- jobs ---- */

enum { N_JOBS = 200, N_OWN = 50 };

static atomic_bool are_jobs_over;

static void job_name(size_t number, char name[static 32])
{
	(void)snprintf(name, 32, "job%zu", number % N_JOBS);
}

/* Waits for the list, then for the end of a job. */
static int run_wait(struct request *rq)
{
	char name[32];
	struct job_row row;
	int r = jobs_ready(&rq->call, test.remote.jobs);

	if (r != 0)
		return r;
	job_name((size_t)rq->call.pid, name);
	struct job *job = jobs_find(test.remote.jobs, name);
	must(job);
	r = job_wait_end(&rq->call, job);
	if (r == 0) {
		job_row_get(job, &row);
		must(job_state_is_ended(row.state));
	}
	return r;
}

static void apply_all(enum job_state state, bool is_quiet)
{
	char name[32];

	for (size_t i = 0; i < N_JOBS; i++) {
		job_name(i, name);
		const struct job_entry entry = {.id = name,
						.model = "m",
						.state = state,
						.created_ns = (int64_t)i + 1,
						.changed_ns = (int64_t)state,
						.cost = job_state_name(state)};
		must(jobs_apply(test.remote.jobs, &entry, is_quiet) == 0);
	}
}

/* As the watch thread. */
static void *apply_changes(void *arg)
{
	apply_all(JOB_QUEUED, true);
	jobs_set_ready(test.remote.jobs, true);
	apply_all(JOB_RUNNING, false);
	apply_all(JOB_SUCCEEDED, false);
	return NULL;
}

/* Jobs made here: every other one is refused. */
static void *submit_own(void *arg)
{
	char id[32];

	for (size_t i = 0; i < N_OWN; i++) {
		(void)snprintf(id, sizeof(id), "own%zu-%zu", (size_t)arg, i);
		must(jobs_add_pending(test.remote.jobs, id, "m") == 0);
		must(jobs_add_pending(test.remote.jobs, id, "m") == -EEXIST);
		if (i % 2)
			jobs_drop_pending(test.remote.jobs, id);
		else
			jobs_confirm(test.remote.jobs, id);
	}
	return NULL;
}

static void *list_jobs(void *arg)
{
	uint64_t revision = 0;

	while (!are_jobs_over) {
		struct job **job;
		struct job_row row;
		size_t n;
		uint64_t now = jobs_revision(test.remote.jobs);
		must(now >= revision);
		revision = now;
		must(jobs_snapshot(test.remote.jobs, &job, &n) == 0);
		for (size_t i = 0; i < n; i++) {
			job_row_get(job[i], &row);
			must(strcmp(row.model, "m") == 0 && strlen(row.cost) < 32);
			must(job_poll_state(job[i], NULL) & POLLIN);
			job_state_was_read(job[i]);
		}
		free(job);
		(void)sched_yield();
	}
	return NULL;
}

static void test_jobs(void)
{
	pthread_t worker[N_THREADS], submitter[2], reader[2], watcher;
	struct job **job;
	size_t n;

	set_up(run_wait);
	threads_start(reader, 2, list_jobs);
	threads_start(worker, N_THREADS, ask_share);
	threads_start(submitter, 2, submit_own);
	threads_start(&watcher, 1, apply_changes);
	await_answers(N_REQUESTS);
	threads_join(&watcher, 1);
	threads_join(submitter, 2);
	threads_join(worker, N_THREADS);
	are_jobs_over = true;
	threads_join(reader, 2);
	for (size_t i = 0; i < N_REQUESTS; i++)
		must(test.answer[i].error == 0);
	must(jobs_snapshot(test.remote.jobs, &job, &n) == 0 && n == N_JOBS + N_OWN);
	free(job);
	stop();
	tear_down();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} part[] = {{"requests", test_requests}, {"stop", test_stop},     {"answers", test_answers},
		    {"notify", test_notify},     {"report", test_report}, {"jobs", test_jobs}};

	must(argc == 2);
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		if (strcmp(argv[1], part[i].name) == 0) {
			part[i].run();
			return 0;
		}
	}
	must(!"no part of that name");
}
