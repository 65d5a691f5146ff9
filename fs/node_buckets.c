/* SPDX-License-Identifier: MIT */
/* buckets/: a bucket that the backend keeps as a directory of this machine is served as it is; of others, objects.h. */
#include "backend.h"
#include "cleanup.h"
#include "disk.h"
#include "kinds.h"
#include "listing.h"
#include "objects.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

static int buckets_getattr(struct call *c, struct node *n, struct attr *ret)
{
	node_stat(c, n, 0755, c->serve->started_ns, &ret->st);
	ret->entry_ttl = TTL_FIXED;
	ret->attr_ttl = TTL_LISTED;
	return 0;
}

/* The backend, when this call may ask it. */
static int ask(struct call *c, struct remote *remote, struct backend **ret)
{
	int r = call_may_block(c, remote);
	return r < 0 ? r : remote_backend(remote, ret, &c->fault);
}

static int bucket_child(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	struct backend *be;
	struct disk_root properties = {.is_shared = true}; /* jobs write there, and other mounts */
	if (dir->remote->objects)
		return objects_bucket_find(c, dir->remote->objects, name, ret);
	int fd, r = ask(c, dir->remote, &be);
	if (r == 0)
		r = backend_bucket_dir(be, name, &fd, &c->fault);
	if (r == -ENOENT)
		c->fault.text[0] = '\0';
	return r < 0 ? r : disk_top(fd, &properties, dir->remote, ret);
}

static int buckets_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	return str_is_plain_name(name) ? bucket_child(c, dir, name, ret) : -ENOENT;
}

struct bucket_list {
	struct listing *listing;
	struct child child;
	struct objects *objects; /* NULL: directories */
};

static int list_bucket(void *arg, const char *name)
{
	const struct bucket_list *list = arg;
	if (list->objects && str_is_plain_name(name))
		objects_bucket_seen(list->objects, name, true);
	return listing_add(list->listing, name, &list->child);
}

/* One that the service has listed already is there once. */
static int list_old_bucket(void *arg, const char *name)
{
	const struct bucket_list *list = arg;
	for (size_t i = 0; i < list->listing->n_entries; i++)
		if (strcmp(listing_name(list->listing, i), name) == 0)
			return 0;
	return listing_add(list->listing, name, &list->child);
}

static int buckets_list(struct call *c, struct node *dir, struct listing *ret)
{
	struct backend *be;
	struct objects *objects = dir->remote->objects;
	struct bucket_list list = {
		ret,
		{.kind = objects ? &kind_object_dir : &kind_disk, .remote = dir->remote, .type = S_IFDIR},
		objects};
	int r = ask(c, dir->remote, &be);
	if (r < 0)
		return r;
	r = remote_answered(dir->remote, backend_bucket_list(be, list_bucket, &list, &c->fault), &c->fault);
	if (objects && fault_is_passing(r) && objects_buckets_seen(objects, list_old_bucket, &list) == 0 &&
	    ret->n_entries > 0)
		r = 0;
	if (r == 0)
		c->fault.text[0] = '\0';
	return r;
}

static int buckets_mkdir(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret)
{
	struct backend *be;
	int r = ask(c, dir->remote, &be);
	if (r == 0)
		r = backend_bucket_create(be, name, &c->fault);
	if (r == 0 && dir->remote->objects)
		objects_bucket_seen(dir->remote->objects, name, true);
	return r < 0 ? r : bucket_child(c, dir, name, ret);
}

static int buckets_rmdir(struct call *c, struct node *dir, const char *name)
{
	struct backend *be;
	int r = ask(c, dir->remote, &be);
	if (r == 0)
		r = backend_bucket_remove(be, name, &c->fault);
	if (r == 0 && dir->remote->objects)
		objects_bucket_seen(dir->remote->objects, name, false);
	return r;
}

const struct node_kind kind_buckets = {
	.name = "buckets",
	.type = S_IFDIR,
	.getattr = buckets_getattr,
	.lookup = buckets_lookup,
	.list = buckets_list,
	.mkdir = buckets_mkdir,
	.rmdir = buckets_rmdir,
};
