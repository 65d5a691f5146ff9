/* SPDX-License-Identifier: MIT */
/*
 * kind_disk: a directory of this machine in the tree, served by *at() calls on O_PATH descriptors. Nothing here waits
 * for anything but the local disk, so it all runs on the worker.
 */
#include "disk.h"

#include "cleanup.h"
#include "drafts.h"
#include "inode.h"
#include "kinds.h"
#include "remote.h"
#include "serve_private.h"
#include "submission.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

enum { BLOCK_SIZE = 4096 };

struct disk_file *disk_file_of(const struct node *n)
{
	return n->obj;
}

static void disk_root_unref(struct disk_root *root)
{
	if (--root->n_refs == 0)
		free(root);
}

static void disk_drop(void *obj)
{
	struct disk_file *file = obj;
	if (!file)
		return;
	if (file->fd >= 0)
		close(file->fd);
	disk_root_unref(file->root);
	free(file);
}

static uint64_t disk_hash(const void *obj)
{
	const struct disk_file *file = obj;
	uint64_t hash = str_hash(STR_HASH_START, &file->dev, sizeof(file->dev));
	return str_hash(hash, &file->ino, sizeof(file->ino));
}

static bool disk_same(const void *a, const void *b)
{
	const struct disk_file *x = a, *y = b;
	return x->dev == y->dev && x->ino == y->ino && x->root->draft == y->root->draft &&
	       x->root->is_read_only == y->root->is_read_only;
}

static uint64_t disk_ino(const struct node *n)
{
	return disk_hash(n->obj);
}

/* References root. */
static int file_of(int fd, const struct stat *st, struct disk_root *root, struct disk_file **ret)
{
	struct disk_file *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	*file = (struct disk_file){
		.fd = fd, .dev = st->st_dev, .ino = st->st_ino, .type = st->st_mode & S_IFMT, .root = root};
	root->n_refs++;
	*ret = file;
	return 0;
}

/* Takes fd over, also on failure; references root. */
static int file_new(int fd, struct disk_root *root, struct disk_file **ret)
{
	struct stat st;
	int r = fd < 0 || fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	if (r == 0)
		r = file_of(fd, &st, root, ret);
	if (r < 0 && fd >= 0)
		close(fd);
	return r;
}

static int file_find(const struct disk_file *parent, const char *name, struct disk_file **ret)
{
	struct stat st;
	if (parent->root->is_read_only) {
		if (fstatat(parent->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (!S_ISDIR(st.st_mode))
			return file_of(-1, &st, parent->root, ret);
	}
	return file_new(openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), parent->root, ret);
}

/* For *at() calls with AT_EMPTY_PATH. Where files are found by name, parent and name never change. */
static int file_at(const struct node *n, const char **ret_name)
{
	const struct disk_file *file = disk_file_of(n);
	*ret_name = file->fd >= 0 ? "" : n->name;
	return file->fd >= 0 ? file->fd : disk_file_of(n->parent)->fd;
}

int disk_top(int fd, const struct disk_root *properties, struct remote *remote, struct child *ret)
{
	struct disk_root *root = malloc(sizeof(*root));
	struct disk_file *file;
	if (!root) {
		close(fd);
		return -ENOMEM;
	}
	*root = *properties;
	root->n_refs = 1;
	int r = file_new(fd, root, &file);
	disk_root_unref(root);
	if (r < 0)
		return r;
	file->is_top = true;
	*ret = (struct child){.kind = &kind_disk, .remote = remote, .obj = file, .type = S_IFDIR};
	return 0;
}

static int child_of(const struct node *dir, const char *name, struct child *ret)
{
	struct disk_file *file;
	int r = file_find(disk_file_of(dir), name, &file);
	if (r < 0)
		return r;
	file->is_verdict =
		disk_file_of(dir)->is_top && file->root->draft && strcmp(name, SUBMISSION_ERROR) == 0;
	*ret = (struct child){.kind = &kind_disk, .remote = dir->remote, .obj = file, .type = file->type};
	return 0;
}

/* ---- changes ---- */

static int change_begin(struct call *c, const struct node *n)
{
	const struct disk_root *root = disk_file_of(n)->root;
	if (root->is_read_only)
		return fault_set(&c->fault, root->refusal_err, "%s", root->refusal);
	return root->draft ? draft_change_begin(c, root->draft) : 0;
}

static void change_end(const struct node *n, int result)
{
	const struct disk_root *root = disk_file_of(n)->root;
	if (root->draft)
		draft_change_end(root->draft, result);
}

/*
 * The kernel has taken the caller's umask off a mode; ours must not come on top. While a name is made it is lifted, for
 * this thread alone: others make files that nobody else shall read. Where a thread cannot have a umask of its own, ours
 * stays as it is.
 */
static mode_t swap_umask(mode_t mask)
{
	static _Thread_local enum { UNASKED, OWN, SHARED } umask_is;
	if (umask_is == UNASKED)
		umask_is = unshare(CLONE_FS) < 0 ? SHARED : OWN;
	return umask_is == OWN ? umask(mask) : mask;
}

/*
 * Who mounts as root for others lets them own what they make, but for the group where the directory gives its own.
 * Failing to is no reason to fail.
 */
static void give_to_caller(const struct call *c, int dirfd, const char *name)
{
	struct stat dir;
	if (geteuid() != 0 || (c->uid == 0 && c->gid == 0) || fstat(dirfd, &dir) < 0)
		return;
	gid_t gid = dir.st_mode & S_ISGID ? (gid_t)-1 : c->gid;
	(void)!fchownat(dirfd, name, c->uid, gid, AT_SYMLINK_NOFOLLOW);
}

/* The end of every call that makes a name: the result r, and the new child. */
static int made(struct call *c, struct node *dir, const char *name, int r, struct child *ret)
{
	if (r < 0)
		r = -errno;
	if (r == 0) {
		give_to_caller(c, disk_file_of(dir)->fd, name);
		r = child_of(dir, name, ret);
	}
	change_end(dir, r);
	return r;
}

static int disk_mkdir(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret)
{
	int r = change_begin(c, dir);
	if (r < 0)
		return r;
	mode_t own = swap_umask(0);
	r = mkdirat(disk_file_of(dir)->fd, name, mode);
	(void)swap_umask(own);
	return made(c, dir, name, r, ret);
}

static int disk_mknod(struct call *c, struct node *dir, const char *name, mode_t mode, dev_t rdev,
		      struct child *ret)
{
	int r = change_begin(c, dir);
	if (r < 0)
		return r;
	mode_t own = swap_umask(0);
	r = mknodat(disk_file_of(dir)->fd, name, mode, rdev);
	(void)swap_umask(own);
	return made(c, dir, name, r, ret);
}

static int disk_symlink(struct call *c, struct node *dir, const char *name, const char *target,
			struct child *ret)
{
	int r = change_begin(c, dir);
	return r < 0 ? r : made(c, dir, name, symlinkat(target, disk_file_of(dir)->fd, name), ret);
}

static void fd_path(int fd, char ret[static 32])
{
	snprintf(ret, 32, "/proc/self/fd/%d", fd);
}

static int disk_link(struct call *c, struct node *from, struct node *dir, const char *name, struct child *ret)
{
	char path[32];
	if (from->kind != &kind_disk || disk_file_of(from)->root->draft != disk_file_of(dir)->root->draft ||
	    disk_file_of(from)->root->is_read_only)
		return -EXDEV;
	int r = change_begin(c, dir);
	if (r < 0)
		return r;
	fd_path(disk_file_of(from)->fd, path);
	r = linkat(AT_FDCWD, path, disk_file_of(dir)->fd, name, AT_SYMLINK_FOLLOW);
	if (r < 0)
		r = -errno;
	if (r == 0)
		r = child_of(dir, name, ret);
	change_end(dir, r);
	return r;
}

/*
 * What is left of a caller's flags for the file on disk. The kernel sends offsets for O_APPEND and has followed links
 * itself; the bytes that it hands over are not aligned as O_DIRECT demands.
 */
static int disk_flags(int flags)
{
	return (flags & ~(O_APPEND | O_DIRECT | O_NOATIME | O_NOFOLLOW | O_CREAT | O_EXCL)) | O_CLOEXEC;
}

static int disk_create(struct call *c, struct node *dir, const char *name, mode_t mode, int flags,
		       struct child *ret, int *ret_fd)
{
	int r = change_begin(c, dir);
	if (r < 0)
		return r;
	mode_t own = swap_umask(0);
	cleanup_close int fd =
		openat(disk_file_of(dir)->fd, name, disk_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	(void)swap_umask(own);
	if (fd < 0 && errno == EEXIST && !(flags & O_EXCL))
		errno = ESTALE; /* made meanwhile beside the mount: the kernel looks again, and at its mode */
	r = made(c, dir, name, fd < 0 ? -1 : 0, ret);
	if (r == 0)
		*ret_fd = STEAL_FD(fd);
	return r;
}

static int remove_name(struct call *c, struct node *dir, const char *name, int flags)
{
	int r = change_begin(c, dir);
	if (r < 0)
		return r;
	r = unlinkat(disk_file_of(dir)->fd, name, flags) < 0 ? -errno : 0;
	change_end(dir, r);
	return r;
}

static int disk_unlink(struct call *c, struct node *dir, const char *name)
{
	return remove_name(c, dir, name, 0);
}

static int disk_rmdir(struct call *c, struct node *dir, const char *name)
{
	return remove_name(c, dir, name, AT_REMOVEDIR);
}

int disk_rename(int dir, const char *name, int newdir, const char *newname, unsigned flags)
{
	return renameat2(dir, name, newdir, newname, flags) < 0 ? -errno : 0;
}

/* So that messages name the new place. */
static void follow_move(struct node *newdir, const char *newname)
{
	struct inode_table *table = newdir->remote->serve->table;
	struct child child;
	if (child_of(newdir, newname, &child) < 0)
		return;
	struct node *n = inode_find(table, &kind_disk, child.obj, 0, newname);
	if (n && n != newdir)
		inode_moved(table, n, newdir, newname);
	inode_unref(table, n);
	disk_drop(child.obj);
}

static int disk_rename_op(struct call *c, struct node *dir, const char *name, struct node *newdir,
			  const char *newname, unsigned flags)
{
	if (newdir->kind != &kind_disk || disk_file_of(newdir)->dev != disk_file_of(dir)->dev)
		return -EXDEV;
	const struct draft *from = disk_file_of(dir)->root->draft, *to = disk_file_of(newdir)->root->draft;
	if (!from != !to)
		return -EXDEV; /* between a draft and a bucket */
	int r = change_begin(c, dir);
	if (r < 0)
		return r;
	r = from == to ? 0 : change_begin(c, newdir);
	if (r == 0) {
		r = disk_rename(disk_file_of(dir)->fd, name, disk_file_of(newdir)->fd, newname, flags);
		if (from != to)
			change_end(newdir, r);
	}
	change_end(dir, r);
	if (r == 0)
		follow_move(newdir, newname);
	return r;
}

/* ---- attributes ---- */

static int disk_getattr(struct call *c, struct node *n, struct attr *ret)
{
	const struct disk_file *file = disk_file_of(n);
	const char *name;
	int at = file_at(n, &name);
	if (fstatat(at, name, &ret->st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	ret->st.st_ino = n->ino;
	ret->st.st_blksize = BLOCK_SIZE;
	bool is_told = file->root->is_shared || file->is_verdict; /* others change it */
	ret->attr_ttl = is_told ? TTL_NONE : TTL_FIXED;
	if (is_told || (file->is_top && !file->root->is_lasting))
		ret->entry_ttl = TTL_NONE;
	else
		ret->entry_ttl = file->is_top ? TTL_LISTED : TTL_FIXED;
	return 0;
}

static enum ttl disk_missing_ttl(const struct node *dir)
{
	return TTL_NONE; /* somebody may be writing here */
}

static int set_size(const struct disk_file *file, const struct handle *h, off_t size)
{
	char path[32];
	if (h && h->fd >= 0)
		return ftruncate(h->fd, size) < 0 ? -errno : 0;
	fd_path(file->fd, path);
	return truncate(path, size) < 0 ? -errno : 0;
}

static int set_times(const struct disk_file *file, const struct stat *st, int to_set)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		t[0].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		t[0] = st->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		t[1].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		t[1] = st->st_mtim;
	return utimensat(file->fd, "", t, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int set_owner(const struct disk_file *file, const struct stat *st, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? st->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? st->st_gid : (gid_t)-1;
	return fchownat(file->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int set_mode(const struct disk_file *file, mode_t mode)
{
	char path[32];
	fd_path(file->fd, path);
	return chmod(path, mode) < 0 ? -errno : 0;
}

enum {
	SET_TIMES =
		FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW,
	SET_OWNER = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID
};

static int disk_setattr(struct call *c, struct node *n, struct handle *h, const struct stat *st, int to_set,
			struct attr *ret)
{
	const struct disk_file *file = disk_file_of(n);
	int r = change_begin(c, n);
	if (r < 0)
		return r;
	if (to_set & FUSE_SET_ATTR_MODE)
		r = set_mode(file, st->st_mode);
	if (r == 0 && to_set & SET_OWNER)
		r = set_owner(file, st, to_set);
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(file, h, st->st_size);
	if (r == 0 && to_set & SET_TIMES)
		r = set_times(file, st, to_set);
	change_end(n, r);
	return r < 0 ? r : disk_getattr(c, n, ret);
}

/* ---- directories ---- */

static int disk_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	return child_of(dir, name, ret);
}

static int disk_list(struct call *c, struct node *dir, struct listing *ret)
{
	cleanup_close int fd = openat(disk_file_of(dir)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_closedir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -errno;
	fd = -1;
	for (;;) {
		errno = 0;
		const struct dirent *e = readdir(d);
		if (!e)
			return -errno;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		struct child child = {.kind = &kind_disk, .remote = dir->remote, .type = DTTOIF(e->d_type)};
		int r = listing_add(ret, e->d_name, &child);
		if (r < 0)
			return r;
	}
}

static int disk_fsyncdir(struct call *c, struct node *dir)
{
	const struct disk_file *file = disk_file_of(dir);
	if (file->is_top && file->root->draft)
		return draft_sync(c, file->root->draft);
	cleanup_close int fd = openat(file->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int disk_readlink(struct call *c, struct node *n, char **ret)
{
	char target[4096];
	const char *name;
	int at = file_at(n, &name);
	ssize_t len = readlinkat(at, name, target, sizeof(target));
	if (len < 0)
		return -errno;
	*ret = strndup(target, len);
	return *ret ? 0 : -ENOMEM;
}

/* ---- files ---- */

static int disk_open(struct call *c, struct node *n, int flags, struct handle *h)
{
	char path[32];
	const struct disk_file *file = disk_file_of(n);
	bool is_change = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
	int r = is_change ? change_begin(c, n) : 0;
	if (r < 0)
		return r;
	fd_path(file->fd, path);
	flags = disk_flags(flags);
	if (file->fd >= 0)
		h->fd = open(path, flags);
	else
		h->fd = openat(disk_file_of(n->parent)->fd, n->name, flags | O_NOFOLLOW);
	r = h->fd < 0 ? -errno : 0;
	if (is_change)
		change_end(n, r);
	h->mode = file->root->is_shared ? OPEN_CACHED : OPEN_KEEP;
	return r;
}

static ssize_t disk_read(struct call *c, struct handle *h, char *buf, size_t size, off_t offset)
{
	ssize_t n = pread(h->fd, buf, size, offset);
	return n < 0 ? -errno : n;
}

static ssize_t disk_write(struct call *c, struct handle *h, const char *buf, size_t size, off_t offset)
{
	int r = change_begin(c, h->node);
	if (r < 0)
		return r;
	ssize_t n = pwrite(h->fd, buf, size, offset);
	if (n < 0)
		n = -errno;
	change_end(h->node, n < 0 ? (int)n : 0);
	return n;
}

static int disk_fsync(struct call *c, struct handle *h, bool data_only)
{
	return (data_only ? fdatasync(h->fd) : fsync(h->fd)) < 0 ? -errno : 0;
}

/* Why a draft was refused: of its top directory. */
static int disk_xattrs(struct call *c, struct node *n, const char *name, json_t *ret)
{
	const struct disk_file *file = disk_file_of(n);
	cleanup_str struct str text = {0};
	int r = file->is_top && file->root->draft ? draft_verdict(file->root->draft, &text) : -ENODATA;
	if (r < 0)
		return r == -ENODATA ? 0 : r;
	return json_object_set_new(ret, "error", json_string_nocheck(text.data)) < 0 ? -ENOMEM : 0;
}

/* What nobody changes may be kept; of the rest the disk is as quick. */
static enum open_mode disk_entries_mode(struct node *dir)
{
	const struct disk_root *root = disk_file_of(dir)->root;
	return root->is_read_only && !root->draft ? OPEN_KEEP : OPEN_DIRECT;
}

const struct node_kind kind_disk = {
	.entries_mode = disk_entries_mode,
	.name = "disk",
	.xattrs = disk_xattrs,
	.getattr = disk_getattr,
	.hash = disk_hash,
	.same = disk_same,
	.ino = disk_ino,
	.drop = disk_drop,
	.setattr = disk_setattr,
	.lookup = disk_lookup,
	.list = disk_list,
	.missing_ttl = disk_missing_ttl,
	.mkdir = disk_mkdir,
	.rmdir = disk_rmdir,
	.unlink = disk_unlink,
	.symlink = disk_symlink,
	.mknod = disk_mknod,
	.create = disk_create,
	.link = disk_link,
	.rename = disk_rename_op,
	.fsyncdir = disk_fsyncdir,
	.readlink = disk_readlink,
	.open = disk_open,
	.read = disk_read,
	.write = disk_write,
	.fsync = disk_fsync,
};
