/* SPDX-License-Identifier: MIT */
/* The table of nodes: number <-> node, and the kernel's lookup counts. All calls are thread-safe. */
#pragma once

#include "node.h"

struct inode_table;

int inode_table_new(struct inode_table **ret);
void inode_table_free(struct inode_table *table); /* frees every node that is left; takes NULL */

/* The root is made once, number 1, with one reference of the table. */
int inode_root(struct inode_table *table, const struct child *child, struct node **ret);

/*
 * The node of `child` under (parent, name), known or new. Takes ownership of child->obj (see `drop`), also on
 * failure. The result is referenced for the caller, as a kernel lookup when `as_lookup`.
 */
int inode_intern(struct inode_table *table, struct node *parent, const char *name, const struct child *child,
		 bool as_lookup, struct node **ret);

/* By number, referenced; NULL if there is none. */
struct node *inode_get(struct inode_table *table, uint64_t id);

/* By identity, referenced; NULL if the kernel does not know it. `name` NULL: kinds whose identity is obj and sub. */
struct node *inode_find(struct inode_table *table, const struct node_kind *kind, const void *obj,
			uint32_t sub, const char *name);

struct node *inode_ref(struct inode_table *table, struct node *n);
void inode_unref(struct inode_table *table, struct node *n); /* takes NULL */
void inode_forget(struct inode_table *table, uint64_t id, uint64_t n_lookups);
/* The kernel is hearing of it for the first time: what it is told of it meanwhile is lost. */
bool inode_is_new(struct inode_table *table, const struct node *n);

/* The entry moved: path texts and notifications follow. */
void inode_moved(struct inode_table *table, struct node *n, struct node *parent, const char *name);

/* The parent, referenced, and the name (caller frees) of a node; -ENOENT for the root. */
int inode_whereabouts(struct inode_table *table, struct node *n, struct node **ret_parent, char **ret_name);

size_t inode_count(struct inode_table *table);
