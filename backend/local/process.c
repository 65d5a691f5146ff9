/* SPDX-License-Identifier: MIT */
/*
 * One program and all that it starts, run to its end.
 *
 * The supervisor is the subreaper of everything below it, so whatever the program leaves behind, setsid or not, is
 * sooner or later a direct child here. The program's own process is not reaped before everything else has gone: until
 * then its id, which is its group's, cannot be given to a stranger, and kill(-pid) is safe. Other children are
 * signalled only as direct children, whose ids are equally bound until we reap them.
 *
 *   RUNNING -> STOPPING (TERM was sent, grace runs) -> KILLING (KILL is sent to whatever shows up)
 * STOPPING begins with a cancel, a time-out, a SIGTERM of our own, or the end of the program while others live.
 */
#include "local/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "local/joblog.h"
#include "local/run.h"
#include "str.h"

enum {
	PROCESS_BUFFER = 256 << 10,
	PROCESS_PIPE = 1 << 20,
	PROCESS_ASK_MS = 5000,      /* a missed change is noticed then */
	PROCESS_SCAN_MS = 100,      /* while children are being ended */
	PROCESS_SCAN_MIN_MS = 50,   /* not for each of a talkative program's lines */
	PROCESS_GIVE_UP_MS = 30000, /* after KILL: what sits in the kernel for so long is left alone */
};

enum process_phase { PROCESS_RUNNING, PROCESS_STOPPING, PROCESS_KILLING };

struct process {
	struct process_host *host;
	struct process_end *end;
	pid_t pid;
	int output; /* the pipe's reading end, -1 once all writers have closed it */
	char *buffer;
	enum process_phase phase;
	bool is_ended;       /* the program itself; not reaped yet */
	int64_t deadline_ms; /* of the phase; 0: none */
	int64_t asked_ms;
	int64_t scanned_ms; /* when children were last looked for */
	pid_t *termed;      /* children that have had their TERM */
	size_t n_termed;
};

int process_host_init(struct process_host *ret)
{
	*ret = (struct process_host){.signal_fd = -1, .changes_fd = -1};
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || getrlimit(RLIMIT_CORE, &ret->child_core) < 0)
		return -errno;
	struct rlimit none = {0, ret->child_core.rlim_max};
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	for (int i = 1; i < 32; i++)
		(void)signal(i, SIG_DFL); /* KILL and STOP refuse */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return -errno;
	sigemptyset(&ret->child_mask);
	ret->child_umask = umask(077);
	ret->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return ret->signal_fd < 0 ? -errno : 0;
}

void process_host_release(struct process_host *host)
{
	if (host->signal_fd >= 0)
		close(host->signal_fd);
	if (host->changes_fd >= 0)
		close(host->changes_fd);
	host->signal_fd = host->changes_fd = -1;
}

/* ---- starting */

/* A script without a first line that names its interpreter: run as the shell does it. Returns if that fails. */
static void process_exec_script(const struct process_program *program, const char *path)
{
	size_t n = 0;
	while (program->argv[n])
		n++;
	char **argv = calloc(n + 2, sizeof(*argv));
	if (!argv)
		return;
	argv[0] = (char *)"sh";
	argv[1] = (char *)path;
	memcpy(argv + 2, program->argv + 1, (n - 1) * sizeof(*argv));
	execve("/bin/sh", argv, program->envp);
	free(argv);
}

/* In the child: never returns. Tells errno through `report` if there is nothing to execute. */
static void process_exec(const struct process_host *host, const struct process_program *program,
			 const char *path, int output, int report, pid_t parent)
{
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGHUP, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &host->child_mask, NULL);
	(void)umask(host->child_umask);
	(void)setrlimit(RLIMIT_CORE, &host->child_core);
	int null = open("/dev/null", O_RDONLY);
	if (null >= 0 && dup2(null, 0) == 0 && dup2(output, 1) == 1 && dup2(output, 2) == 2 &&
	    chdir(program->dir) == 0) {
		if (null > 2)
			close(null);
		execve(path, program->argv, program->envp);
		if (errno == ENOEXEC)
			process_exec_script(program, path);
	}
	int err = errno;
	(void)!write(report, &err, sizeof(err));
	_exit(127);
}

/* Starts it; a program that cannot be executed is told as exec_errno, its child is reaped then. */
static int process_start(struct process *p, const struct process_program *program)
{
	cleanup_close int out_read = -1, out_write = -1, report_read = -1, report_write = -1;
	cleanup_free char *path = NULL;
	int fd[2];
	int r = run_find_program(program->argv[0], run_environ(program->envp, "PATH"), &path);
	if (r < 0) {
		p->end->exec_errno = -r;
		return 0;
	}
	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	out_read = fd[0];
	out_write = fd[1];
	(void)fcntl(out_read, F_SETPIPE_SZ,
		    PROCESS_PIPE); /* refused beyond the user's share: then it is smaller */
	(void)fcntl(out_read, F_SETFL, O_NONBLOCK);
	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	report_read = fd[0];
	report_write = fd[1];
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		process_exec(p->host, program, path, out_write, report_write, parent);
	(void)setpgid(pid, pid); /* here too, so that the group is there whoever runs first */
	close(STEAL_FD(report_write));
	int err;
	if (read(report_read, &err, sizeof(err)) == sizeof(err)) {
		(void)waitpid(pid, NULL, 0);
		p->end->exec_errno = err;
		return 0;
	}
	p->pid = pid;
	p->output = STEAL_FD(out_read);
	return 0;
}

/* ---- output */

/* Takes what the pipe has, at most `max` bytes. */
static void process_take_output(struct process *p, size_t max)
{
	while (p->output >= 0 && max) {
		ssize_t n = read(p->output, p->buffer, PROCESS_BUFFER);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			close(STEAL_FD(p->output));
			return;
		}
		joblog_write(p->host->log, p->buffer, (size_t)n);
		max -= (size_t)n < max ? (size_t)n : max;
	}
}

/* What is in it at this moment, and no more: others may go on writing. */
static void process_drain_output(struct process *p)
{
	int n = 0;
	if (p->output >= 0 && ioctl(p->output, FIONREAD, &n) == 0 && n > 0)
		process_take_output(p, (size_t)n);
}

/* ---- children */

/* The parent of a process, from /proc; 0 if it is not there. */
static pid_t process_parent(const char *pid)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* the name in parentheses may hold anything, parentheses too */
	const char *end = strrchr(text, ')');
	int parent;
	return end && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* Calls `visit` with each direct child but the program itself; gives their number. */
static int process_each_child(struct process *p, void (*visit)(struct process *p, pid_t pid))
{
	int n = 0;
	pid_t self = getpid();
	cleanup_closedir DIR *dir = opendir("/proc");
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		int64_t pid;
		if (str_to_int(entry->d_name, 1, INT32_MAX, &pid) < 0 || pid == p->pid ||
		    process_parent(entry->d_name) != self)
			continue;
		if (waitpid((pid_t)pid, NULL, WNOHANG) == (pid_t)pid)
			continue;
		n++;
		visit(p, (pid_t)pid);
	}
	return n;
}

static void process_term_child(struct process *p, pid_t pid)
{
	for (size_t i = 0; i < p->n_termed; i++)
		if (p->termed[i] == pid)
			return;
	pid_t *grown = realloc(p->termed, (p->n_termed + 1) * sizeof(*grown));
	if (grown) {
		p->termed = grown;
		p->termed[p->n_termed++] = pid;
	}
	(void)kill(pid, SIGTERM);
	(void)kill(pid, SIGCONT);
}

static void process_kill_child(struct process *p, pid_t pid)
{
	(void)kill(pid, SIGKILL);
}

static void process_stop(struct process *p)
{
	if (p->phase != PROCESS_RUNNING)
		return;
	p->phase = PROCESS_STOPPING;
	p->deadline_ms = clock_mono_ms() + p->host->grace_ms;
	(void)kill(-p->pid, SIGTERM);
	(void)kill(-p->pid, SIGCONT); /* a stopped process would not see it */
}

/* Sees to those that must end; gives the number of children left beside the program. */
static int process_end_children(struct process *p)
{
	if (p->phase == PROCESS_KILLING)
		(void)kill(-p->pid, SIGKILL);
	return process_each_child(p, p->phase == PROCESS_KILLING ? process_kill_child : process_term_child);
}

/* Reaps orphans while the program runs; notes its end without reaping it. */
static void process_reap(struct process *p)
{
	while (!p->is_ended) {
		siginfo_t info = {0};
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || !info.si_pid)
			return;
		if (info.si_pid != p->pid) {
			(void)waitpid(info.si_pid, NULL, WNOHANG);
			continue;
		}
		p->is_ended = true;
		if (info.si_code == CLD_EXITED) {
			p->end->exit = info.si_status & 0xff;
		} else {
			p->end->signal = info.si_status;
			p->end->exit = 128 + info.si_status;
		}
	}
}

/* ---- waiting */

/* Empties the signal descriptor. */
static void host_take_signals(struct process_host *host)
{
	struct signalfd_siginfo info;
	while (read(host->signal_fd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			host->is_terminated = true;
}

static void host_take_changes(struct process_host *host)
{
	char event[4096];
	while (host->changes_fd >= 0 && read(host->changes_fd, event, sizeof(event)) > 0)
		;
}

static bool host_must_stop(const struct process_host *host)
{
	return host->is_cancelled || host->is_terminated;
}

/* Waits for the next thing; true when a change of the store was seen. */
static bool host_poll(struct process_host *host, int output, int64_t timeout_ms)
{
	struct pollfd fd[] = {
		{.fd = host->signal_fd, .events = POLLIN},
		{.fd = host->changes_fd, .events = POLLIN},
		{.fd = output, .events = POLLIN},
	};
	(void)poll(fd, 3, timeout_ms > INT32_MAX ? INT32_MAX : timeout_ms < 0 ? 0 : (int)timeout_ms);
	host_take_signals(host);
	if (fd[1].revents)
		host_take_changes(host);
	return fd[1].revents;
}

static int64_t process_next_ms(const struct process *p)
{
	int64_t now = clock_mono_ms();
	int64_t next = p->asked_ms + PROCESS_ASK_MS - now;
	if (p->deadline_ms && p->deadline_ms - now < next)
		next = p->deadline_ms - now;
	if ((p->is_ended || p->phase != PROCESS_RUNNING) && next > PROCESS_SCAN_MS)
		next = PROCESS_SCAN_MS;
	if (p->host->log->held_len && next > 500)
		next = 500;
	return next;
}

static void process_check_time(struct process *p)
{
	int64_t now = clock_mono_ms();
	if (!p->deadline_ms || now < p->deadline_ms)
		return;
	if (p->phase == PROCESS_RUNNING) {
		p->end->is_timeout = true;
		process_stop(p);
	} else if (p->phase == PROCESS_STOPPING) {
		p->phase = PROCESS_KILLING;
		p->deadline_ms = now + PROCESS_GIVE_UP_MS;
	}
}

static void process_check_cancelled(struct process *p, bool has_change)
{
	struct process_host *host = p->host;
	int64_t now = clock_mono_ms();
	if (!host->is_cancelled && (has_change || now - p->asked_ms >= PROCESS_ASK_MS)) {
		p->asked_ms = now;
		host->is_cancelled = host->ask_cancelled && host->ask_cancelled(host->arg);
	} else if (host->is_cancelled) {
		p->asked_ms = now;
	}
	if (host_must_stop(host) && p->phase == PROCESS_RUNNING && !p->is_ended) {
		p->end->is_stopped = true;
		process_stop(p);
	}
}

/* Ends what must end; true when nothing below us lives, or nothing more can be done about it. */
static bool process_is_over(struct process *p)
{
	int64_t now = clock_mono_ms();
	if (!p->is_ended && (p->phase == PROCESS_RUNNING || now - p->scanned_ms < PROCESS_SCAN_MIN_MS))
		return false;
	p->scanned_ms = now;
	if (p->is_ended)
		process_drain_output(p);
	bool was_running = p->phase == PROCESS_RUNNING;
	int n = process_end_children(p);
	if (p->is_ended && !n)
		return true;
	if (was_running) { /* the program ended by itself, and left some */
		p->end->n_left = n;
		process_stop(p);
	}
	return p->is_ended && p->phase == PROCESS_KILLING && now >= p->deadline_ms;
}

static void process_loop(struct process *p)
{
	p->asked_ms = clock_mono_ms() - PROCESS_ASK_MS; /* a cancel that came before is seen at once */
	for (;;) {
		process_check_cancelled(p, false);
		process_reap(p);
		if (process_is_over(p))
			return;
		bool has_change = host_poll(p->host, p->output, process_next_ms(p));
		process_take_output(p, 4 * PROCESS_PIPE);
		if (p->host->log->held_len)
			(void)joblog_flush(p->host->log);
		process_check_cancelled(p, has_change);
		process_check_time(p);
	}
}

/* How often the kernel has killed for want of memory. */
static int64_t process_oom_kills(void)
{
	cleanup_fclose FILE *file = fopen("/proc/vmstat", "re");
	char line[128];
	long long n = 0;
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "oom_kill %lld", &n) == 1)
			break;
	return n;
}

int process_run(struct process_host *host, const struct process_program *program, struct process_end *ret)
{
	cleanup_free char *buffer = malloc(PROCESS_BUFFER);
	if (!buffer)
		return -ENOMEM;
	*ret = (struct process_end){.log_from = host->log->size};
	struct process p = {.host = host, .end = ret, .output = -1, .buffer = buffer};
	int64_t oom_kills = process_oom_kills();
	int r = process_start(&p, program);
	if (r < 0)
		return r;
	if (ret->exec_errno) {
		ret->exit = 127;
		return 0;
	}
	if (program->timeout_ms)
		p.deadline_ms = clock_mono_ms() + program->timeout_ms;
	process_loop(&p);
	(void)waitpid(p.pid, NULL, 0);
	process_drain_output(&p);
	if (p.output >= 0)
		close(p.output);
	free(p.termed);
	if (ret->is_timeout)
		ret->exit = 124;
	ret->was_oom = ret->signal == SIGKILL && process_oom_kills() > oom_kills;
	return 0;
}

bool process_wait_cancelled(struct process_host *host, int timeout_ms)
{
	bool has_change = host_poll(host, -1, timeout_ms);
	if (has_change || !timeout_ms)
		host->is_cancelled |= host->ask_cancelled && host->ask_cancelled(host->arg);
	return host_must_stop(host);
}
