/* SPDX-License-Identifier: MIT */
/*
 * Puts together what a draft submits: where its package is (a draft, or the copy of a job's directory), its list of
 * files, its specification, the values of its secrets. Git facts are in git.c.
 */
#include "submission.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "config.h"
#include "package.h"
#include "quote.h"
#include "spec.h"
#include "str.h"

enum { SECRET_SIZE_MAX = 64 << 10 };

static void secrets_release(struct secret *secret, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *value = (char *)secret[i].value;
		if (value)
			explicit_bzero(value, strlen(value));
		free(value);
		free((char *)secret[i].name);
	}
	free(secret);
}

void submission_release(struct submission *submission)
{
	secrets_release(submission->secret, submission->n_secrets);
	for (size_t i = 0; i < submission->n_paths; i++)
		free(submission->path[i]);
	free(submission->path);
	json_decref(submission->spec);
	free(submission->model);
	free(submission->root);
	memset(submission, 0, sizeof(*submission));
}

static void submission_release_local(struct submission *submission)
{
	submission_release(submission);
}
#define cleanup_submission __attribute__((cleanup(submission_release_local)))

static void list_release_local(struct package_list *list)
{
	package_list_release(list);
}
#define cleanup_list __attribute__((cleanup(list_release_local)))

/* ---- secrets */

/* The value in a file that nobody else can read; -ENOENT without a sentence. `buffer` is wiped by the caller. */
static int secret_read(const char *path, const char *name, char buffer[static SECRET_SIZE_MAX + 1],
		       struct fault *reterr)
{
	struct stat st;
	size_t n = 0;
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_set(reterr, EBADMSG, "the secret %s in %s cannot be read: %s", name, path,
				 strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fault_set(reterr, EBADMSG, "the secret %s: %s is no plain file", name, path);
	if (st.st_mode & 077)
		return fault_set(reterr, EBADMSG,
				 "the secret %s in %s can be read by others; say: chmod 600 %s", name, path,
				 path);
	while (n <= SECRET_SIZE_MAX) {
		ssize_t got = read(fd, buffer + n, SECRET_SIZE_MAX + 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fault_set(reterr, EBADMSG, "the secret %s in %s cannot be read: %s", name,
					 path, strerror(errno));
		if (got == 0)
			break;
		n += (size_t)got;
	}
	if (n > SECRET_SIZE_MAX)
		return fault_set(reterr, EBADMSG, "the secret %s in %s is larger than 64 KiB", name, path);
	if (memchr(buffer, '\0', n))
		return fault_set(reterr, EBADMSG, "the secret %s in %s has a NUL byte in it", name, path);
	n -= n > 0 && buffer[n - 1] == '\n';
	n -= n > 0 && buffer[n - 1] == '\r';
	buffer[n] = '\0';
	return 0;
}

/* The file's text in memory of its own; what it was read into is wiped. */
static int secret_copy(const char *path, const char *name, char **ret, struct fault *reterr)
{
	char *buffer = malloc(SECRET_SIZE_MAX + 1);
	if (!buffer)
		return -ENOMEM;
	int r = secret_read(path, name, buffer, reterr);
	if (r == 0) {
		*ret = strdup(buffer);
		r = *ret ? 0 : -ENOMEM;
	}
	explicit_bzero(buffer, SECRET_SIZE_MAX + 1);
	free(buffer);
	return r;
}

static int secret_from_file(const char *name, char **ret, struct fault *reterr)
{
	cleanup_free char *dir = NULL;
	cleanup_free char *path = NULL;
	char shown[QUOTE_MAX];
	int r = config_dir(&dir);
	if (r < 0)
		return r == -ENOMEM
			       ? r
			       : fault_set(
					 reterr, EBADMSG,
					 "the secret `%s` is not in the environment of trainfs, and there is "
					 "no home directory to look for its file",
					 quote(name, shown));
	r = str_format(&path, "%s/secrets/%s", dir, name);
	if (r < 0)
		return r;
	r = secret_copy(path, name, ret, reterr);
	if (r == -ENOENT)
		return fault_set(
			reterr, EBADMSG,
			"the secret `%s` has no value: it is neither in the environment of trainfs nor in %s",
			quote(name, shown), path);
	return r;
}

static int secret_find(const char *name, char **ret, struct fault *reterr)
{
	const char *value = config_environment(name);
	if (!value)
		return secret_from_file(name, ret, reterr);
	*ret = strdup(value);
	return *ret ? 0 : -ENOMEM;
}

static int secrets_find(struct submission *submission, struct fault *reterr)
{
	const json_t *names = json_object_get(submission->spec, "secrets");
	size_t n = json_array_size(names);
	if (n == 0)
		return 0;
	submission->secret = calloc(n, sizeof(*submission->secret));
	if (!submission->secret)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct secret *secret = &submission->secret[i];
		char *value = NULL;
		submission->n_secrets = i + 1;
		secret->name = strdup(json_string_value(json_array_get(names, i)));
		if (!secret->name)
			return -ENOMEM;
		int r = secret_find(secret->name, &value, reterr);
		if (r < 0)
			return r;
		secret->value = value;
	}
	return 0;
}

/* ---- the draft */

static int open_draft(const char *dir, int *ret, struct fault *reterr)
{
	char shown[QUOTE_MAX];
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fault_set(reterr, errno, "the draft %s cannot be opened: %s", quote(dir, shown),
				 strerror(errno));
	*ret = fd;
	return 0;
}

/* The package/ of the copy of a job's directory. */
static int open_rerun(int draft_fd, int *ret, struct fault *reterr)
{
	struct stat st;
	if (fstatat(draft_fd, "package", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fault_set(
			reterr, EBADMSG,
			"spec.json says that this is the copy of a job's directory, but there is no package/ "
			"beside it; a specification of your own is named job.yaml or job.json");
	if (S_ISLNK(st.st_mode))
		return fault_set(
			reterr, EBADMSG,
			"package is a symbolic link, and no link is followed; put the package's files into a "
			"directory package/ (cp -rL copies what a link points at)");
	if (!S_ISDIR(st.st_mode))
		return fault_set(reterr, EBADMSG,
				 "package is not a directory; in the copy of a job it holds the files");
	int fd = openat(draft_fd, "package", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fault_set(reterr, EBADMSG, "package/ cannot be read: %s", strerror(errno));
	*ret = fd;
	return 0;
}

static int prepare_root(struct submission *submission, const char *dir, bool is_rerun)
{
	cleanup_free char *absolute = realpath(dir, NULL);
	if (!absolute)
		return -errno;
	return str_format(&submission->root, "%s%s", absolute, is_rerun ? "/package" : "");
}

static int prepare_model(struct submission *submission)
{
	submission->model = strdup(json_string_value(json_object_get(submission->spec, "model")));
	return submission->model ? 0 : -ENOMEM;
}

static int prepare(const char *dir, const char *default_model, int64_t max_bytes,
		   struct submission *submission, struct fault *reterr)
{
	cleanup_close int draft_fd = -1;
	cleanup_close int rerun_fd = -1;
	cleanup_free char *model = NULL;
	cleanup_list struct package_list list = {0};
	int r = open_draft(dir, &draft_fd, reterr);
	if (r < 0)
		return r;
	bool is_rerun = spec_is_rerun(draft_fd);
	if (is_rerun)
		r = open_rerun(draft_fd, &rerun_fd, reterr);
	if (r < 0)
		return r;
	int package_fd = is_rerun ? rerun_fd : draft_fd;
	r = prepare_root(submission, dir, is_rerun);
	if (r < 0)
		return r;
	r = package_list_make(package_fd, max_bytes, &list, reterr);
	if (r < 0)
		return r;
	r = str_make_plain_name(default_model, &model);
	if (r < 0)
		return r;
	r = spec_make(draft_fd, is_rerun ? "spec.json" : NULL, package_fd, &list, model, &submission->spec,
		      reterr);
	if (r < 0)
		return r;
	submission->path = STEAL(list.path);
	submission->n_paths = list.n_paths;
	submission->size_bytes = list.size_bytes;
	list.n_paths = 0;
	r = prepare_model(submission);
	if (r < 0)
		return r;
	return secrets_find(submission, reterr);
}

int submission_prepare(const char *dir, const char *default_model, int64_t max_bytes, struct submission *ret,
		       struct fault *reterr)
{
	cleanup_submission struct submission submission = {0};
	struct fault fault = {0};
	int r = prepare(dir, default_model, max_bytes, &submission, &fault);
	if (r < 0) {
		if (fault.err == 0)
			(void)fault_set(&fault, -r, "the package cannot be looked at: %s", strerror(-r));
		if (reterr)
			*reterr = fault;
		return r;
	}
	*ret = submission;
	memset(&submission, 0, sizeof(submission));
	return 0;
}

bool submission_is_empty(const char *dir)
{
	cleanup_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 && package_is_empty(fd);
}

void submission_as_request(const struct submission *submission, const char *id, const char *git,
			   struct package *package, struct job_request *ret)
{
	*package = (struct package){
		.dir = submission->root,
		.path = (const char *const *)submission->path,
		.n_paths = submission->n_paths,
		.size_bytes = submission->size_bytes,
	};
	*ret = (struct job_request){
		.id = id,
		.model = submission->model,
		.spec = submission->spec,
		.package = package,
		.git = git,
		.secret = submission->secret,
		.n_secrets = submission->n_secrets,
	};
}
