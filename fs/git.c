/* SPDX-License-Identifier: MIT */
/*
 * Branch, commit and dirty of a package that came with its .git, through libgit2, which runs nothing. The repository
 * may be hostile: what libgit2 would open without looking (a pipe blocks, an include leads anywhere) is looked for
 * before, and then nothing is said about git at all.
 */
#include "git.h"

#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "ignore.h"
#include "submission.h"

enum { GIT_DEPTH_MAX = 64, GIT_ENTRIES_MAX = 2000000, GIT_CONFIG_MAX = 256 << 10 };

#define GIT_TREE_MAX ((size_t)64 << 20)

/* ---- a look before libgit2's */

struct look {
	size_t n_entries;
	size_t depth;
};

/* Files that libgit2 reads in a work tree, whatever they are. */
static bool is_git_name(const char *name)
{
	return strncasecmp(name, ".git", 4) == 0;
}

static bool look_dir(struct look *look, int parent_fd, const char *name, bool is_in_git);

static bool look_entry(struct look *look, int fd, const char *name, bool is_in_git)
{
	struct stat st;
	if (++look->n_entries > GIT_ENTRIES_MAX || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (S_ISREG(st.st_mode))
		return true;
	if (S_ISLNK(st.st_mode))
		return !is_in_git && !is_git_name(name);
	return S_ISDIR(st.st_mode) && look_dir(look, fd, name, is_in_git || is_git_name(name));
}

/* Is there nothing but files and directories, and outside of .git harmless links? */
static bool look_dir(struct look *look, int parent_fd, const char *name, bool is_in_git)
{
	if (look->depth == GIT_DEPTH_MAX)
		return false;
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	cleanup_closedir DIR *dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return false;
	}
	bool is_tame = true;
	struct dirent *entry;
	look->depth++;
	while (is_tame && (errno = 0, entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			is_tame = look_entry(look, fd, entry->d_name, is_in_git);
	look->depth--;
	return is_tame && errno == 0;
}

/* Does the word stand where a section or a setting is named? Names of branches and URLs may hold it. */
static bool config_has(const char *text, const char *word)
{
	for (const char *at = text; (at = strcasestr(at, word)); at++)
		if (at == text || strchr("\n\r\t\v\f []", at[-1]))
			return true;
	return false;
}

/* Settings that make libgit2 read files elsewhere, or take another directory for the work tree. */
static bool config_is_tame(int dir_fd)
{
	static const char *const words[] = {"include", "worktree", "excludesfile", "attributesfile"};
	cleanup_free char *text = malloc(GIT_CONFIG_MAX + 1);
	cleanup_close int fd = openat(dir_fd, ".git/config", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	size_t n = 0;
	ssize_t got = 1;
	if (fd < 0 || !text)
		return false;
	while (n < GIT_CONFIG_MAX && (got = read(fd, text + n, GIT_CONFIG_MAX - n)) > 0)
		n += (size_t)got;
	if (got != 0 || memchr(text, '\0', n))
		return false;
	text[n] = '\0';
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (config_has(text, words[i]))
			return false;
	return !strstr(text, "\\\n"); /* a name over two lines is nobody's honest wish */
}

bool git_is_tame(int dir_fd)
{
	static const char *const elsewhere[] = {".git/commondir", ".git/gitdir",
						".git/objects/info/alternates", ".git/config.worktree"};
	struct look look = {0};
	struct stat st;
	if (fstatat(dir_fd, ".git", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return false;
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(*elsewhere); i++)
		if (fstatat(dir_fd, elsewhere[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			return false;
	return config_is_tame(dir_fd) && look_dir(&look, dir_fd, ".", false);
}

/* ---- the facts */

struct repository {
	git_repository *git;
	git_reference *head;
	git_commit *commit;
	git_tree *tree;
	git_odb *odb;
};

static void repository_release(struct repository *repository)
{
	git_odb_free(repository->odb);
	git_tree_free(repository->tree);
	git_commit_free(repository->commit);
	git_reference_free(repository->head);
	git_repository_free(repository->git);
}
#define cleanup_repository __attribute__((cleanup(repository_release)))

/* Is the object as small as a tree or commit should be? Its header says so before it is unpacked. */
static bool is_small(struct repository *repository, const git_oid *id)
{
	size_t size;
	git_object_t type;
	return git_odb_read_header(&size, &type, repository->odb, id) == 0 && size <= GIT_TREE_MAX;
}

struct tree_walk {
	struct repository *repository;
	size_t n_trees;
};

/* Called before libgit2 opens each tree below; a negative return ends the walk. */
static int check_tree_entry(const char *root, const git_tree_entry *entry, void *payload)
{
	struct tree_walk *walk = payload;
	if (git_tree_entry_type(entry) != GIT_OBJECT_TREE)
		return 0;
	if (++walk->n_trees > GIT_ENTRIES_MAX || strlen(root) > 4096)
		return -1;
	return is_small(walk->repository, git_tree_entry_id(entry)) ? 0 : -1;
}

/* Stops at the first change; our own .error is none. */
static int see_change(const char *path, unsigned int flags, void *payload)
{
	bool *is_dirty = payload;
	if (flags == GIT_STATUS_CURRENT || (flags & GIT_STATUS_IGNORED) ||
	    strcmp(path, SUBMISSION_ERROR) == 0)
		return 0;
	*is_dirty = true;
	return 1;
}

static int read_dirty(struct repository *repository, bool *ret)
{
	git_status_options options = GIT_STATUS_OPTIONS_INIT;
	options.show = GIT_STATUS_SHOW_INDEX_AND_WORKDIR;
	options.flags = GIT_STATUS_OPT_INCLUDE_UNTRACKED | GIT_STATUS_OPT_EXCLUDE_SUBMODULES;
	*ret = false;
	int r = git_status_foreach_ext(repository->git, &options, see_change, ret);
	return r < 0 ? -EBADMSG : 0;
}

/* Opens HEAD's commit and tree, as far as there are some; a repository without a commit has none. */
static int open_head(struct repository *repository)
{
	if (git_repository_odb(&repository->odb, repository->git) != 0)
		return -EBADMSG;
	int r = git_repository_head(&repository->head, repository->git);
	if (r == GIT_EUNBORNBRANCH || r == GIT_ENOTFOUND)
		return 0;
	const git_oid *id = r == 0 ? git_reference_target(repository->head) : NULL;
	if (!id || !is_small(repository, id) ||
	    git_commit_lookup(&repository->commit, repository->git, id) != 0)
		return -EBADMSG;
	if (!is_small(repository, git_commit_tree_id(repository->commit)) ||
	    git_commit_tree(&repository->tree, repository->commit) != 0)
		return -EBADMSG;
	struct tree_walk walk = {.repository = repository};
	return git_tree_walk(repository->tree, GIT_TREEWALK_PRE, check_tree_entry, &walk) < 0 ? -EBADMSG : 0;
}

/* The name of the branch; **new**, null when HEAD is detached or the name is no text. */
static json_t *branch_name(struct repository *repository)
{
	json_t *name = NULL;
	git_reference *head = NULL;
	if (git_repository_head_detached(repository->git) == 1)
		return json_null();
	if (git_reference_lookup(&head, repository->git, "HEAD") == 0 &&
	    git_reference_type(head) == GIT_REFERENCE_SYMBOLIC) {
		const char *target = git_reference_symbolic_target(head);
		name = json_string(strncmp(target, "refs/heads/", 11) == 0 ? target + 11 : target);
	}
	git_reference_free(head);
	return name ? name : json_null();
}

static json_t *commit_name(struct repository *repository)
{
	char hex[GIT_OID_HEXSZ + 1];
	if (!repository->commit)
		return json_null();
	return json_string(git_oid_tostr(hex, sizeof(hex), git_commit_id(repository->commit)));
}

static int read_facts(const char *root, char **ret)
{
	cleanup_repository struct repository repository = {0};
	bool is_dirty;
	if (git_repository_open_ext(&repository.git, root, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL) != 0)
		return -EBADMSG;
	if (git_repository_is_bare(repository.git))
		return -EBADMSG;
	int r = open_head(&repository);
	if (r < 0)
		return r;
	r = read_dirty(&repository, &is_dirty);
	if (r < 0)
		return r;
	cleanup_json json_t *facts = json_pack("{s:o, s:o, s:b}", "branch", branch_name(&repository),
					       "commit", commit_name(&repository), "dirty", is_dirty);
	*ret = facts ? json_dumps(facts, JSON_COMPACT) : NULL;
	return *ret ? 0 : -ENOMEM;
}

int submission_git(const char *root, char **ret)
{
	char *facts = NULL;
	cleanup_close int fd = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = git_is_tame(fd) ? ignore_init_git() : -EBADMSG;
	if (r == 0)
		r = read_facts(root, &facts);
	if (r < 0 && r != -EBADMSG)
		return r;
	*ret = facts; /* NULL: a repository that cannot be read says nothing; it is no reason to refuse the job */
	return 0;
}
