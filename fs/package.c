/* SPDX-License-Identifier: MIT */
/*
 * Walks a draft with descriptors only (openat, O_NOFOLLOW), so that no link leads out of it, and within limits of
 * depth, number and length. The names of a directory are read and sorted before it is gone through: two walks of the
 * same directory give the same list.
 */
#include "package.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "ignore.h"
#include "quote.h"
#include "str.h"
#include "submission.h"

struct names {
	char **name;
	size_t n, capacity;
};

struct walk {
	struct ignore *ignore;
	struct package_list *list; /* NULL: stop at the first file */
	struct str path;           /* of the directory being walked, "" for the root */
	size_t depth;
	struct fault *reterr;
};

/* Returned through a walk that looks for any file: there is one. */
enum { WALK_FOUND = 1 };

static void names_release(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->name[i]);
	free(names->name);
}
#define cleanup_names __attribute__((cleanup(names_release)))

static void walk_release(struct walk *walk)
{
	ignore_free(walk->ignore);
	str_release(&walk->path);
}
#define cleanup_walk __attribute__((cleanup(walk_release)))

void package_list_release(struct package_list *list)
{
	for (size_t i = 0; i < list->n_paths; i++)
		free(list->path[i]);
	free(list->path);
	free(list->is_dir);
	memset(list, 0, sizeof(*list));
}

static int names_add(struct names *names, const char *name)
{
	if (names->n == names->capacity) {
		size_t capacity = names->capacity ? 2 * names->capacity : 16;
		char **grown = reallocarray(names->name, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		names->name = grown;
		names->capacity = capacity;
	}
	names->name[names->n] = strdup(name);
	if (!names->name[names->n])
		return -ENOMEM;
	names->n++;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in the directory `fd` (not consumed), sorted; -E2BIG when there are more than may be. */
static int names_read(int fd, struct names *ret)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (copy < 0)
		return -errno;
	cleanup_closedir DIR *dir = fdopendir(copy);
	if (!dir) {
		int r = -errno;
		close(copy);
		return r;
	}
	struct dirent *entry;
	while ((errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (ret->n == PACKAGE_ENTRIES_MAX)
			return -E2BIG;
		int r = names_add(ret, entry->d_name);
		if (r < 0)
			return r;
	}
	if (errno != 0)
		return -errno;
	if (ret->n > 0)
		qsort(ret->name, ret->n, sizeof(*ret->name), compare_names);
	return 0;
}

static const char *walk_shown(const struct walk *walk, char shown[static QUOTE_MAX])
{
	return walk->path.len > 0 ? quote(walk->path.data, shown) : ".";
}

static int walk_fault(const struct walk *walk, const char *sentence)
{
	char shown[QUOTE_MAX];
	return fault_set(walk->reterr, EBADMSG, "`%s` in the package %s", walk_shown(walk, shown), sentence);
}

/* An errno of reading the draft, told; what is not the draft's fault stays what it is. */
static int walk_failed(const struct walk *walk, int err)
{
	char sentence[128];
	if (err == ENOMEM || err == EMFILE || err == ENFILE || err == EIO)
		return fault_set(walk->reterr, err, "the package cannot be read: %s", strerror(err));
	if (err == E2BIG)
		return fault_set(walk->reterr, EBADMSG, "the package has more than %d entries",
				 PACKAGE_ENTRIES_MAX);
	snprintf(sentence, sizeof(sentence), "cannot be read: %s", strerror(err));
	return walk_fault(walk, sentence);
}

static void list_note_size(struct package_list *list, const char *path, int64_t size_bytes)
{
	struct package_file file = {path, size_bytes};
	list->size_bytes += size_bytes;
	for (size_t i = 0; i < PACKAGE_LARGEST; i++) {
		if (list->largest[i].path && list->largest[i].size_bytes >= file.size_bytes)
			continue;
		struct package_file pushed = list->largest[i];
		list->largest[i] = file;
		file = pushed;
		if (!file.path)
			break;
	}
}

static int list_grow(struct package_list *list)
{
	if (list->n_paths < list->capacity)
		return 0;
	size_t capacity = list->capacity ? 2 * list->capacity : 64;
	char **path = reallocarray(list->path, capacity, sizeof(*path));
	if (!path)
		return -ENOMEM;
	list->path = path;
	bool *is_dir = reallocarray(list->is_dir, capacity, sizeof(*is_dir));
	if (!is_dir)
		return -ENOMEM;
	list->is_dir = is_dir;
	list->capacity = capacity;
	return 0;
}

static int walk_add(struct walk *walk, const struct stat *st)
{
	struct package_list *list = walk->list;
	if (list->n_paths == PACKAGE_ENTRIES_MAX)
		return walk_failed(walk, E2BIG);
	if (list_grow(list) < 0)
		return walk_failed(walk, ENOMEM);
	char *path = strdup(walk->path.data);
	if (!path)
		return walk_failed(walk, ENOMEM);
	list->path[list->n_paths] = path;
	list->is_dir[list->n_paths++] = S_ISDIR(st->st_mode);
	if (S_ISREG(st->st_mode))
		list_note_size(list, path, st->st_size);
	return 0;
}

static int walk_dir(struct walk *walk, int fd);

static int walk_subdir(struct walk *walk, int parent_fd, const char *name)
{
	if (walk->depth == PACKAGE_DEPTH_MAX)
		return walk_fault(walk, "is nested deeper than 256 directories");
	cleanup_close int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return walk_failed(walk, errno);
	walk->depth++;
	int r = walk_dir(walk, fd);
	walk->depth--;
	return r;
}

static const char *odd_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
		return NULL;
	case S_IFIFO:
		return "is a named pipe; a package holds files, directories and links";
	case S_IFSOCK:
		return "is a socket; a package holds files, directories and links";
	default:
		return "is a device; a package holds files, directories and links";
	}
}

/* walk->path names the entry. */
static int walk_entry(struct walk *walk, int fd, const char *name)
{
	struct stat st;
	bool is_ignored = false;
	if (walk->path.len > PACKAGE_PATH_MAX)
		return walk_fault(walk, "has a path longer than 3840 bytes");
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) <
	    0) /* gone meanwhile: a draft that is still written */
		return errno == ENOENT ? 0 : walk_failed(walk, errno);
	bool is_dir = S_ISDIR(st.st_mode);
	if (!is_dir && (ignore_is_passing_name(name) || strcmp(walk->path.data, SUBMISSION_ERROR) == 0))
		return 0;
	if (ignore_has(walk->ignore, walk->path.data, is_dir, &is_ignored) < 0)
		return walk_failed(walk, ENOMEM);
	if (is_ignored)
		return 0;
	if (!walk->list && !is_dir)
		return WALK_FOUND;
	const char *odd = odd_kind(st.st_mode);
	if (odd)
		return walk_fault(walk, odd);
	int r = walk->list ? walk_add(walk, &st) : 0;
	if (r < 0 || !is_dir)
		return r;
	return walk_subdir(walk, fd, name);
}

static int walk_dir(struct walk *walk, int fd)
{
	cleanup_names struct names names = {0};
	size_t len = walk->path.len;
	int r = names_read(fd, &names);
	if (r < 0)
		return walk_failed(walk, -r);
	for (size_t i = 0; i < names.n && r == 0; i++) {
		if (len > 0)
			(void)str_append(&walk->path, "/"); /* its error is sticky */
		if (str_append(&walk->path, names.name[i]) < 0)
			return walk_failed(walk, ENOMEM);
		r = walk_entry(walk, fd, names.name[i]);
		if (r == 0) {
			walk->path.len = len;
			walk->path.data[len] = '\0';
		}
	}
	return r;
}

static int walk_root(int dir_fd, struct package_list *list, struct fault *reterr)
{
	cleanup_walk struct walk walk = {.list = list, .reterr = reterr};
	int r = ignore_new(dir_fd, &walk.ignore, reterr);
	if (r < 0)
		return r;
	r = str_append(&walk.path, "");
	if (r < 0)
		return r;
	return walk_dir(&walk, dir_fd);
}

static const char *format_size(int64_t bytes, char ret[static 32])
{
	static const char *const unit[] = {"bytes", "kB", "MB", "GB", "TB", "PB", "EB"};
	double value = (double)bytes;
	size_t i = 0;
	for (; value >= 999.95 && i < 6; i++)
		value /= 1000;
	snprintf(ret, 32, i == 0 ? "%.0f %s" : "%.1f %s", value, unit[i]);
	return ret;
}

static int list_too_large(const struct package_list *list, int64_t max_bytes, struct fault *reterr)
{
	char text[FAULT_TEXT_MAX] = "", size[32], limit[32], shown[QUOTE_MAX];
	size_t used = 0;
	for (size_t i = 0; i < PACKAGE_LARGEST && list->largest[i].path; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s`%s` (%s)", i ? ", " : "",
					 quote(list->largest[i].path, shown),
					 format_size(list->largest[i].size_bytes, size));
	return fault_set(
		reterr, EFBIG,
		"the package holds %s, more than max_package (%s); the largest files are %s; leave them out "
		"by .trainfsignore, or name data in `inputs`",
		format_size(list->size_bytes, size), format_size(max_bytes, limit), text);
}

static void list_release_local(struct package_list *list)
{
	package_list_release(list);
}

int package_list_make(int dir_fd, int64_t max_bytes, struct package_list *ret, struct fault *reterr)
{
	__attribute__((cleanup(list_release_local))) struct package_list list = {0};
	int r = walk_root(dir_fd, &list, reterr);
	if (r < 0)
		return r;
	if (max_bytes > 0 && list.size_bytes > max_bytes)
		return list_too_large(&list, max_bytes, reterr);
	*ret = list;
	memset(&list, 0, sizeof(list));
	return 0;
}

bool package_is_empty(int dir_fd)
{
	return walk_root(dir_fd, NULL, NULL) == 0;
}

enum package_kind package_list_find(const struct package_list *list, const char *path)
{
	/* Not sorted as a whole: `a/b` comes before `a.c`, which strcmp has the other way round. */
	for (size_t i = 0; i < list->n_paths; i++)
		if (strcmp(list->path[i], path) == 0)
			return list->is_dir[i] ? PACKAGE_DIR : PACKAGE_FILE;
	return PACKAGE_NONE;
}
