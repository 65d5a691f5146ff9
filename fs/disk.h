/* SPDX-License-Identifier: MIT */
/*
 * Directories of this machine shown in the tree as they are: drafts and local buckets read-write, packages and
 * artifacts read-only. Every node holds an O_PATH descriptor, so renames and hard links need no bookkeeping; but files
 * of read-only directories, whose names never change, are found by name: there may be more of them than descriptors.
 */
#pragma once

#include "node.h"

struct draft;

/* One such directory. Kept while a node below it lives. */
struct disk_root {
	/* immutable */
	_Atomic int n_refs;
	struct draft *draft; /* whose rules hold for changes, or NULL */
	bool is_read_only;
	bool is_lasting; /* its name stands for the same directory while it is there: it may be kept for a while */
	bool is_shared; /* others change it too: nothing is cached for long */
	int refusal_err; /* what a change of a read-only one gets: EPERM, or EBUSY while a draft is being sent */
	const char *refusal; /* and its sentence; static text */
};

struct disk_file {
	/* immutable */
	int fd; /* O_PATH; -1: by its name in the parent's */
	dev_t dev;
	ino_t ino;
	mode_t type;
	bool is_top;            /* the directory itself */
	bool is_verdict;        /* a draft's .error: replaced by us, so the kernel may not keep it */
	struct disk_root *root; /* referenced */
};

/* A child for the directory `fd` (taken over, also on failure) as the top of a new root with these properties. */
int disk_top(int fd, const struct disk_root *properties, struct remote *remote, struct child *ret);

/* The file behind a node of kind_disk. */
struct disk_file *disk_file_of(const struct node *n);

/*
 * Moves an entry between two directories of this machine, for the kinds that are the parent of a top. Both descriptors
 * are directories.
 */
int disk_rename(int dir, const char *name, int newdir, const char *newname, unsigned flags);
