/* SPDX-License-Identifier: MIT */
/* Objects as files, for the front end. */
#pragma once

#include "objects.h"

/*
 * A whole object over a new or emptied one, at the service: the bytes copied, 0 at the end of the source; -EXDEV: not
 * that, the bytes have to be read and written. Both handles are of kind_object_file.
 */
ssize_t object_copy_range(struct call *c, struct handle *from, off_t from_at, struct handle *to, off_t to_at,
			  size_t len);

/* ---- of directories: node_object_dir.c, node_object_rename.c ---- */

/* Of a new name: -EINVAL, -ENAMETOOLONG, with a sentence. */
int object_new_key(struct call *c, const struct object_dir *dir, const char *name, bool is_dir,
		   char ret[static OBJECT_KEY_MAX + 1]);
/* The file of that name, referenced. -EISDIR: a directory. */
int object_find_file(struct call *c, struct object_dir *dir, const char *name, struct object_file **ret);
/* The directory of that name in `dir`: 0, -ENOTEMPTY. Asks the service. */
int object_dir_is_empty(struct call *c, const struct object_dir *dir, const char *name);
/* Nothing of it may be at the service. */
bool object_is_local_locked(const struct object_file *file);
/* Nothing has its name any more, unless a directory has. */
void object_gone_locked(const struct object_file *file);
int object_dir_rename(struct call *c, struct node *n, const char *name, struct node *newdir,
		      const char *newname, unsigned flags);
