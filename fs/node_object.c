/* SPDX-License-Identifier: MIT */
/*
 * Objects as files. When somebody else has changed an object that is open here, that file is stale, and all its handles
 * with it; another file, with another number for the kernel, takes the key. What is written goes to the file's spool, which all its handles share.
 */
#include "node_object.h"

#include "cleanup.h"
#include "kinds.h"
#include "objects.h"
#include "reader.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { BLOCK_SIZE = 1 << 20 };

struct object_handle {
	struct reader *reader; /* NULL: opened for writing only */
	unsigned n_flushes;    /* protected by the objects' lock */
};

static struct object_file *file_of(const struct node *n)
{
	return n->obj;
}

static uint64_t file_ino(const struct node *n)
{
	return file_of(n)->ino; /* asked once, while it is new */
}

static void file_drop(void *obj)
{
	if (obj)
		object_file_unref(obj);
}

/* ---- attributes ---- */

static void fill_stat_locked(struct object_file *file, struct stat *st)
{
	int64_t size = file->size_bytes, ns = file->changed_ns;
	struct stat own;
	const struct spool *spool = file->spool;
	if (spool && (spool->is_dirty || file->is_gone) && fstat(spool->fd, &own) == 0) {
		size = own.st_size;
		ns = own.st_mtim.tv_sec * INT64_C(1000000000) + own.st_mtim.tv_nsec;
	}
	st->st_ino = file->ino;
	st->st_blksize = BLOCK_SIZE;
	st->st_nlink = !file->is_gone;
	st->st_atim = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	st->st_mtim = st->st_ctim = st->st_atim;
	node_set_size(st, size);
	file->told_content = file->content;
}

static int file_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct object_file *file = file_of(n);
	int r = object_file_fresh(c, file);
	LOCK_SCOPE(&file->objects->lock);
	if (r == -ENOENT && file->n_open > 0)
		r = 0; /* who has it open may look at it */
	if (r < 0)
		return r;
	node_stat(c, n, 0644, 0, &ret->st);
	fill_stat_locked(file, &ret->st);
	ret->attr_ttl = ret->entry_ttl = objects_ttl(file->objects);
	return 0;
}

/* ---- handles ---- */

static struct object_handle *handle_of(const struct handle *h)
{
	return h->state;
}

static int check_locked(struct call *c, const struct handle *h)
{
	return object_file_check_locked(c, file_of(h->node));
}

static int check(struct call *c, const struct handle *h)
{
	LOCK_SCOPE(&file_of(h->node)->objects->lock);
	return check_locked(c, h);
}

/* An empty spool, in the place of what there is. That is nothing written yet: `> f` closes a copy before it writes. */
static int empty(struct call *c, struct object_file *file)
{
	struct objects *objects = file->objects;
	cleanup_free char *version = NULL;
	{
		LOCK_SCOPE(&objects->lock);
		if (!file->spool)
			version = strdup(file->version ? file->version : "");
	}
	if (version)
		return spool_make(file, version, &c->fault);
	int r = spool_truncate(c, file, 0);
	LOCK_SCOPE(&objects->lock);
	if (r == 0 && file->spool && !file->spool->is_uploading)
		file->spool->has_bytes = false;
	return r;
}

static int make_handle_locked(struct object_file *file, int flags, struct handle *h)
{
	struct object_handle *own = calloc(1, sizeof(*own));
	reader_drop_wrong_locked(file);
	bool is_kept = file->cached_content == file->content;
	if (!own)
		return -ENOMEM;
	int r = (flags & O_ACCMODE) == O_WRONLY ? 0 : reader_new_locked(file, !is_kept, &own->reader);
	if (r < 0) {
		free(own);
		return r;
	}
	file->cached_content = file->content;
	h->mode = is_kept ? OPEN_KEEP : OPEN_CACHED;
	h->state = own;
	return 0;
}

/* Somebody is at work on it: its spool stays, and is not sent by itself. */
static void enter(struct object_file *file)
{
	LOCK_SCOPE(&file->objects->lock);
	file->n_open++;
}

static void leave(struct object_file *file)
{
	LOCK_SCOPE(&file->objects->lock);
	file->n_open--;
	spool_closed_locked(file);
}

static int file_open(struct call *c, struct node *n, int flags, struct handle *h)
{
	struct object_file *file = file_of(n);
	bool is_old = false;
	int r = object_file_fresh(c, file);
	if (r < 0)
		return r;
	enter(file);
	if (flags & O_TRUNC && (flags & O_ACCMODE) != O_RDONLY)
		r = empty(c, file);
	if (r == 0) {
		LOCK_SCOPE(&file->objects->lock);
		is_old = file->told_content && file->told_content != file->content;
		r = file->is_stale ? -ESTALE : make_handle_locked(file, flags, h);
	}
	if (r < 0)
		leave(file);
	else if (is_old) /* the size that the kernel believes */
		notify_attr_now(c->serve->notify, n);
	return r;
}

static void file_release(struct handle *h)
{
	struct object_file *file = file_of(h->node);
	struct object_handle *own = STEAL(h->state);
	if (!own)
		return;
	reader_close(own->reader);
	free(own);
	leave(file);
}

/* ---- bytes ---- */

/* Of what was written here; -1: the service has it. */
static int spool_fd(struct call *c, const struct handle *h, int *ret)
{
	const struct object_file *file = file_of(h->node);
	LOCK_SCOPE(&file->objects->lock);
	int r = check_locked(c, h);
	if (r == 0) /* it stays while the file is open */
		*ret = file->spool && !file->spool->is_filling ? file->spool->fd : -1;
	return r;
}

static ssize_t file_lend(struct call *c, struct handle *h, size_t size, off_t offset, struct loan **ret)
{
	struct object_handle *own = handle_of(h);
	int fd = -1, r = spool_fd(c, h, &fd);
	if (r < 0)
		return r;
	if (fd >= 0)
		return -EOPNOTSUPP;
	return own->reader ? reader_lend(c, own->reader, size, offset, ret) : -EBADF;
}

static ssize_t file_read(struct call *c, struct handle *h, char *buf, size_t size, off_t offset)
{
	int fd = -1, r = spool_fd(c, h, &fd);
	if (r < 0 || fd < 0) /* it has gone since it was to be read from there: replaced by a copy */
		return r < 0 ? r : -EIO;
	ssize_t n = pread(fd, buf, size, offset);
	return n < 0 ? -errno : n;
}

static ssize_t file_write(struct call *c, struct handle *h, const char *buf, size_t size, off_t offset)
{
	int r = check(c, h);
	return r < 0 ? r : spool_write(c, file_of(h->node), buf, size, offset);
}

static int deliver(struct call *c, struct handle *h)
{
	int r = check(c, h);
	return r < 0 ? r : spool_deliver(c, file_of(h->node));
}

static int file_fsync(struct call *c, struct handle *h, bool data_only)
{
	int r = deliver(c, h);
	return r < 0 ? r : renames_wait(c, file_of(h->node));
}

/* The first close of a file that nothing was written to yet may be that of a copy of its descriptor. */
static int file_flush(struct call *c, struct handle *h)
{
	struct object_file *file = file_of(h->node);
	if ((h->flags & O_ACCMODE) == O_RDONLY)
		return 0;
	{
		LOCK_SCOPE(&file->objects->lock);
		const struct spool *spool = file->spool;
		if (spool && !spool->has_bytes && handle_of(h)->n_flushes++ == 0)
			return 0;
	}
	return deliver(c, h);
}

/* ---- changes of attributes ---- */

static bool has_size(struct object_file *file, off_t size)
{
	struct stat st = {0};
	LOCK_SCOPE(&file->objects->lock);
	if (file->spool && (file->spool->is_dirty || file->spool->is_filling))
		return false;
	fill_stat_locked(file, &st);
	return st.st_size == size;
}

/* Without a handle nobody will close it: it is delivered at once. */
static int set_size(struct call *c, struct object_file *file, const struct handle *h, off_t size)
{
	int r = h ? check(c, h) : object_file_fresh(c, file);
	if (r < 0 || (!h && has_size(file, size)))
		return r;
	bool is_pending;
	{
		LOCK_SCOPE(&file->objects->lock);
		struct stat st = {0};
		fill_stat_locked(file, &st);
		is_pending = !h && file->spool && file->spool->is_dirty && st.st_size == size;
	}
	if (!is_pending)
		r = spool_truncate(c, file, size);
	return r == 0 && !h ? spool_deliver(c, file) : r;
}

/*
 * Modes, owners and times are accepted, and stay as they are (else root's rsync -a and tar x would fail for each file): the
 * service has no modes and owners, and times of its own.
 */
static int file_setattr(struct call *c, struct node *n, struct handle *h, const struct stat *st, int to_set,
			struct attr *ret)
{
	int r = to_set & FUSE_SET_ATTR_SIZE ? set_size(c, file_of(n), h, st->st_size) : 0;
	return r < 0 ? r : file_getattr(c, n, ret);
}

/* ---- copies ---- */

/* May the service copy, from where, and over what? -EXDEV: no. Who else has the target open shall see the same bytes. */
static int may_copy_locked(const struct object_file *from, const struct object_file *to, off_t from_at,
			   off_t to_at, size_t len)
{
	bool is_whole = from_at == 0 && to_at == 0 && (int64_t)len >= from->size_bytes;
	bool is_clean = from->version && !from->spool && to->spool && !to->spool->has_bytes &&
			!to->spool->is_uploading && !to->spool->n_writers && to->n_open == 1;
	return is_whole && is_clean && from != to && from->objects == to->objects && !renames_hold_locked(to)
		       ? 0
		       : -EXDEV;
}

struct copy {
	char *bucket, *key, *version, *to_bucket, *to_key, *if_version;
};

static void copy_release(struct copy *copy)
{
	free(copy->bucket);
	free(copy->key);
	free(copy->version);
	free(copy->to_bucket);
	free(copy->to_key);
	free(copy->if_version);
}

static int copy_done(struct object_file *to, const struct object_detail *detail)
{
	LOCK_SCOPE(&to->objects->lock);
	if (!to->spool || to->spool->has_bytes)
		return -EBUSY;
	to->spool->is_dirty = false;
	spool_drop_locked(to);
	int r = object_file_set_locked(to, detail->version, detail->size_bytes, detail->changed_ns, true);
	objects_note_put_locked(to->objects, to->bucket, to->key, detail->version, detail->size_bytes,
				detail->changed_ns);
	return r;
}

/* The reader of the handle that copies was made for an empty file. */
static void renew_reader(struct handle *h)
{
	struct object_file *file = file_of(h->node);
	struct object_handle *own = handle_of(h);
	struct reader *fresh = NULL, *old = NULL;
	{
		LOCK_SCOPE(&file->objects->lock);
		if (own->reader && reader_new_locked(file, false, &fresh) == 0) {
			old = own->reader;
			own->reader = fresh;
		}
	}
	reader_close(old);
}

ssize_t object_copy_range(struct call *c, struct handle *from, off_t from_at, struct handle *to, off_t to_at,
			  size_t len)
{
	struct object_file *source = file_of(from->node), *target = file_of(to->node);
	__attribute__((cleanup(copy_release))) struct copy copy = {0};
	struct object_detail detail = {0};
	struct backend *be;
	{
		LOCK_SCOPE(&source->objects->lock);
		if (check_locked(c, from) < 0 || check_locked(c, to) < 0)
			return -ESTALE;
		if (!source->spool && from_at > 0 && from_at >= source->size_bytes)
			return 0;
		int r = may_copy_locked(source, target, from_at, to_at, len);
		if (r == 0)
			r = call_may_block(c, source->objects->remote);
		if (r < 0)
			return r;
		struct object_place place = object_file_place_locked(source);
		copy = (struct copy){strdup(place.bucket),    strdup(place.key),
				     strdup(source->version), strdup(target->bucket),
				     strdup(target->key),     strdup(target->spool->if_version)};
	}
	if (!copy.bucket || !copy.key || !copy.version || !copy.to_bucket || !copy.to_key || !copy.if_version)
		return -ENOMEM;
	int r = remote_backend(source->objects->remote, &be, &c->fault);
	if (r == 0)
		r = backend_object_copy(be, copy.bucket, copy.key, copy.version, copy.to_bucket, copy.to_key,
					copy.if_version, &detail, &c->fault);
	if (r == 0)
		r = copy_done(target, &detail);
	if (r == 0)
		renew_reader(to);
	int64_t n = detail.size_bytes;
	object_detail_release(&detail);
	return r < 0 ? r : n;
}

const struct node_kind kind_object_file = {
	.name = "object",
	.type = S_IFREG,
	.getattr = file_getattr,
	.setattr = file_setattr,
	.ino = file_ino,
	.drop = file_drop,
	.xattrs = object_xattrs,
	.open = file_open,
	.read = file_read,
	.lend = file_lend,
	.write = file_write,
	.flush = file_flush,
	.fsync = file_fsync,
	.release = file_release,
};
