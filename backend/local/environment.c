/* SPDX-License-Identifier: MIT */
/*
 * Virtual environments, cached by what is asked for.
 *
 * environments/KEY/ is one, KEY a hash of the interpreter, its version and the requirements' text; the text itself is
 * in KEY/trainfs.key, compared before use and written last, so that its presence says "complete". It is made in place
 * (its scripts hold its path) under the lock environments/KEY.lock. It sees the machine's own packages, so that what
 * Debian has installed needs no network.
 */
#include "local/environment.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "file.h"
#include "local/joblog.h"
#include "local/process.h"
#include "local/run.h"
#include "local/store.h"
#include "str.h"

enum { ENVIRONMENT_TEXT_MAX = 1 << 20, ENVIRONMENT_LOCK_MS = 200 };

int environment_is_shareable(const char *requirements)
{
	for (const char *line = requirements; *line;) {
		line += strspn(line, " \t\r\n");
		size_t n = strcspn(line, "\n");
		if (*line != '#' && n) {
			if (*line == '.' || *line == '/' || str_has_prefix(line, "-r") ||
			    str_has_prefix(line, "-c") || str_has_prefix(line, "-e") ||
			    str_has_prefix(line, "--r") || str_has_prefix(line, "--c") ||
			    str_has_prefix(line, "--e") || str_has_prefix(line, "-f") ||
			    str_has_prefix(line, "--f") || memmem(line, n, "file:", 5) ||
			    memmem(line, n, "$", 1) || memmem(line, n, ".whl", 4))
				return 0;
		}
		line += n;
	}
	return 1;
}

/* Runs one program; 0 when it ended well, -EBADMSG with its last words otherwise. */
static int environment_run(const struct environment_request *request, const char *const *argv,
			   const char *what, struct fault *reterr)
{
	struct process_program program = {(char *const *)argv, request->environ, request->run_dir, 0};
	struct process_end end;
	int r = process_run(request->host, &program, &end);
	if (r < 0)
		return fault_set(reterr, -r, "%s: %s", what, strerror(-r));
	if (end.is_stopped)
		return fault_set(reterr, ECANCELED, "cancelled");
	if (end.exec_errno)
		return fault_set(reterr, EBADMSG, "%s: %s: %s", what, argv[0], strerror(end.exec_errno));
	if (!end.exit)
		return 0;
	cleanup_free char *line = joblog_last_line(request->host->log, end.log_from, 300);
	return fault_set(reterr, EBADMSG, "%s: %s", what, line ? line : "it failed without a word");
}

/* Of pip's words the first error says more than the last line, which is often a hint. */
static int environment_pip_fault(const struct environment_request *request, int64_t from,
				 struct fault *reterr)
{
	cleanup_free char *text = malloc(64 << 10);
	if (!text)
		return -ENOMEM;
	int64_t end = request->host->log->size;
	ssize_t n =
		pread(request->host->log->fd, text, (64 << 10) - 1, end - from < 60000 ? from : end - 60000);
	text[n > 0 ? n : 0] = '\0';
	const char *error = strstr(text, "ERROR: ");
	if (!error)
		return -EBADMSG; /* what environment_run said stands */
	bool is_offline = strstr(text, "NewConnectionError") ||
			  strstr(text, "Temporary failure in name resolution") ||
			  strstr(text, "Network is unreachable") || strstr(text, "ConnectTimeoutError") ||
			  strstr(text, "ProxyError");
	error += strlen("ERROR: ");
	return fault_set(reterr, EBADMSG, "requirements: %.*s%s", (int)strcspn(error, "\r\n"), error,
			 is_offline ? " (the package index could not be reached; is there a network?)" : "");
}

/* What a short program of ours prints, at most `max` bytes of it. */
static int environment_ask(const char *const *argv, char *const *envp, const char *dir, size_t max,
			   char **ret)
{
	cleanup_free char *text = calloc(1, max + 1);
	cleanup_close int out = -1, in = -1;
	int fd[2];
	if (!text)
		return -ENOMEM;
	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	out = fd[0];
	in = fd[1];
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, 1);
	posix_spawn_file_actions_addchdir_np(&actions, dir); /* pyenv decides by it */
	pid_t pid;
	int err = posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	if (err)
		return -err;
	close(STEAL_FD(in));
	size_t len = 0;
	for (ssize_t n; len < max && (n = read(out, text + len, max - len)) > 0;)
		len += (size_t)n;
	int status;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) || !len)
		return -EBADMSG;
	*ret = STEAL(text);
	return 0;
}

/* The interpreter's identity, part of what an environment is made for; a name may be a shim of several. */
static int environment_python_version(const struct environment_request *request, char **ret)
{
	cleanup_free char *path = NULL;
	int r = run_find_program(request->python, NULL, &path);
	if (r < 0)
		return r;
	const char *argv[] = {path, "-c", "import sys; print(sys.executable, sys.version)", NULL};
	return environment_ask(argv, request->environ, request->run_dir, 4096, ret);
}

/* Waits for whoever makes the same one; a cancel ends it. */
static int environment_lock(const struct environment_request *request, const char *dir)
{
	cleanup_free char *path = NULL;
	int r = str_format(&path, "%s.lock", dir);
	if (r < 0)
		return r;
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	bool is_told = false;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (!is_told)
			joblog_note(request->host->log,
				    "another job is making the same environment; waiting for it");
		is_told = true;
		if (process_wait_cancelled(request->host, ENVIRONMENT_LOCK_MS))
			return -ECANCELED;
	}
	return STEAL_FD(fd);
}

static bool environment_is_complete(const char *dir, const char *key)
{
	cleanup_free char *path = NULL;
	cleanup_free char *found = NULL;
	return str_format(&path, "%s/trainfs.key", dir) == 0 &&
	       file_read_all(AT_FDCWD, path, 2 * ENVIRONMENT_TEXT_MAX, &found, NULL) == 0 &&
	       !strcmp(found, key);
}

static int environment_make(const struct environment_request *request, const char *dir, const char *key,
			    struct fault *reterr)
{
	int r = tree_remove(AT_FDCWD, dir);
	if (r < 0)
		return fault_set(reterr, -r, "%s: %s", dir, strerror(-r));
	joblog_note(request->host->log, "making an environment for %s", request->requirements);
	const char *venv[] = {request->python, "-m", "venv", "--system-site-packages", dir, NULL};
	r = environment_run(request, venv,
			    "the virtual environment could not be made (on Debian: apt install python3-venv)",
			    reterr);
	if (r < 0)
		return r;
	cleanup_free char *python = NULL;
	r = str_format(&python, "%s/bin/python", dir);
	if (r < 0)
		return r;
	const char *pip[] = {python,
			     "-m",
			     "pip",
			     "install",
			     "--disable-pip-version-check",
			     "--no-input",
			     "--progress-bar=off",
			     "-r",
			     request->requirements,
			     NULL};
	int64_t from = request->host->log->size;
	r = environment_run(request, pip, "the requirements could not be installed", reterr);
	if (r == -EBADMSG)
		return environment_pip_fault(request, from, reterr);
	if (r < 0)
		return r;
	cleanup_close int fd = file_open_dir(AT_FDCWD, dir);
	if (fd < 0)
		return fault_set(reterr, -fd, "%s: %s", dir, strerror(-fd));
	r = file_write_atomic(fd, "trainfs.key", key, strlen(key), 0600);
	return r < 0 ? fault_set(reterr, -r, "%s: %s", dir, strerror(-r)) : 0;
}

int environment_get(const struct environment_request *request, char **ret_dir, struct fault *reterr)
{
	cleanup_close int run_fd = file_open_dir(AT_FDCWD, request->run_dir);
	cleanup_free char *text = NULL;
	cleanup_free char *version = NULL;
	cleanup_free char *key = NULL;
	cleanup_free char *dir = NULL;
	if (run_fd < 0)
		return fault_set(reterr, -run_fd, "%s: %s", request->run_dir, strerror(-run_fd));
	cleanup_close int fd = file_open_below(run_fd, request->requirements, O_RDONLY, 0);
	int r = fd < 0 ? fd : file_read_all(run_fd, request->requirements, ENVIRONMENT_TEXT_MAX, &text, NULL);
	if (r < 0)
		return fault_set(reterr, EBADMSG, "requirements: %s: %s", request->requirements,
				 strerror(-r));
	r = environment_python_version(request, &version);
	if (r < 0)
		return fault_set(reterr, EBADMSG, "python: %s: %s", request->python,
				 r == -EBADMSG ? "it does not run" : strerror(-r));
	r = str_format(&key, "%s\n%s", version, text);
	if (r == 0 && environment_is_shareable(text)) {
		dir = store_path(request->store, "environments/%016llx",
				 (unsigned long long)str_hash(STR_HASH_START, key, strlen(key)));
	} else if (r == 0) {
		dir = strdup(request->private_dir);
	}
	if (!dir)
		return -ENOMEM;
	cleanup_close int lock = environment_lock(request, dir);
	if (lock < 0)
		return fault_set(reterr, -lock, "%s: %s", dir, strerror(-lock));
	if (!environment_is_complete(dir, key)) {
		r = environment_make(request, dir, key, reterr);
		if (r < 0) {
			(void)tree_remove(AT_FDCWD, dir); /* without its key it is not used anyway */
			return r;
		}
	}
	*ret_dir = STEAL(dir);
	return 0;
}
