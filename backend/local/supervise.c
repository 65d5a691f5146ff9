/* SPDX-License-Identifier: MIT */
/*
 * A running job's own process.
 *
 *   claimed -> PREPARING (copy, output, environment) -> RUNNING (attempts) -> SUCCEEDED | FAILED | CANCELLED
 *
 * It holds the job's lock from before its birth to its death, which is how everybody else knows that it lives. What it
 * knows of the job is in memory; the database is told at each step, and the last step until it takes it: on a full disk
 * the end goes to the job's `result` first, whose blocks were reserved at submission, for whoever settles the job.
 * It has no mount point on its command line and none of the daemon's descriptors.
 */
#include "local/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "local/environment.h"
#include "local/joblog.h"
#include "local/jobs.h"
#include "local/launch.h"
#include "local/process.h"
#include "local/run.h"
#include "local/schedule.h"
#include "local/scope.h"
#include "local/store.h"
#include "str.h"

enum {
	SUPERVISE_WHY_MAX = 400,
	SUPERVISE_LOG_WAIT_MS = 5000,         /* for room for the last of the log */
	SUPERVISE_RECORD_MS = 10 * 60 * 1000, /* for the database, once the end is safe in `result` */
};

extern char **environ;

struct supervisor {
	struct store *store;
	struct settings settings;
	struct process_host host;
	struct joblog log;
	char *id;
	char *model;
	char *python;
	char *gpus;
	char *resumed_from;
	int64_t seq;
	json_t *spec;
	char *job_dir;
	char *run_dir;
	char *output_dir;
	char *venv_dir; /* NULL: none */
	char *secret_bytes;
	size_t secret_len;
	struct secret *secret;
	size_t n_secrets;

	/* the truth, of which the database has a copy */
	enum job_state state;
	int64_t started_ns, ended_ns;
	int exit;
	char *why;
	int64_t space; /* once it has ended */
	struct job_attempt *attempt;
	size_t n_attempts;
};

/* ---- recording */

static void supervisor_set_why(struct supervisor *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void supervisor_set_why(struct supervisor *s, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	free(s->why);
	if (vasprintf(&s->why, format, ap) < 0)
		s->why = NULL;
	va_end(ap);
}

static int supervisor_write_attempts(const struct supervisor *s, const struct transaction *t)
{
	for (size_t i = 0; i < s->n_attempts; i++) {
		const struct job_attempt *a = &s->attempt[i];
		int r = store_exec(t, "INSERT OR REPLACE INTO attempt VALUES(?, ?, ?, ?, ?, ?)", "iiiiis",
				   s->seq, (int64_t)i + 1, a->started_ns, a->ended_ns, (int64_t)a->exit,
				   a->why);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Brings the database to what is known here. A wish to cancel that came meanwhile stays: it is cleared by an end only.
 */
static int supervisor_record(struct supervisor *s)
{
	cleanup_transaction struct transaction t = {0};
	int64_t old;
	int r = transaction_write(&t, s->store);
	if (r == 0)
		r = store_get_int(&t, &old, "SELECT state FROM job WHERE seq = ?", "i", s->seq);
	if (r < 0)
		return r;
	enum job_state state =
		old == JOB_CANCELLING && !job_state_is_ended(s->state) ? JOB_CANCELLING : s->state;
	r = store_exec(
		&t,
		"UPDATE job SET pid = ?, boot = ?, started = ?, ended = ?, exit = ?, why = ? WHERE seq = ?",
		"isiiisi", (int64_t)getpid(), s->store->boot_id, s->started_ns, s->ended_ns, (int64_t)s->exit,
		s->why, s->seq);
	if (r == 0)
		r = supervisor_write_attempts(s, &t);
	if (r == 0 && s->space)
		r = jobs_set_space(&t, s->seq, s->space);
	if (r == 0)
		r = state != (enum job_state)old
			    ? store_job_set_state(&t, s->seq, state,
						  s->ended_ns ? s->ended_ns : clock_wall_ns())
			    : store_job_touch(&t, s->seq);
	return r < 0 ? r : transaction_commit(&t);
}

/* The end, into blocks that are reserved. */
static bool supervisor_write_result(const struct supervisor *s)
{
	enum { SIZE = 4096 };
	cleanup_json json_t *result = json_pack(
		"{s:s, s:i, s:s?, s:I, s:I}", "state", job_state_name(s->state), "exit", s->exit, "why",
		s->why, "started", (json_int_t)s->started_ns, "ended", (json_int_t)s->ended_ns);
	cleanup_free char *text = result ? json_dumps(result, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	cleanup_free char *path = NULL;
	if (!text || strlen(text) >= SIZE || str_format(&path, "%s/result", s->job_dir) < 0)
		return false;
	char block[SIZE];
	memset(block, ' ', sizeof(block));
	memcpy(block, text, strlen(text));
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return fd >= 0 && pwrite(fd, block, sizeof(block), 0) == (ssize_t)sizeof(block) && fdatasync(fd) == 0;
}

/* Until it is in the database, or at least in `result` for long enough. */
static void supervisor_record_end(struct supervisor *s)
{
	int64_t start = clock_mono_ms();
	bool is_safe = false;
	for (int wait_ms = 100;; wait_ms = wait_ms < 2500 ? wait_ms * 2 : 5000) {
		int r = supervisor_record(s);
		if (r == 0 || r == -ENOENT)
			return;
		is_safe = is_safe || supervisor_write_result(s);
		if (is_safe && clock_mono_ms() - start > SUPERVISE_RECORD_MS)
			return;
		(void)usleep((useconds_t)wait_ms * 1000);
	}
}

static bool supervisor_ask_cancelled(void *arg)
{
	struct supervisor *s = arg;
	cleanup_transaction struct transaction t = {0};
	int64_t state;
	return transaction_read(&t, s->store) == 0 &&
	       store_get_int(&t, &state, "SELECT state FROM job WHERE seq = ?", "i", s->seq) == 0 &&
	       state == JOB_CANCELLING;
}

/* ---- loading */

static int supervisor_load_row(struct supervisor *s)
{
	cleanup_transaction struct transaction t = {0};
	cleanup_statement sqlite3_stmt *q = NULL;
	int r = transaction_read(&t, s->store);
	if (r == 0)
		r = settings_load(&t, &s->settings);
	if (r == 0)
		r = store_prepare(&t, &q,
				  "SELECT seq, state, model, spec, python, gpus, resumed_from, pid FROM job"
				  " WHERE id = ? AND gone = 0",
				  "s", s->id);
	if (r == 0)
		r = store_step(&t, q);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	s->seq = sqlite3_column_int64(q, 0);
	s->state = (enum job_state)sqlite3_column_int(q, 1);
	if ((s->state != JOB_PREPARING && s->state != JOB_CANCELLING) || sqlite3_column_int64(q, 7))
		return -ESTALE; /* not claimed for us */
	const char *spec = (const char *)sqlite3_column_text(q, 3);
	s->spec = spec ? json_loads(spec, 0, NULL) : NULL;
	if (!store_column_text(q, 2, &s->model) || !store_column_text(q, 4, &s->python) ||
	    !store_column_text(q, 5, &s->gpus) || !store_column_text(q, 6, &s->resumed_from) || !s->spec)
		return -ENOMEM;
	return 0;
}

/* Reads the secrets, NAME NUL VALUE NUL ..., and removes them from the disk. */
static int supervisor_load_secrets(struct supervisor *s)
{
	cleanup_free char *path = NULL;
	int r = str_format(&path, "%s/secrets", s->job_dir);
	if (r < 0)
		return r;
	r = file_read_all(AT_FDCWD, path, 16 << 20, &s->secret_bytes, &s->secret_len);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	(void)unlink(path);
	size_t n = 0;
	for (size_t i = 0; i < s->secret_len; i++)
		n += !s->secret_bytes[i];
	s->secret = calloc(n / 2 + 1, sizeof(*s->secret));
	if (!s->secret)
		return -ENOMEM;
	for (const char *at = s->secret_bytes; s->n_secrets < n / 2;) {
		struct secret *secret = &s->secret[s->n_secrets++];
		secret->name = at;
		secret->value = at + strlen(at) + 1;
		at = secret->value + strlen(secret->value) + 1;
	}
	return 0;
}

static int supervisor_open(struct supervisor *s, const char *state_dir)
{
	/* handed over by the claimer; should something between us have closed it, taken anew */
	cleanup_free char *lock = NULL;
	int r = store_open(state_dir, &s->store, NULL);
	if (r < 0)
		return r;
	lock = store_path(s->store, "locks/%s", s->id);
	struct stat a, b;
	if (!lock || stat(lock, &a) < 0 || fstat(LAUNCH_LOCK_FD, &b) < 0 || a.st_ino != b.st_ino ||
	    flock(LAUNCH_LOCK_FD, LOCK_EX | LOCK_NB) < 0)
		return -ENOLCK;
	(void)fcntl(LAUNCH_LOCK_FD, F_SETFD, FD_CLOEXEC);
	r = supervisor_load_row(s);
	if (r < 0)
		return r;
	s->job_dir = store_path(s->store, "jobs/%s", s->id);
	s->run_dir = store_path(s->store, "jobs/%s/run", s->id);
	s->output_dir = store_path(s->store, "buckets/outputs/%s/%s", s->model, s->id);
	cleanup_free char *log_path = store_path(s->store, "jobs/%s/log", s->id);
	cleanup_free char *changes = store_path(s->store, "changes");
	if (!s->job_dir || !s->run_dir || !s->output_dir || !log_path || !changes)
		return -ENOMEM;
	r = process_host_init(&s->host);
	if (r < 0)
		return r;
	r = joblog_open(&s->log, log_path);
	if (r < 0)
		return r;
	s->host.log = &s->log;
	s->host.grace_ms = s->settings.grace_ms;
	s->host.ask_cancelled = supervisor_ask_cancelled;
	s->host.arg = s;
	s->host.changes_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (s->host.changes_fd >= 0) /* without one it asks every few seconds */
		(void)inotify_add_watch(s->host.changes_fd, changes, IN_MODIFY);
	return 0;
}

static void supervisor_release(struct supervisor *s)
{
	joblog_close(&s->log);
	process_host_release(&s->host);
	if (s->secret_bytes)
		explicit_bzero(s->secret_bytes, s->secret_len);
	free(s->secret_bytes);
	free(s->secret);
	json_decref(s->spec);
	free(s->id);
	free(s->model);
	free(s->python);
	free(s->gpus);
	free(s->resumed_from);
	free(s->job_dir);
	free(s->run_dir);
	free(s->output_dir);
	free(s->venv_dir);
	free(s->why);
	for (size_t i = 0; i < s->n_attempts; i++)
		free(s->attempt[i].why);
	free(s->attempt);
	store_close(s->store);
}

/* ---- preparing */

static int supervisor_copy(struct supervisor *s, struct fault *reterr)
{
	cleanup_free char *package = store_path(s->store, "jobs/%s/package", s->id);
	if (!package)
		return fault_set(reterr, ENOMEM, "no memory");
	struct fault fault = {0};
	int r = tree_remove(AT_FDCWD, s->run_dir); /* of a supervisor that was lost before it began */
	if (r == 0)
		r = tree_copy(AT_FDCWD, package, AT_FDCWD, s->run_dir, &fault);
	return r < 0 ? fault_set(reterr, -r, "the package could not be copied: %s",
				 fault.text[0] ? fault.text : strerror(-r))
		     : 0;
}

/* The output directory; of a resumed job with what the old one had. */
static int supervisor_make_output(struct supervisor *s, struct fault *reterr)
{
	cleanup_free char *model_dir = store_path(s->store, "buckets/outputs/%s", s->model);
	cleanup_free char *old = NULL;
	cleanup_free char *old_model = NULL;
	struct fault copy_fault = {0};
	if (!model_dir)
		return fault_set(reterr, ENOMEM, "no memory");
	/* what the tree shows: a user's ordinary directories, whatever our own umask is */
	(void)umask(s->host.child_umask);
	int r = file_make_dirs(AT_FDCWD, model_dir, 0777);
	if (r == 0 && s->resumed_from) {
		cleanup_transaction struct transaction t = {0};
		r = transaction_read(&t, s->store);
		if (r == 0)
			r = store_get_text(&t, &old_model, "SELECT model FROM job WHERE id = ? AND gone = 0",
					   "s", s->resumed_from);
		if (r == 0)
			old = store_path(s->store, "buckets/outputs/%s/%s", old_model, s->resumed_from);
	}
	if (r == 0 && old && access(old, F_OK) == 0) {
		r = tree_remove(AT_FDCWD, s->output_dir);
		if (r == 0)
			r = tree_copy(AT_FDCWD, old, AT_FDCWD, s->output_dir, &copy_fault);
	} else if (r == 0) {
		r = file_make_dirs(AT_FDCWD, s->output_dir, 0777);
	}
	(void)umask(077);
	if (r == -ENOENT && s->resumed_from)
		return fault_set(reterr, ENOENT, "resume: job %s has been deleted", s->resumed_from);
	return r < 0 ? fault_set(reterr, -r, "the output directory could not be made: %s",
				 copy_fault.text[0] ? copy_fault.text : strerror(-r))
		     : 0;
}

static int supervisor_prepare_environment(struct supervisor *s, struct fault *reterr)
{
	const char *requirements = run_text(s->spec, "requirements");
	cleanup_free char *implied = store_path(s->store, "jobs/%s/run/requirements.txt", s->id);
	cleanup_free char *private_dir = store_path(s->store, "jobs/%s/environment", s->id);
	if (!implied || !private_dir)
		return fault_set(reterr, ENOMEM, "no memory");
	if (!requirements && access(implied, F_OK) == 0)
		requirements = "requirements.txt";
	if (!requirements)
		return 0;
	while (str_has_prefix(requirements, "./"))
		requirements += 2;
	struct environment_request request = {
		.store = s->store,
		.host = &s->host,
		.python = s->python,
		.run_dir = s->run_dir,
		.requirements = requirements,
		.private_dir = private_dir,
		.environ = environ,
	};
	return environment_get(&request, &s->venv_dir, reterr);
}

static int supervisor_prepare(struct supervisor *s, struct fault *reterr)
{
	int r = supervisor_copy(s, reterr);
	if (r == 0 && !process_wait_cancelled(&s->host, 0))
		r = supervisor_make_output(s, reterr);
	if (r == 0 && !process_wait_cancelled(&s->host, 0))
		r = supervisor_prepare_environment(s, reterr);
	if (r == 0)
		r = supervisor_load_secrets(s);
	if (process_wait_cancelled(&s->host, 0))
		return fault_set(reterr, ECANCELED, "cancelled");
	return r;
}

/* ---- running */

/* Why an attempt ended as it did, or NULL when all went well. */
static char *supervisor_explain(const struct supervisor *s, const struct process_end *end,
				const char *program)
{
	cleanup_str struct str why = {0};
	cleanup_free char *line = joblog_last_line(&s->log, end->log_from, SUPERVISE_WHY_MAX);
	char *text;
	if (end->exec_errno) {
		str_printf(&why, "%s could not be started: %s", program, strerror(end->exec_errno));
	} else if (end->is_stopped) {
		str_append(&why, s->host.is_cancelled
					 ? "cancelled"
					 : "ended by the system (SIGTERM): a shutdown or logout");
	} else if (end->is_timeout) {
		int64_t ms = run_timeout_ms(s->spec);
		const char *given = run_text(s->spec, "timeout");
		if (given)
			str_printf(&why, "ran longer than timeout %s", given);
		else
			str_printf(&why, "ran longer than timeout %lld s", (long long)ms / 1000);
	} else if (end->signal) {
		const char *name = sigabbrev_np(end->signal);
		str_printf(&why, "killed by signal %d (%s)", end->signal, name ? name : "?");
		if (end->was_oom)
			str_append(&why, "; the kernel ran out of memory meanwhile");
		if (line)
			str_printf(&why, ": %s", line);
	} else if (end->exit) {
		str_printf(&why, "exit code %d", end->exit);
		if (line)
			str_printf(&why, ": %s", line);
		if (line && str_has_prefix(line, "ModuleNotFoundError:")) /* there may be several pythons */
			str_printf(&why, "; it ran with %s, name what it needs in requirements.txt", program);
	} else {
		return NULL;
	}
	return str_steal(&why, &text) < 0 ? NULL : text;
}

static int supervisor_make_plan(const struct supervisor *s, struct run_plan *ret, struct fault *reterr)
{
	cleanup_free char *key = launch_key(s->store, s->seq);
	struct run_input input = {
		.spec = s->spec,
		.id = s->id,
		.run_dir = s->run_dir,
		.output_dir = s->output_dir,
		.python = s->python,
		.venv_dir = s->venv_dir,
		.gpus = s->settings.gpus ? (s->gpus ? s->gpus : "") : NULL,
		.key = key,
		.secret = s->secret,
		.n_secrets = s->n_secrets,
		.environ = environ,
	};
	return run_plan_make(&input, ret, reterr);
}

/* One more attempt in memory; NULL without memory. */
static struct job_attempt *supervisor_add_attempt(struct supervisor *s)
{
	struct job_attempt *grown = realloc(s->attempt, (s->n_attempts + 1) * sizeof(*grown));
	if (!grown)
		return NULL;
	s->attempt = grown;
	grown[s->n_attempts] = (struct job_attempt){.started_ns = clock_wall_ns(), .exit = JOB_EXIT_UNKNOWN};
	return &grown[s->n_attempts++];
}

/* Runs it once; 0 and how it ended, or -errno if it never began. */
static int supervisor_attempt(struct supervisor *s, const struct run_plan *plan, struct process_end *ret)
{
	struct job_attempt *attempt = supervisor_add_attempt(s);
	if (!attempt)
		return -ENOMEM;
	if (!s->started_ns)
		s->started_ns = attempt->started_ns;
	s->state = JOB_RUNNING;
	(void)supervisor_record(s); /* the last record tells it again */
	struct process_program program = {plan->argv, plan->envp, s->run_dir, run_timeout_ms(s->spec)};
	int r = process_run(&s->host, &program, ret);
	if (r < 0)
		return r;
	attempt->ended_ns = clock_wall_ns();
	attempt->exit = ret->exit;
	attempt->why = supervisor_explain(s, ret, plan->argv[0]);
	if (ret->n_left)
		joblog_note(&s->log, "the program had ended; %d process%s it had left behind %s ended too",
			    ret->n_left, ret->n_left == 1 ? "" : "es", ret->n_left == 1 ? "was" : "were");
	return 0;
}

/* All attempts; sets exit, why and the final state. */
static int supervisor_run(struct supervisor *s, const struct run_plan *plan)
{
	int64_t n_tries = 1 + run_retries(s->spec);
	for (int64_t n = 1; n <= n_tries; n++) {
		struct process_end end;
		if (n > 1)
			joblog_note(&s->log, "attempt %lld of %lld", (long long)n, (long long)n_tries);
		int r = supervisor_attempt(s, plan, &end);
		if (r < 0)
			return r;
		const struct job_attempt *last = &s->attempt[s->n_attempts - 1];
		s->exit = end.exit;
		supervisor_set_why(s, "%s", last->why ? last->why : "");
		if (end.is_stopped) {
			s->state = s->host.is_cancelled ? JOB_CANCELLED : JOB_FAILED;
			return 0;
		}
		if (!last->why) {
			s->state = JOB_SUCCEEDED;
			return 0;
		}
		s->state = JOB_FAILED;
		/* between two attempts too; the first look of the next one would be an attempt too many */
		if (process_wait_cancelled(&s->host, 0)) {
			s->state = s->host.is_cancelled ? JOB_CANCELLED : JOB_FAILED;
			return 0;
		}
	}
	return 0;
}

/* The rest of the log, if there is room for it soon. */
static void supervisor_finish_log(struct supervisor *s)
{
	for (int64_t end = clock_mono_ms() + SUPERVISE_LOG_WAIT_MS;
	     !joblog_flush(&s->log) && clock_mono_ms() < end;)
		(void)usleep(100000);
	int64_t lost = s->log.lost_total + (int64_t)s->log.held_len;
	if (!lost)
		return;
	cleanup_free char *why = STEAL(s->why);
	supervisor_set_why(s, "%s%s%lld bytes of log were lost: disk full", why ? why : "",
			   why && *why ? "; " : "", (long long)lost);
}

static void supervisor_work(struct supervisor *s)
{
	struct fault fault = {0};
	struct run_plan plan = {0};
	int r = supervisor_prepare(s, &fault);
	if (r == 0)
		r = supervisor_make_plan(s, &plan, &fault);
	if (r == 0)
		r = supervisor_run(s, &plan);
	run_plan_release(&plan);
	if (r < 0) {
		s->state = s->host.is_cancelled ? JOB_CANCELLED : JOB_FAILED;
		supervisor_set_why(s, "%s",
				   s->host.is_cancelled ? "cancelled before it ran"
				   : fault.text[0]      ? fault.text
							: strerror(-r));
		joblog_note(&s->log, "%s", s->why ? s->why : "");
	}
	supervisor_finish_log(s);
	s->ended_ns = clock_wall_ns();
	s->space = jobs_measure(s->store, s->id, s->model);
	supervisor_record_end(s);
}

int local_supervise_main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	struct supervisor s = {
		.exit = JOB_EXIT_UNKNOWN,
		.log = {.fd = -1},
		.host = {.signal_fd = -1, .changes_fd = -1},
		.id = strdup(argv[2]),
	};
	int r = s.id ? supervisor_open(&s, argv[1]) : -ENOMEM;
	if (r < 0) {
		supervisor_release(&s);
		return 1;
	}
	(void)prctl(PR_SET_NAME, "trainfs-job"); /* executed as /proc/self/exe, it would be "exe" in ps */
	(void)supervisor_record(&s);             /* from here on it has begun */
	scope_enter(s.id);
	supervisor_work(&s);
	cleanup_free char *lock = store_path(s.store, "locks/%s", s.id);
	if (lock)
		(void)unlink(lock);
	/* the next in the queue, with what we were given ourselves */
	(void)umask(s.host.child_umask);
	(void)setrlimit(RLIMIT_CORE, &s.host.child_core);
	(void)schedule_run(s.store);
	supervisor_release(&s);
	return 0;
}
