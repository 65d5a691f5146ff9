// SPDX-License-Identifier: MIT
/*
 * The life of a mount. Threads: main (control) watches signals, the first contact and the end of the others; the loop
 * thread runs libfuse's session loop and its workers; the stopper, made at the end, stops the tree and unmounts while
 * the loop still answers. Whatever comes first (a signal, an unmount from outside, a tree that does not answer) leads
 * to begin_stop; the daemon ends when loop and stopper have.
 */
#include "mount.h"

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "clock.h"
#include "config.h"
#include "daemon.h"
#include "log.h"
#include "mountpoint.h"
#include "options.h"
#include "serve.h"
#include "session.h"

enum {
	PROBE_TIMEOUT_MS = 5000,
	CONTACT_TIMEOUT_MS = 30000,
	WAKE_INTERVAL_MS = 20,
	LOOP_END_TIMEOUT_MS = 10000, /* no handler waits for anything */
	STOP_TIMEOUT_MS = 30000,     /* for what is on its way to a service; the journal has the rest */
	STACKED_MAX = 64,            /* dead mounts on top of each other that are cleared away */
	FUSE_WORKERS_MAX = 8,        /* they never wait */
	FUSE_WORKERS_IDLE = 4,
};

struct mount {
	/* immutable after the threads have started */
	const struct options *options;
	char *path;
	char *python;
	char *notify_socket;
	char *record;
	struct session session;
	struct serve *serve;
	pthread_t loop;
	int signal_fd;
	int loop_ended_fd, stop_ended_fd; /* eventfds: 1 is there for good */

	/* main thread only */
	int verdict_fd;
	struct contact contact;
	int64_t contact_until_ms;
	bool is_judged;
	bool is_stopping, is_loop_ended, is_stop_ended;
	int64_t stop_until_ms; /* once it is stopping */
	pthread_t stopper;
	int exit_code;

	/* loop thread's, read after it has been joined */
	int loop_result;
};

/* ---- the mount point ---- */

static int refuse_living(const char *path, const struct mountpoint *there, int probe, struct fault *reterr)
{
	if (strcmp(there->type, MOUNTPOINT_TYPE) == 0 && probe == -ETIMEDOUT)
		return fault_set(reterr, EBUSY,
				 "%s is a trainfs mount that does not answer; take it away with "
				 "`trainfs unmount --lazy %s`",
				 path, path);
	if (strcmp(there->type, MOUNTPOINT_TYPE) == 0)
		return fault_set(reterr, EBUSY,
				 "%s is already mounted (%s); unmount it with `trainfs unmount %s`", path,
				 there->source, path);
	return fault_set(reterr, -probe, "%s is a mount of %s that does not answer (%s); unmount it first",
			 path, there->type, strerror(-probe));
}

/* Takes dead trainfs mounts away; refuses a living one. */
static int clear_mount_point(const char *path, struct fault *reterr)
{
	for (int i = 0; i < STACKED_MAX; i++) {
		struct mountpoint there = {0};
		int r = mountpoint_find(path, &there);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return fault_set(reterr, -r, "cannot read the mount table: %s", strerror(-r));
		int probe = mountpoint_probe(path, PROBE_TIMEOUT_MS);
		bool is_ours = strcmp(there.type, MOUNTPOINT_TYPE) == 0;
		bool is_dead = probe == -ENOTCONN || probe == -ECONNABORTED;
		if (is_ours && is_dead) {
			r = mountpoint_detach(path, true, reterr);
			if (r == 0)
				log_info("took away the dead mount at %s", path);
		} else if (is_ours || (probe < 0 && probe != -EACCES)) {
			r = refuse_living(path, &there, probe, reterr);
		} else {
			r = 1; /* another file system: a directory like any other */
		}
		mountpoint_release(&there);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return fault_set(reterr, EBUSY, "too many dead mounts on top of each other at %s", path);
}

/* A mount inside the tree would be in the way of its own unmounting. */
static int refuse_nested(const char *path, struct fault *reterr)
{
	cleanup_free char *above = strdup(path);

	if (!above)
		return fault_set(reterr, ENOMEM, "cannot use %s: %s", path, strerror(ENOMEM));
	for (char *slash = strrchr(above, '/'); slash && slash != above; slash = strrchr(above, '/')) {
		struct mountpoint there = {0};
		*slash = '\0';
		if (mountpoint_find(above, &there) < 0)
			continue;
		bool is_ours = strcmp(there.type, MOUNTPOINT_TYPE) == 0;
		mountpoint_release(&there);
		return is_ours ? fault_set(reterr, EBUSY,
					   "%s is inside the trainfs mount at %s; mount elsewhere", path,
					   above)
			       : 0;
	}
	return 0;
}

static int prepare_mount_point(const char *dir, char **ret, struct fault *reterr)
{
	cleanup_free char *path = NULL;
	struct stat st;

	int r = mountpoint_resolve(dir, &path);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "%s does not exist; make it with `mkdir -p %s`", dir, dir);
	if (r == -ENOTDIR)
		return fault_set(reterr, ENOTDIR, "%s is not a directory", dir);
	if (r < 0)
		return fault_set(reterr, -r, "cannot use %s: %s", dir, strerror(-r));
	r = refuse_nested(path, reterr);
	if (r == 0)
		r = clear_mount_point(path, reterr);
	if (r < 0)
		return r;
	if (stat(path, &st) < 0)
		return fault_set(reterr, errno, "cannot use %s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return fault_set(reterr, ENOTDIR, "%s is not a directory", dir);
	*ret = STEAL(path);
	return 0;
}

/* ---- threads ---- */

static void set_event(int fd)
{
	const uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one)); /* a counter at its first step takes it */

	(void)n;
}

static bool is_event_set(int fd, int timeout_ms)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};

	return poll(&wait, 1, timeout_ms) > 0;
}

static void *run_loop(void *arg)
{
	struct mount *m = arg;
	struct fuse_loop_config *config = fuse_loop_cfg_create();

	if (config) {
		fuse_loop_cfg_set_max_threads(config, FUSE_WORKERS_MAX);
		fuse_loop_cfg_set_idle_threads(config, FUSE_WORKERS_IDLE);
		fuse_loop_cfg_set_clone_fd(config, 0);
		m->loop_result = fuse_session_loop_mt(m->session.fuse, config);
		fuse_loop_cfg_destroy(config);
	} else {
		m->loop_result = -ENOMEM;
	}
	set_event(m->loop_ended_fd);
	return NULL;
}

static void interrupt_nothing(int number)
{
	(void)number; /* its arrival ends the wait of the session loop */
}

/* Out at once: threads that may never end are left as they are, and the journal has what was on its way. */
static void __attribute__((noreturn)) leave(const struct mount *m, int code, const char *why)
{
	log_warning("%s: ending without waiting for what is on its way", why);
	serve_name_pending(m->serve);
	session_detach(&m->session);
	if (m->record)
		(void)unlink(m->record);
	_exit(code);
}

static void *run_stop(void *arg)
{
	struct mount *m = arg;

	serve_stop(m->serve);
	if (!is_event_set(m->loop_ended_fd, 0)) {
		session_detach(&m->session);
		/* One that was detached in use never reads as unmounted: the loop is told to end. */
		fuse_session_exit(m->session.fuse);
		int64_t until_ms = clock_mono_ms() + LOOP_END_TIMEOUT_MS;
		do {
			(void)pthread_kill(m->loop, SIGUSR1); /* not joined yet, so the thread is valid */
			if (clock_mono_ms() > until_ms)
				leave(m, EXIT_CODE_INTERNAL, "a request does not end");
		} while (!is_event_set(m->loop_ended_fd, WAKE_INTERVAL_MS));
	}
	set_event(m->stop_ended_fd);
	return NULL;
}

static void begin_stop(struct mount *m)
{
	if (m->is_stopping)
		return;
	m->is_stopping = true;
	m->stop_until_ms = clock_mono_ms() + STOP_TIMEOUT_MS;
	daemon_notify(m->notify_socket, "STOPPING=1");
	int r = pthread_create(&m->stopper, NULL, run_stop, m);
	if (r != 0) {
		log_error("cannot start a thread: %s", strerror(r));
		m->stopper = pthread_self();
		(void)run_stop(m);
	}
}

/* ---- control ---- */

static void judge(struct mount *m, int code, const char *text)
{
	if (m->is_judged)
		return;
	m->is_judged = true;
	contact_end(&m->contact);
	if (code == EXIT_CODE_OK) {
		cleanup_free char *status = NULL;
		if (!m->options->is_foreground) /* there the log says it */
			serve_tell_failed(m->serve, stderr);
		daemon_let_go(m->options->is_foreground);
		if (str_format(&status, "READY=1\nSTATUS=%s is mounted", m->path) == 0)
			daemon_notify(m->notify_socket, status);
		log_info("trainfs " TRAINFS_VERSION " serves %s", m->path);
	} else {
		m->exit_code = code;
	}
	daemon_tell(&m->verdict_fd, code, text);
}

static void on_contact(struct mount *m)
{
	char text[FAULT_TEXT_MAX];
	int r = contact_answer(&m->contact);

	if (r == 0) {
		r = session_raise_read_ahead(&m->session);
		if (r < 0)
			log_debug("the kernel reads ahead as it does by itself (%s)", strerror(-r));
		judge(m, EXIT_CODE_OK, NULL);
		return;
	}
	(void)snprintf(text, sizeof(text), "%s is mounted but does not answer: %s", m->path, strerror(-r));
	judge(m, EXIT_CODE_FAILED, text);
	begin_stop(m);
}

static void on_signal(struct mount *m)
{
	struct signalfd_siginfo info;

	if (read(m->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (m->is_stopping && info.ssi_signo == SIGTERM)
		leave(m, EXIT_CODE_OK, "second SIGTERM");
	if (m->is_stopping)
		return;
	log_info("%s: unmounting %s", strsignal((int)info.ssi_signo), m->path);
	judge(m, EXIT_CODE_INTERRUPT, "interrupted");
	begin_stop(m);
}

static void on_loop_ended(struct mount *m)
{
	m->is_loop_ended = true;
	judge(m, EXIT_CODE_FAILED, "it was unmounted before it had answered");
	begin_stop(m);
}

static void on_time(struct mount *m)
{
	char text[FAULT_TEXT_MAX];

	(void)snprintf(text, sizeof(text), "%s is mounted but did not answer within %d s", m->path,
		       CONTACT_TIMEOUT_MS / 1000);
	judge(m, EXIT_CODE_FAILED, text);
	begin_stop(m);
}

/* Milliseconds to the end of the phase that has one; -1: none. What has run out is dealt with. */
static int time_left(struct mount *m)
{
	int64_t now_ms = clock_mono_ms();

	if (!m->is_judged && !m->is_stopping && m->contact_until_ms <= now_ms)
		on_time(m);
	if (m->is_stopping && m->stop_until_ms <= now_ms)
		leave(m, m->exit_code, "a remote does not answer");
	if (m->is_stopping)
		return (int)(m->stop_until_ms - now_ms);
	return m->is_judged ? -1 : (int)(m->contact_until_ms - now_ms);
}

static void control(struct mount *m)
{
	while (!m->is_loop_ended || !m->is_stop_ended) {
		int left_ms = time_left(m);
		struct pollfd wait[] = {
			{.fd = m->signal_fd, .events = POLLIN},
			{.fd = m->is_judged ? -1 : m->contact.answer_fd, .events = POLLIN},
			{.fd = m->is_loop_ended ? -1 : m->loop_ended_fd, .events = POLLIN},
			{.fd = m->is_stopping && !m->is_stop_ended ? m->stop_ended_fd : -1, .events = POLLIN},
		};
		if (poll(wait, 4, left_ms) < 0)
			continue;
		if (wait[0].revents)
			on_signal(m);
		if (wait[1].revents && !m->is_judged)
			on_contact(m);
		if (wait[2].revents)
			on_loop_ended(m);
		if (wait[3].revents)
			m->is_stop_ended = true;
	}
}

/* ---- putting it together ---- */

static int block_signals(int *ret_fd)
{
	struct sigaction wake = {.sa_handler = interrupt_nothing};
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigaction(SIGUSR1, &wake, NULL); /* without SA_RESTART */
	int r = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r != 0)
		return -r;
	*ret_fd = signalfd(-1, &set, SFD_CLOEXEC);
	return *ret_fd < 0 ? -errno : 0;
}

static int open_events(struct mount *m, struct fault *reterr)
{
	int r = contact_start(m->path, m->verdict_fd, &m->contact);

	m->loop_ended_fd = eventfd(0, EFD_CLOEXEC);
	m->stop_ended_fd = eventfd(0, EFD_CLOEXEC);
	if (r == 0 && (m->loop_ended_fd < 0 || m->stop_ended_fd < 0))
		r = -EMFILE;
	return r < 0 ? fault_set(reterr, -r, "cannot start: %s", strerror(-r)) : 0;
}

static int start(struct mount *m, const struct config *config, struct fault *reterr)
{
	struct serve_options serve_options = {
		.mount_point = m->path,
		.only_remote = m->options->remote,
		.python = m->python,
		.is_read_only = m->options->is_read_only,
		.has_xattr = m->options->has_xattr,
	};

	int r = open_events(m, reterr);
	if (r == 0)
		r = serve_new(config, &serve_options, &m->serve, reterr);
	if (r == 0)
		r = session_open(m->path, m->options->fuse.data, serve_ops(m->serve), m->serve, &m->session,
				 reterr);
	if (r < 0)
		return r;
	r = mountpoint_record(m->path, m->session.mountpoint.major, m->session.mountpoint.minor, &m->record);
	if (r < 0)
		log_warning("cannot record the mount: %s, ignoring", strerror(-r));
	r = serve_start(m->serve, m->session.fuse);
	if (r < 0)
		return fault_set(reterr, -r, "cannot start the tree: %s", strerror(-r));
	r = pthread_create(&m->loop, NULL, run_loop, m);
	if (r != 0) {
		serve_stop(m->serve);
		return fault_set(reterr, r, "cannot start a thread: %s", strerror(r));
	}
	return 0;
}

static void release(struct mount *m)
{
	contact_end(&m->contact);
	session_close(&m->session);
	serve_free(m->serve);
	if (m->record)
		(void)unlink(m->record);
	free(m->record);
	free(m->python);
	free(m->notify_socket);
	if (m->loop_ended_fd >= 0)
		close(m->loop_ended_fd);
	if (m->stop_ended_fd >= 0)
		close(m->stop_ended_fd);
	if (m->verdict_fd >= 0)
		close(m->verdict_fd);
}

/* The daemon, or with -f the whole program. */
static int serve_mount(struct mount *m, const struct config *config)
{
	struct fault fault = {0};

	log_init(m->options->is_debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, !m->options->is_foreground);
	daemon_set_limits();
	(void)options_take_notify_socket(&m->notify_socket); /* without memory there is no notification */
	(void)options_find_program("python3", &m->python);   /* NULL when there is none */
	int r = start(m, config, &fault);
	if (r < 0) {
		m->exit_code =
			r == -ENOENT && m->options->remote && !m->serve ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
		daemon_tell(&m->verdict_fd, m->exit_code, fault.text);
		release(m);
		return m->exit_code;
	}
	m->contact_until_ms = clock_mono_ms() + CONTACT_TIMEOUT_MS;
	contact_go(&m->contact);
	control(m);
	(void)pthread_join(m->loop, NULL);
	if (!pthread_equal(m->stopper, pthread_self()))
		(void)pthread_join(m->stopper, NULL);
	if (m->loop_result < 0) {
		log_error("the session ended: %s", strerror(-m->loop_result));
		m->exit_code = m->exit_code ? m->exit_code : EXIT_CODE_FAILED;
	}
	log_info("%s is unmounted", m->path);
	release(m);
	return m->exit_code;
}

int mount_command(const struct options *options, const struct config *config)
{
	struct mount m = {.options = options, .verdict_fd = -1, .loop_ended_fd = -1, .stop_ended_fd = -1};
	cleanup_free char *path = NULL;
	cleanup_close int signal_fd = -1;
	struct fault fault = {0};

	int r = prepare_mount_point(options->dir, &path, &fault);
	if (r < 0) {
		fprintf(stderr, "trainfs: %s\n", fault.text);
		return EXIT_CODE_FAILED;
	}
	r = block_signals(&signal_fd);
	pid_t child = 0;
	if (r == 0 && !options->is_foreground)
		child = daemon_fork(&m.verdict_fd);
	if (r < 0 || child < 0) {
		fprintf(stderr, "trainfs: cannot start a process: %s\n", strerror(r < 0 ? -r : -child));
		return EXIT_CODE_SYSTEM;
	}
	if (child > 0) {
		int code = daemon_await(child, m.verdict_fd);
		if (code != EXIT_CODE_OK)
			(void)clear_mount_point(path,
						NULL); /* if it died so suddenly that its mount is there */
		return code;
	}
	m.path = path;
	m.signal_fd = signal_fd;
	return serve_mount(&m, config);
}
