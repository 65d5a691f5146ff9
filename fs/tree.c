/* SPDX-License-Identifier: MIT */
/* What all kinds of nodes share: stats of made-up files, path texts, snapshots, and names that mean something. */
#include "node.h"

#include "cleanup.h"
#include "ignore.h"
#include "inode.h"
#include "listing.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

enum { BLOCK_SIZE = 4096, SECTOR = 512 };

void node_stat(const struct call *c, const struct node *n, mode_t permissions, int64_t mtime_ns,
	       struct stat *st)
{
	struct timespec t = {.tv_sec = mtime_ns / 1000000000, .tv_nsec = mtime_ns % 1000000000};
	mode_t type = n->kind->type;
	*st = (struct stat){
		.st_ino = n->ino,
		.st_mode = type | permissions,
		.st_nlink = type == S_IFDIR ? 2 : 1,
		.st_uid = c->serve->uid,
		.st_gid = c->serve->gid,
		.st_size = type == S_IFDIR ? BLOCK_SIZE : 0,
		.st_blocks = type == S_IFDIR ? BLOCK_SIZE / SECTOR : 0,
		.st_blksize = BLOCK_SIZE,
		.st_atim = t,
		.st_mtim = t,
		.st_ctim = t,
	};
}

void node_set_size(struct stat *st, int64_t size)
{
	st->st_size = size;
	st->st_blocks = (size + SECTOR - 1) / SECTOR;
}

int node_path(struct node *n, const char *child, char **ret)
{
	struct inode_table *table = n->remote ? n->remote->serve->table : ((struct serve *)n->obj)->table;
	cleanup_free char *path = child ? strdup(child) : NULL;
	struct node *at = inode_ref(table, n), *parent = NULL;
	cleanup_free char *name = NULL;
	int r = child && !path ? -ENOMEM : 0;
	while (r == 0 && inode_whereabouts(table, at, &parent, &name) == 0) {
		char *longer = NULL;
		r = path ? str_format(&longer, "%s/%s", name, path) : str_format(&longer, "%s", name);
		free(path);
		path = longer;
		free(STEAL(name));
		inode_unref(table, at);
		at = parent;
	}
	inode_unref(table, at);
	if (r == 0 && !path)
		r = str_format(&path, ".");
	if (r == 0)
		*ret = STEAL(path);
	return r;
}

/* ---- snapshots ---- */

void listing_free(struct listing *listing)
{
	if (!listing)
		return;
	free(listing->entry);
	free(listing->names);
	free(listing);
}

static int grow(void **array, size_t *capacity, size_t needed, size_t item)
{
	if (needed <= *capacity)
		return 0;
	size_t n = *capacity ? *capacity * 2 : 64;
	while (n < needed)
		n *= 2;
	void *bigger = realloc(*array, n * item);
	if (!bigger)
		return -ENOMEM;
	*array = bigger;
	*capacity = n;
	return 0;
}

int listing_add(struct listing *listing, const char *name, const struct child *child)
{
	size_t len = strlen(name) + 1;
	int r = grow((void **)&listing->entry, &listing->capacity, listing->n_entries + 1,
		     sizeof(*listing->entry));
	if (r == 0)
		r = grow((void **)&listing->names, &listing->names_capacity, listing->names_len + len, 1);
	if (r < 0)
		return r;
	memcpy(listing->names + listing->names_len, name, len);
	listing->entry[listing->n_entries++] =
		(struct listing_entry){.child = *child, .name = listing->names_len};
	listing->names_len += len;
	return 0;
}

/* ---- names ---- */

bool node_is_junk(const char *name)
{
	static const char *const junk[] = {
		".DS_Store",   ".git",      ".hidden",    ".xdg-volume-info",
		".directory",  ".svn",      ".hg",        "HEAD",
		"autorun.inf", ".Trashes",  ".fseventsd", ".Spotlight-V100",
		"desktop.ini", "Thumbs.db",
	};
	for (size_t i = 0; i < sizeof(junk) / sizeof(junk[0]); i++)
		if (strcmp(name, junk[i]) == 0)
			return true;
	return str_has_prefix(name, ".Trash");
}

bool node_is_passing(const char *name)
{
	return name[0] == '.' || str_has_suffix(name, "~") || ignore_is_made_up(name, "Cu") ||
	       ignore_is_passing_name(name);
}
