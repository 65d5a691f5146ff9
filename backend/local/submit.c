/* SPDX-License-Identifier: MIT */
/*
 * A request on its way to being a job.
 *
 * The package is linked (or copied) into incoming/, brought to disk, and moved to jobs/ID in the very transaction that
 * enters the job. A crash before its commit leaves something in incoming/, or a directory in jobs/ without a row: the
 * next submission of that id replaces it.
 */
#include "local/submit.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "clock.h"
#include "file.h"
#include "local/local.h"
#include "local/run.h"
#include "str.h"

enum {
	SUBMIT_SYNC_EACH = 256,     /* up to so many files are brought to disk one by one */
	SUBMIT_RESULT_BYTES = 4096, /* reserved for the end, should the disk be full then */
};

extern char **environ;

bool submit_is_remote(const char *text)
{
	return str_has_prefix(text, "gs://") || str_has_prefix(text, "s3://") ||
	       str_has_prefix(text, "http://") || str_has_prefix(text, "https://");
}

/* ---- checking */

static bool submit_has_file(void *arg, const char *path)
{
	const struct package *package = arg;
	while (str_has_prefix(path, "./"))
		path += 2;
	size_t n = strlen(path);
	while (n && path[n - 1] == '/')
		n--;
	if (!n)
		return true;
	for (size_t i = 0; i < package->n_paths; i++)
		if (!strncmp(package->path[i], path, n) &&
		    (!package->path[i][n] || package->path[i][n] == '/'))
			return true;
	return false;
}

static int submit_check_places(const struct job_request *request, struct fault *reterr)
{
	const char *output = run_text(request->spec, "output");
	if (output)
		return fault_set(
			reterr, EBADMSG,
			"output: a local job's output is always buckets/outputs/%s/%s; remove this field",
			request->model, request->id);
	const char *name;
	json_t *value;
	json_object_foreach (json_object_get(request->spec, "inputs"), name, value) {
		const char *path = json_string_value(value);
		if (!path)
			continue;
		if (submit_is_remote(path))
			return fault_set(reterr, EBADMSG,
					 "inputs.%s: %s is not on this machine; a local job takes paths only",
					 name, path);
		if (path[0] != '/' && path[0] != '$' && !str_has_prefix(path, "~/") &&
		    !submit_has_file((void *)request->package, path))
			return fault_set(reterr, EBADMSG, "inputs.%s: %s is not in the package", name, path);
	}
	return 0;
}

static int submit_check_resources(const struct local *local, const json_t *spec, struct fault *reterr)
{
	const json_t *resources = json_object_get(spec, "resources");
	const json_t *workers = json_object_get(resources, "workers");
	if (json_integer_value(workers) > 1)
		return fault_set(reterr, EBADMSG,
				 "resources.workers: %lld: a local job is one process; only 1 is possible",
				 (long long)json_integer_value(workers));
	const json_t *servers = json_object_get(resources, "parameter_servers");
	if (json_integer_value(servers) > 0)
		return fault_set(reterr, EBADMSG, "resources.parameter_servers: a local job has none");
	int64_t n = json_integer_value(json_object_get(resources, "accelerators"));
	if (n > local->gpus)
		return fault_set(reterr, EBADMSG,
				 "resources.accelerators: %lld are wanted, this machine has %lld "
				 "(/dev/nvidia*; option gpus)",
				 (long long)n, (long long)local->gpus);
	return 0;
}

bool submit_python_has(const char *python, const char *expression)
{
	static const char probe[] = "import importlib.util as u, sys\n"
				    "has = lambda name: u.find_spec(name) is not None\n"
				    "sys.exit(0 if eval(sys.argv[1]) else 1)";
	const char *argv[] = {python, "-c", probe, expression, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	for (int fd = 0; fd <= 2; fd++)
		posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	pid_t pid;
	int err = posix_spawnp(&pid, python, &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err)
		return false;
	int status = 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return true; /* not to be known: the run will tell */
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* A notebook needs nbconvert and a kernel; with requirements they may come with those. */
static int submit_check_notebook(const char *python, struct fault *reterr)
{
	if (submit_python_has(python, "has('nbconvert') and has('ipykernel')"))
		return 0;
	return fault_set(
		reterr, EBADMSG,
		"a notebook needs jupyter (nbconvert and ipykernel), which %s does not have: install it "
		"(Debian: apt install jupyter-nbconvert python3-ipykernel) or name it in requirements.txt",
		python);
}

static int submit_check_entry(const struct local *local, const struct job_request *request,
			      struct fault *reterr)
{
	const json_t *spec = request->spec;
	const char *entry = run_text(spec, "entry");
	enum run_kind kind = run_kind_of(spec, submit_has_file, (void *)request->package);
	if (kind == RUN_COMMAND) {
		if (!json_array_size(json_object_get(spec, "command")))
			return fault_set(reterr, EBADMSG, "neither entry nor command is given");
		return 0;
	}
	if (kind == RUN_FUNCTION || kind == RUN_SCRIPT || kind == RUN_NOTEBOOK || kind == RUN_SHELL ||
	    kind == RUN_EXECUTABLE) {
		const char *colon = kind == RUN_FUNCTION ? strrchr(entry, ':') : NULL;
		cleanup_free char *file = colon ? strndup(entry, (size_t)(colon - entry)) : strdup(entry);
		if (!file)
			return -ENOMEM;
		if (!submit_has_file((void *)request->package, file))
			return fault_set(reterr, EBADMSG, "entry: %s is not in the package", file);
	}
	const char *requirements = run_text(spec, "requirements");
	if (requirements && !submit_has_file((void *)request->package, requirements))
		return fault_set(reterr, EBADMSG, "requirements: %s is not in the package", requirements);
	bool has_requirements = requirements || submit_has_file((void *)request->package, "requirements.txt");
	bool is_python = kind != RUN_SHELL && kind != RUN_EXECUTABLE;
	if (!is_python && !has_requirements)
		return 0;
	const char *python = run_text(spec, "python");
	if (!python)
		python = local->python;
	if (!python)
		return fault_set(reterr, EBADMSG, "no python3 was found on the PATH of `trainfs mount`");
	cleanup_free char *path = NULL;
	int r = run_find_program(python, NULL, &path);
	if (r < 0)
		return fault_set(reterr, EBADMSG, "python: %s: %s", python,
				 r == -ENOENT ? "no such program on the PATH of `trainfs mount`"
					      : strerror(-r));
	return kind == RUN_NOTEBOOK && !has_requirements ? submit_check_notebook(path, reterr) : 0;
}

static int submit_check_resume(const struct local *local, const json_t *spec, struct fault *reterr)
{
	const char *resume = run_text(spec, "resume");
	if (!resume)
		return 0;
	cleanup_transaction struct transaction t = {0};
	int64_t state;
	int r = transaction_read(&t, local->reader);
	if (r == 0)
		r = store_get_int(&t, &state, "SELECT state FROM job WHERE id = ? AND gone = 0", "s", resume);
	if (r == -ENOENT)
		return fault_set(reterr, EBADMSG, "resume: there is no job %s here", resume);
	if (r < 0)
		return local_fault(reterr, r, "resume");
	if (!job_state_is_ended((enum job_state)state))
		return fault_set(reterr, EBADMSG, "resume: job %s is still %s", resume,
				 job_state_name((enum job_state)state));
	return 0;
}

/* What the package holds beside files, directories and links cannot be copied, nor meant. */
static int submit_check_files(const struct package *package, struct fault *reterr)
{
	cleanup_close int dir = file_open_dir(AT_FDCWD, package->dir);
	if (dir < 0)
		return fault_set(reterr, -dir, "%s: %s", package->dir, strerror(-dir));
	for (size_t i = 0; i < package->n_paths; i++) {
		struct stat st;
		if (fstatat(dir, package->path[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			return fault_set(reterr, errno, "%s: %s", package->path[i], strerror(errno));
		if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
			return fault_set(reterr, EBADMSG,
					 "%s is a %s; a package holds files, directories and links only",
					 package->path[i],
					 S_ISFIFO(st.st_mode)   ? "fifo"
					 : S_ISSOCK(st.st_mode) ? "socket"
								: "device");
	}
	return 0;
}

int submit_check(const struct local *local, const struct job_request *request, struct fault *reterr)
{
	int r = local_check_name("job id", request->id, reterr);
	if (r == 0)
		r = local_check_name("model", request->model, reterr);
	if (r == 0)
		r = submit_check_places(request, reterr);
	if (r == 0)
		r = submit_check_resources(local, request->spec, reterr);
	if (r == 0)
		r = submit_check_entry(local, request, reterr);
	if (r == 0)
		r = submit_check_resume(local, request->spec, reterr);
	return r < 0 ? r : submit_check_files(request->package, reterr);
}

/* ---- bringing the package here */

static int submit_link_file(int src, int dst, const char *path)
{
	if (linkat(src, path, dst, path, 0) == 0)
		return 0;
	/* another file system, or too many links, or not ours to link */
	return file_copy(src, path, dst, path);
}

static int submit_link_one(int src, int dst, const char *path, struct fault *reterr)
{
	struct stat st;
	int r = 0;
	if (fstatat(src, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		r = -errno;
	} else if (S_ISDIR(st.st_mode)) {
		r = mkdirat(dst, path, (st.st_mode & 0777) | 0700) < 0 ? -errno : 0;
	} else if (S_ISLNK(st.st_mode)) {
		cleanup_free char *target = calloc(1, (size_t)st.st_size + 2);
		if (!target)
			return -ENOMEM;
		ssize_t n = readlinkat(src, path, target, (size_t)st.st_size + 1);
		r = n < 0 || symlinkat(target, dst, path) < 0 ? -errno : 0;
	} else if (S_ISREG(st.st_mode)) {
		r = submit_link_file(src, dst, path);
	} else {
		return fault_set(reterr, EBADMSG, "%s is neither file, directory nor link", path);
	}
	return r < 0 ? fault_set(reterr, -r, "%s: %s", path, strerror(-r)) : 0;
}

/* Directories get their modes and times last: what was put into them has changed those. */
static void submit_finish_dirs(int src, int dst, const struct package *package)
{
	for (size_t i = package->n_paths; i-- > 0;) {
		struct stat st;
		if (fstatat(src, package->path[i], &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISREG(st.st_mode))
			continue;
		struct timespec times[2] = {st.st_atim, st.st_mtim};
		(void)utimensat(dst, package->path[i], times, AT_SYMLINK_NOFOLLOW); /* cosmetic */
	}
}

static int submit_link_package(const struct package *package, int dir, struct fault *reterr)
{
	cleanup_close int src = file_open_dir(AT_FDCWD, package->dir);
	if (src < 0)
		return fault_set(reterr, -src, "%s: %s", package->dir, strerror(-src));
	if (mkdirat(dir, "package", 0755) < 0)
		return fault_set(reterr, errno, "%s", strerror(errno));
	cleanup_close int dst = file_open_dir(dir, "package");
	if (dst < 0)
		return fault_set(reterr, -dst, "%s", strerror(-dst));
	for (size_t i = 0; i < package->n_paths; i++) {
		int r = submit_link_one(src, dst, package->path[i], reterr);
		if (r < 0)
			return r;
	}
	submit_finish_dirs(src, dst, package);
	return 0;
}

/* NAME NUL VALUE NUL ..., readable by the user alone until the supervisor takes it. */
static int submit_write_secrets(const struct job_request *request, int dir)
{
	if (!request->n_secrets)
		return 0;
	cleanup_close int fd = openat(dir, "secrets", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < request->n_secrets; i++) {
		const struct secret *secret = &request->secret[i];
		int r = file_write_fd(fd, secret->name, strlen(secret->name) + 1);
		if (r == 0)
			r = file_write_fd(fd, secret->value, strlen(secret->value) + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

static int submit_reserve_result(int dir)
{
	static const char block[SUBMIT_RESULT_BYTES];
	cleanup_close int fd = openat(dir, "result", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : file_write_fd(fd, block, sizeof(block));
}

static int submit_fill(const struct job_request *request, int dir, const char *path, struct fault *reterr)
{
	int r = submit_link_package(request->package, dir, reterr);
	if (r < 0)
		return r;
	r = submit_write_secrets(request, dir);
	if (r == 0)
		r = submit_reserve_result(dir);
	if (r == 0 && request->package->n_paths <= SUBMIT_SYNC_EACH)
		r = tree_sync(AT_FDCWD, path);
	else if (r == 0 && syncfs(dir) < 0)
		r = -errno;
	return r < 0 ? fault_set(reterr, -r, "the package could not be stored: %s", strerror(-r)) : 0;
}

/* ---- entering */

/* Room for a job of that id: not there, or deleted. */
static int submit_clear_id(const struct transaction *t, const char *id, const char *path)
{
	int64_t seq;
	int64_t is_gone;
	int r = store_get_int(t, &seq, "SELECT seq FROM job WHERE id = ?", "s", id);
	if (r == 0)
		r = store_get_int(t, &is_gone, "SELECT gone FROM job WHERE seq = ?", "i", seq);
	if (r == 0 && !is_gone)
		return -EEXIST;
	if (r == 0)
		r = store_exec(t, "DELETE FROM job WHERE seq = ?", "i", seq);
	if (r < 0 && r != -ENOENT)
		return r;
	return store_discard(t->store, path);
}

static int submit_insert(const struct transaction *t, const struct local *local,
			 const struct job_request *request)
{
	cleanup_free char *spec = json_dumps(request->spec, JSON_COMPACT);
	const json_t *resources = json_object_get(request->spec, "resources");
	const json_t *accelerators = json_object_get(resources, "accelerators");
	const char *python = run_text(request->spec, "python");
	int64_t now = clock_wall_ns();
	int64_t revision;
	int64_t seq;
	int64_t space;
	if (!spec)
		return -ENOMEM;
	int r = store_count(t, "revision", 1, &revision);
	if (r < 0)
		return r;
	r = store_get_int(t, &seq,
			  "INSERT INTO job(id, model, state, revision, created, changed, spec, git, "
			  "resumed_from, python,"
			  " wants_gpus) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
			  "ssiiiissssi", request->id, request->model, (int64_t)JOB_QUEUED, revision, now, now,
			  spec, request->git, run_text(request->spec, "resume"),
			  python ? python : local->python,
			  accelerators ? json_integer_value(accelerators) : (int64_t)-1);
	if (r == 0)
		r = store_exec(t, "INSERT INTO event VALUES(?, ?, ?)", "iii", seq, now, (int64_t)JOB_QUEUED);
	if (r == 0 && request->package->size_bytes) {
		r = store_exec(t, "UPDATE job SET space = ? WHERE seq = ?", "ii",
			       request->package->size_bytes, seq);
		if (r == 0)
			r = store_count(t, "space", request->package->size_bytes, &space);
	}
	return r;
}

static int submit_enter(const struct local *local, const struct job_request *request, const char *incoming)
{
	cleanup_free char *path = store_path(local->writer, "jobs/%s", request->id);
	cleanup_transaction struct transaction t = {0};
	if (!path)
		return -ENOMEM;
	int r = transaction_write(&t, local->writer);
	if (r == 0)
		r = submit_clear_id(&t, request->id, path);
	if (r == 0)
		r = submit_insert(&t, local, request);
	if (r < 0)
		return r;
	if (rename(incoming, path) < 0)
		return -errno;
	cleanup_free char *jobs = store_path(local->writer, "jobs");
	r = jobs ? file_sync_dir(AT_FDCWD, jobs) : -ENOMEM;
	if (r == 0)
		r = transaction_commit(&t);
	if (r < 0)
		(void)rename(path, incoming); /* still under the write lock; the caller removes it */
	return r;
}

static int submit_exists(const struct local *local, const char *id)
{
	cleanup_transaction struct transaction t = {0};
	int64_t n;
	int r = transaction_read(&t, local->reader);
	if (r == 0)
		r = store_get_int(&t, &n, "SELECT count(*) FROM job WHERE id = ? AND gone = 0", "s", id);
	return r < 0 ? r : n > 0;
}

/* A directory of incoming/, locked so that no sweep takes it. Gives its descriptor. */
static int submit_make_incoming(const struct local *local, const char *id, char **ret)
{
	for (;;) {
		cleanup_free char *path = store_path(local->writer, "incoming/%s.XXXXXX", id);
		if (!path)
			return -ENOMEM;
		if (!mkdtemp(path))
			return -errno;
		cleanup_close int dir = file_open_dir(AT_FDCWD, path);
		if (dir < 0 && dir != -ENOENT)
			return dir;
		struct stat st;
		if (dir < 0 || flock(dir, LOCK_EX | LOCK_NB) < 0 || stat(path, &st) < 0)
			continue; /* a sweep took it for a leftover before it was locked */
		*ret = STEAL(path);
		return STEAL_FD(dir);
	}
}

int submit_job(const struct local *local, const struct job_request *request, struct fault *reterr)
{
	int r = submit_exists(local, request->id);
	if (r)
		return r < 0 ? local_fault(reterr, r, "submit")
			     : fault_set(reterr, EEXIST, "there is a job %s already", request->id);
	r = submit_check(local, request, reterr);
	if (r < 0)
		return r;
	cleanup_free char *incoming = NULL;
	cleanup_close int dir = submit_make_incoming(local, request->id, &incoming);
	if (dir < 0)
		return local_fault(reterr, dir, "submit");
	r = submit_fill(request, dir, incoming, reterr);
	if (r == 0) {
		r = submit_enter(local, request, incoming);
		if (r == -EEXIST)
			(void)fault_set(reterr, EEXIST, "there is a job %s already", request->id);
		else if (r < 0)
			(void)local_fault(reterr, r, "submit");
	}
	if (r < 0)
		(void)tree_remove(AT_FDCWD, incoming);
	return r;
}
