/* SPDX-License-Identifier: MIT */
/*
 * gitignore rules without a repository: libgit2 gets one that lives in memory, with an empty configuration, so that
 * neither a file of the package nor a setting of the user takes part.
 */
#include "ignore.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <git2/sys/config.h>
#include <git2/sys/repository.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "quote.h"
#include "str.h"

struct ignore {
	git_repository *repository;
	struct str path; /* with a `/` behind it, for directories */
};

static const char default_rules[] = ".git\n__pycache__\n.venv\n*.pyc\n";

/* Larger objects than this are no trees and commits; bounds what a hostile pack makes libgit2 allocate. */
enum { GIT_OBJECT_MAX = 256 << 20 };

static pthread_once_t git_once = PTHREAD_ONCE_INIT;
static int git_state;

static void init_git(void)
{
	git_state = git_libgit2_init() < 0 ? -ENOMEM : 0;
#ifdef HAVE_GIT_PACK_MAX_OBJECT_SIZE
	if (git_state == 0)
		(void)git_libgit2_opts(GIT_OPT_SET_PACK_MAX_OBJECT_SIZE, (size_t)GIT_OBJECT_MAX); /* a help */
#endif
}

int ignore_init_git(void)
{
	pthread_once(&git_once, init_git);
	return git_state;
}

static int open_rules(int dir_fd, int *ret, struct fault *reterr)
{
	cleanup_close int fd =
		openat(dir_fd, ".trainfsignore", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return fault_set(reterr, EBADMSG,
				 ".trainfsignore cannot be read (%s); it must be a plain file",
				 fault_name(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return fault_set(reterr, EBADMSG, ".trainfsignore must be a plain file");
	*ret = STEAL_FD(fd);
	return 0;
}

/* The text of .trainfsignore, "" if there is none; without carriage returns and a byte order mark. */
static int read_rules(int dir_fd, struct str *ret, struct fault *reterr)
{
	cleanup_close int fd = -1;
	cleanup_free char *text = malloc(IGNORE_SIZE_MAX + 1);
	size_t n = 0, n_lines = 0;
	int r = open_rules(dir_fd, &fd, reterr);
	if (r == -ENOENT)
		return str_append(ret, "");
	if (r < 0 || !text)
		return r < 0 ? r : -ENOMEM;
	ssize_t got;
	while (n <= IGNORE_SIZE_MAX && (got = read(fd, text + n, IGNORE_SIZE_MAX + 1 - n)) != 0) {
		if (got < 0 && errno != EINTR)
			return fault_set(reterr, EBADMSG, ".trainfsignore cannot be read: %s",
					 fault_name(errno));
		n += got > 0 ? (size_t)got : 0;
	}
	if (n > IGNORE_SIZE_MAX)
		return fault_set(reterr, EBADMSG, ".trainfsignore is larger than 64 KiB");
	size_t start = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	for (size_t i = start; i < n; i++) {
		n_lines += text[i] == '\n';
		if (text[i] == '\0')
			return fault_set(reterr, EBADMSG, ".trainfsignore:%zu: a NUL byte", n_lines + 1);
		if (text[i] != '\r')
			(void)str_append_n(ret, text + i, 1); /* its error is sticky */
	}
	if (n_lines > IGNORE_LINES_MAX)
		return fault_set(reterr, EBADMSG, ".trainfsignore has more than 2000 lines");
	return ret->err;
}

static int make_repository(git_repository **ret)
{
	git_repository *repository = NULL;
	git_config *config = NULL;
	int r = git_repository_new(&repository);
	if (r == 0)
		r = git_config_new(&config);
	if (r == 0)
		r = git_repository_set_config(repository, config);
	git_config_free(config);
	if (r != 0) {
		git_repository_free(repository);
		return -ENOMEM;
	}
	*ret = repository;
	return 0;
}

static void ignore_release_local(struct ignore **ignore)
{
	ignore_free(*ignore);
}

int ignore_new(int dir_fd, struct ignore **ret, struct fault *reterr)
{
	cleanup_str struct str rules = {0};
	__attribute__((cleanup(ignore_release_local))) struct ignore *ignore = calloc(1, sizeof(*ignore));
	if (!ignore)
		return -ENOMEM;
	int r = read_rules(dir_fd, &rules, reterr);
	if (r < 0)
		return r;
	r = ignore_init_git();
	if (r < 0)
		return r;
	r = make_repository(&ignore->repository);
	if (r < 0)
		return r;
	if (git_ignore_add_rule(ignore->repository, default_rules) != 0)
		return -ENOMEM;
	if (rules.len > 0 && git_ignore_add_rule(ignore->repository, rules.data) != 0) {
		char said[QUOTE_MAX];
		const git_error *error = git_error_last();
		return fault_set(
			reterr, EBADMSG, ".trainfsignore: %s",
			quote(error && error->message ? error->message : "a rule is not valid", said));
	}
	*ret = STEAL(ignore);
	return 0;
}

void ignore_free(struct ignore *ignore)
{
	if (!ignore)
		return;
	git_repository_free(ignore->repository);
	str_release(&ignore->path);
	free(ignore);
}

int ignore_has(struct ignore *ignore, const char *path, bool is_dir, bool *ret)
{
	int is_ignored = 0;
	str_clear(&ignore->path);
	(void)str_append(&ignore->path, path); /* its error is sticky */
	if (is_dir)
		(void)str_append(&ignore->path, "/");
	if (ignore->path.err)
		return ignore->path.err;
	if (git_ignore_path_is_ignored(&is_ignored, ignore->repository, ignore->path.data) != 0)
		return -ENOMEM;
	*ret = is_ignored != 0;
	return 0;
}

/* As mkstemp(3) makes them. One in 200 is all lower case: those are left in rather than `.env.docker` out. */
static bool is_random_six(const char *s)
{
	bool is_word = true;
	for (size_t i = 0; i < 6; i++) {
		if (!isascii((unsigned char)s[i]) || !isalnum((unsigned char)s[i]))
			return false;
		is_word = is_word && islower((unsigned char)s[i]);
	}
	return s[6] == '\0' && !is_word;
}

bool ignore_is_made_up(const char *name, const char *prefix)
{
	return str_has_prefix(name, prefix) && is_random_six(name + strlen(prefix));
}

bool ignore_is_passing_name(const char *name)
{
	size_t n = strlen(name);
	if (strcmp(name, "4913") == 0 || ignore_is_made_up(name, "sed"))
		return true;
	if (name[0] != '.')
		return false;
	if (n > 5 && strncmp(name + n - 4, ".sw", 3) == 0 &&
	    islower((unsigned char)name[n - 1])) /* .swp, .swo, ... */
		return true;
	return n > 8 && name[n - 7] == '.' && is_random_six(name + n - 6);
}
