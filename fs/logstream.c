/* SPDX-License-Identifier: MIT */
/*
 * Log streams. A stream has a descriptor and a size, whatever the backend is:
 *
 *   file logs   the descriptor is the backend's own file; inotify tells when it has grown
 *   fetch logs  the descriptor is a nameless spool; a pool thread appends to it, POLL_MS after the last time
 *
 * and it follows only while n_readers > 0. An ended job's fetch log is spooled to its end before the first open returns,
 * so that its size is true. When the job ends, what is missing is brought in before anybody is told of the end.
 */
#include "logstream.h"

#include "backend.h"
#include "cleanup.h"
#include "jobs.h"
#include "kinds.h"
#include "log.h"
#include "notify.h"
#include "pool.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>

enum { POLL_MS = 2000, WATCHES_MAX = 4096 };

struct logstream {
	struct job *job; /* immutable */

	pthread_mutex_t lock;
	/* protected by lock */
	int fd;           /* -1: not open */
	int watch;        /* inotify's, -1: none */
	bool is_stand_in; /* fd is an empty file: the log had not begun when it was opened */
	size_t n_readers;
	int64_t spooled; /* bytes in the spool */
	char cursor[256];
	bool is_fetching;
	bool is_complete; /* nothing will come any more */
	struct waiters for_bytes;
};

struct logwatch {
	/* immutable after new */
	struct serve *serve;
	int inotify, stop;
	pthread_t thread;
	bool is_running;

	pthread_mutex_t lock;
	/* protected by lock */
	struct job **by_watch; /* index: watch descriptor */
	size_t n_by_watch;
};

/* ---- streams ---- */

static bool job_is_ended(struct job *job)
{
	struct job_row row;
	job_row_get(job, &row);
	return row.is_gone || job_state_is_ended(row.state);
}

/* The job's stream, made when first asked for; NULL: out of memory. */
static struct logstream *stream_of(struct job *job, bool make)
{
	struct jobs *jobs = job->remote->jobs;
	jobs_lock(jobs);
	struct logstream *log = job->log;
	if (!log && make && (log = calloc(1, sizeof(*log)))) {
		log->job = job;
		log->fd = log->watch = -1;
		pthread_mutex_init(&log->lock, NULL);
		job->log = log;
	}
	jobs_unlock(jobs);
	return log;
}

void logstream_free(struct logstream *log)
{
	if (!log)
		return;
	if (log->fd >= 0)
		close(log->fd);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

static bool is_file_log(const struct job *job)
{
	return job->remote->be && backend_job_log_is_file(job->remote->be);
}

static void stat_locked(const struct logstream *log, struct stat *ret)
{
	*ret = (struct stat){0};
	if (log->fd >= 0)
		(void)fstat(log->fd, ret); /* of an open descriptor */
	if (!is_file_log(log->job))
		ret->st_size = log->spooled;
}

bool logstream_is_open(struct job *job)
{
	struct logstream *log = stream_of(job, false);
	if (!log)
		return false;
	LOCK_SCOPE(&log->lock);
	return log->n_readers > 0;
}

static int open_file(struct call *c, struct job *job, int *ret_fd)
{
	struct backend *be;
	int r = call_may_block(c, job->remote);
	if (r < 0)
		return r;
	r = remote_backend(job->remote, &be, &c->fault);
	if (r == 0)
		r = backend_job_log_file(be, job->id, ret_fd, &c->fault);
	return r;
}

int logstream_stat(struct call *c, struct job *job, struct stat *ret)
{
	struct logstream *log = stream_of(job, true);
	if (!log)
		return -ENOMEM;
	pthread_mutex_lock(&log->lock);
	bool is_known = log->fd >= 0 || !is_file_log(job);
	stat_locked(log, ret);
	pthread_mutex_unlock(&log->lock);
	if (is_known)
		return 0;
	cleanup_close int fd = -1;
	int r = open_file(c, job, &fd);
	if (r == 0)
		(void)fstat(fd, ret);
	if (r == -ENOENT) { /* it has not begun */
		c->fault.text[0] = '\0';
		r = 0;
	}
	return r;
}

/* ---- growth ---- */

static void tell_growth(struct logstream *log)
{
	notify_attr(log->job->remote->serve->notify, &kind_job_file, log->job, JOB_FILE_LOG, NULL);
	logstream_wake(log->job);
}

void logstream_wake(struct job *job)
{
	struct logstream *log = stream_of(job, false);
	if (!log)
		return;
	pthread_mutex_lock(&log->lock);
	struct request *row = waiters_take(&log->for_bytes);
	pthread_mutex_unlock(&log->lock);
	waiters_resume(row);
}

static int spool_append(void *arg, const char *bytes, size_t n)
{
	struct logstream *log = arg;
	size_t done = 0;
	while (done < n) {
		ssize_t w = pwrite(log->fd, bytes + done, n - done, log->spooled + done);
		if (w < 0)
			return -errno;
		done += w;
	}
	pthread_mutex_lock(&log->lock);
	log->spooled += n;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

/* Brings what is new. Only one thread does this at a time (is_fetching). */
static int fetch(struct logstream *log, struct fault *reterr)
{
	struct backend *be;
	struct job_page page = {.has_more = true};
	int r = remote_backend(log->job->remote, &be, reterr);
	while (r == 0 && page.has_more) {
		r = backend_job_log_fetch(be, log->job->id, log->cursor, spool_append, log, &page, reterr);
		if (r == 0)
			memcpy(log->cursor, page.cursor, sizeof(log->cursor));
	}
	return r;
}

static bool claim_fetch(struct logstream *log)
{
	LOCK_SCOPE(&log->lock);
	if (log->is_fetching || log->is_complete || log->fd < 0)
		return false;
	return log->is_fetching = true;
}

static void poll_is_due(void *arg);

/* One round of a live log: fetch, tell, and come again while there are readers. */
static void poll_round(void *arg)
{
	struct logstream *log = arg;
	if (!claim_fetch(log))
		return;
	struct fault fault = {0};
	bool was_ended = job_is_ended(log->job);
	int64_t before = log->spooled;
	int r = fetch(log, &fault);
	if (r < 0)
		log_debug("log of %s: %s", log->job->id, fault.text);
	pthread_mutex_lock(&log->lock);
	log->is_fetching = false;
	log->is_complete |= was_ended && r == 0;
	bool has_grown = log->spooled > before;
	bool goes_on = log->n_readers > 0 && !log->is_complete;
	pthread_mutex_unlock(&log->lock);
	if (has_grown)
		tell_growth(log);
	if (was_ended) /* also when the rest cannot be had: nobody waits for ever */
		job_log_is_complete(log->job);
	if (goes_on)
		/* else the next open does */
		(void)timers_in(log->job->remote->serve->timers, POLL_MS, poll_is_due, log);
}

static void poll_is_due(void *arg)
{
	struct logstream *log = arg;
	if (pool_submit(log->job->remote->pool, poll_round, log) < 0 && !log->job->remote->serve->is_stopping)
		(void)timers_in(log->job->remote->serve->timers, POLL_MS, poll_is_due, log);
}

/* ---- inotify ---- */

static void unwatch(struct logwatch *watch, struct logstream *log)
{
	if (log->watch < 0)
		return;
	pthread_mutex_lock(&watch->lock);
	if ((size_t)log->watch < watch->n_by_watch)
		watch->by_watch[log->watch] = NULL;
	pthread_mutex_unlock(&watch->lock);
	(void)inotify_rm_watch(watch->inotify, log->watch); /* gone already when the file was deleted */
	log->watch = -1;
}

/* Failing to watch only means that growth shows when the attributes expire. */
static void watch_file(struct logwatch *watch, struct logstream *log)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", log->fd);
	LOCK_SCOPE(&watch->lock);
	int w = inotify_add_watch(watch->inotify, path, IN_MODIFY);
	if (w < 0) {
		log_debug("log of %s: inotify: %s, ignoring", log->job->id, strerror(errno));
		return;
	}
	if ((size_t)w >= watch->n_by_watch) {
		size_t n = (size_t)w + 64;
		struct job **by_watch = realloc(watch->by_watch, n * sizeof(*by_watch));
		if (!by_watch)
			return;
		memset(by_watch + watch->n_by_watch, 0, (n - watch->n_by_watch) * sizeof(*by_watch));
		watch->by_watch = by_watch;
		watch->n_by_watch = n;
	}
	watch->by_watch[w] = log->job;
	log->watch = w;
}

static void handle_event(struct logwatch *watch, const struct inotify_event *event)
{
	pthread_mutex_lock(&watch->lock);
	struct job *job =
		event->wd >= 0 && (size_t)event->wd < watch->n_by_watch ? watch->by_watch[event->wd] : NULL;
	pthread_mutex_unlock(&watch->lock);
	struct logstream *log = job ? stream_of(job, false) : NULL;
	if (log)
		tell_growth(log);
}

static void *watch_thread(void *arg)
{
	struct logwatch *watch = arg;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct pollfd fds[] = {{.fd = watch->stop, .events = POLLIN},
			       {.fd = watch->inotify, .events = POLLIN}};
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			break;
		ssize_t n = read(watch->inotify, buf, sizeof(buf));
		const struct inotify_event *event;
		for (char *p = buf; n > 0 && p < buf + n; p += sizeof(*event) + event->len) {
			event = (const struct inotify_event *)p;
			handle_event(watch, event);
		}
	}
	return NULL;
}

int logwatch_new(struct serve *serve, struct logwatch **ret)
{
	struct logwatch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	watch->serve = serve;
	pthread_mutex_init(&watch->lock, NULL);
	watch->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	watch->stop = eventfd(0, EFD_CLOEXEC);
	if (watch->inotify < 0 || watch->stop < 0) {
		int r = -errno;
		logwatch_free(watch);
		return r;
	}
	*ret = watch;
	return 0;
}

int logwatch_start(struct logwatch *watch)
{
	int r = pthread_create(&watch->thread, NULL, watch_thread, watch);
	watch->is_running = r == 0;
	return -r;
}

void logwatch_stop(struct logwatch *watch)
{
	if (!watch->is_running)
		return;
	(void)eventfd_write(watch->stop, 1); /* cannot fail below its maximum */
	pthread_join(watch->thread, NULL);
	watch->is_running = false;
}

void logwatch_free(struct logwatch *watch)
{
	if (!watch)
		return;
	if (watch->inotify >= 0)
		close(watch->inotify);
	if (watch->stop >= 0)
		close(watch->stop);
	free(watch->by_watch);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}

/* ---- logs that were opened before they had begun ---- */

/* The same descriptor, so that readers need no lock. */
static void take_over_locked(struct logstream *log, int fd)
{
	if (dup3(fd, log->fd, O_CLOEXEC) < 0)
		return;
	log->is_stand_in = false;
	watch_file(log->job->remote->serve->logwatch, log);
}

static void take_over(struct logstream *log, int fd)
{
	LOCK_SCOPE(&log->lock);
	if (log->fd >= 0 && log->is_stand_in)
		take_over_locked(log, fd);
}

static void begin(void *arg)
{
	struct logstream *log = arg;
	struct fault fault = {0};
	struct backend *be;
	cleanup_close int fd = -1;
	bool was_ended = job_is_ended(log->job);
	int r = remote_backend(log->job->remote, &be, &fault);
	if (r == 0)
		r = backend_job_log_file(be, log->job->id, &fd, &fault);
	if (r == 0) {
		take_over(log, fd);
		tell_growth(log);
	}
	if (was_ended)
		job_log_is_complete(log->job);
}

/* True if it has begun to look. */
static bool begin_on_pool(struct logstream *log)
{
	pthread_mutex_lock(&log->lock);
	bool is_stand_in = log->fd >= 0 && log->is_stand_in;
	pthread_mutex_unlock(&log->lock);
	return is_stand_in && pool_submit(log->job->remote->pool, begin, log) == 0;
}

void logstream_begin(struct job *job)
{
	struct logstream *log = stream_of(job, false);
	if (log)
		(void)begin_on_pool(log); /* else the next change of state does */
}

void logstream_end(struct job *job)
{
	struct logstream *log = stream_of(job, false);
	bool has_readers = log && logstream_is_open(job);
	if (has_readers && !is_file_log(job))
		poll_is_due(log);
	else if (!has_readers || !begin_on_pool(log))
		job_log_is_complete(job);
}

/* ---- readers ---- */

static int open_as_file(struct call *c, struct logstream *log)
{
	cleanup_close int fd = -1;
	int r = open_file(c, log->job, &fd);
	bool is_stand_in = r == -ENOENT;
	if (is_stand_in) { /* looked for again at every change of state */
		c->fault.text[0] = '\0';
		fd = memfd_create("no log yet", MFD_CLOEXEC);
		r = fd < 0 ? -errno : 0;
	}
	if (r < 0)
		return r;
	LOCK_SCOPE(&log->lock);
	if (log->fd < 0) {
		log->fd = STEAL_FD(fd);
		log->is_stand_in = is_stand_in;
		if (!is_stand_in)
			watch_file(log->job->remote->serve->logwatch, log);
	} else if (log->is_stand_in && !is_stand_in) {
		take_over_locked(log, fd);
	}
	log->n_readers++;
	return 0;
}

static int open_spool(struct logstream *log)
{
	LOCK_SCOPE(&log->lock);
	if (log->fd >= 0)
		return 0;
	int fd = open(log->job->remote->conf->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = memfd_create("log", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	log->fd = fd;
	log->spooled = 0;
	log->cursor[0] = '\0';
	return 0;
}

/* The first reader waits for what there is; the rounds follow while somebody reads. */
static int open_as_spool(struct call *c, struct logstream *log)
{
	int r = call_may_block(c, log->job->remote);
	if (r == 0)
		r = open_spool(log);
	if (r < 0)
		return r;
	bool was_ended = job_is_ended(log->job);
	if (claim_fetch(log)) {
		r = fetch(log, &c->fault);
		LOCK_SCOPE(&log->lock);
		log->is_fetching = false;
		log->is_complete |= was_ended && r == 0;
	}
	if (r < 0)
		return r;
	LOCK_SCOPE(&log->lock);
	if (log->n_readers++ == 0 && !log->is_complete)
		/* else the next open does */
		(void)timers_in(log->job->remote->serve->timers, POLL_MS, poll_is_due, log);
	return 0;
}

int logstream_open(struct call *c, struct job *job)
{
	struct logstream *log = stream_of(job, true);
	if (!log)
		return -ENOMEM;
	pthread_mutex_lock(&log->lock);
	bool is_open = log->n_readers > 0 && log->fd >= 0 && !log->is_stand_in;
	log->n_readers += is_open;
	pthread_mutex_unlock(&log->lock);
	if (is_open)
		return 0;
	return is_file_log(job) ? open_as_file(c, log) : open_as_spool(c, log);
}

/* True for the last reader. */
static bool leave(struct logstream *log)
{
	LOCK_SCOPE(&log->lock);
	if (--log->n_readers > 0)
		return false;
	if (!is_file_log(log->job)) /* the spool stays: what was fetched is not fetched again */
		return true;
	unwatch(log->job->remote->serve->logwatch, log);
	close(log->fd);
	log->fd = -1;
	return true;
}

void logstream_close(struct job *job)
{
	bool was_last = leave(stream_of(job, false));
	if (was_last && !job_is_ended(job)) /* nobody watches now: what the kernel knows would grow old */
		notify_attr(job->remote->serve->notify, &kind_job_file, job, JOB_FILE_LOG, NULL);
}

ssize_t logstream_read(struct job *job, char *buf, size_t size, off_t offset)
{
	struct logstream *log = stream_of(job, false);
	ssize_t n = pread(log->fd, buf, size, offset); /* fd stays while there is a reader */
	return n < 0 ? -errno : n;
}

ssize_t logstream_follow(struct call *c, struct job *job, char *buf, size_t size, off_t offset)
{
	struct logstream *log = stream_of(job, false);
	for (;;) {
		bool is_over = job_end_is_told(job);
		ssize_t n = logstream_read(job, buf, size, offset);
		if (n != 0 || is_over)
			return n;
		pthread_mutex_lock(&log->lock);
		struct stat st;
		stat_locked(log, &st);
		if (st.st_size <= offset && !job_end_is_told(job)) {
			request_park(c->request, 0);
			waiters_add(&log->for_bytes, c->request);
			pthread_mutex_unlock(&log->lock);
			return CALL_PARKED;
		}
		pthread_mutex_unlock(&log->lock);
	}
}
