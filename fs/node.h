/* SPDX-License-Identifier: MIT */
/*
 * What a place in the tree is, and what it can be asked. The tree knows nothing of FUSE: a front end makes a
 * `struct call`, asks a node's kind, and gets 0, -errno, or one of the two CALL_ values.
 *
 * One .c a family of kinds (node_*.c), each exporting its const tables.
 */
#pragma once

#include "entry.h"
#include "fault.h"
#include "str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct handle;
struct node;
struct remote;
struct request;
struct serve;

/*
 * CALL_MUST_BLOCK: the answer needs a backend, and call->may_block was false. Nothing was changed: ask again from a
 * thread that may block. CALL_PARKED: the operation keeps call->request and finishes it later.
 */
enum { CALL_MUST_BLOCK = -4097, CALL_PARKED = -4098 };

/* One question to the tree: who asks, and what is to be said if it fails. */
struct call {
	struct serve *serve;
	struct request *request;   /* for those that park; NULL in questions of our own */
	const struct remote *pool; /* set with CALL_MUST_BLOCK: whose pool to ask again from */
	pid_t pid;                 /* 0: not known (another pid namespace) */
	uid_t uid;
	gid_t gid;
	bool may_block;
	struct fault fault;
};

/* Lifetimes of what the kernel may keep (specs of the kernel side: attributes and names). Seconds. */
enum ttl { TTL_NONE = 0, TTL_MISSING = 1, TTL_LISTED = 10, TTL_LIVE = 60, TTL_FIXED = 3600 };

struct attr {
	struct stat st;
	int attr_ttl, entry_ttl; /* seconds: of enum ttl, or another number */
};

/*
 * A child as its directory names it. `obj` is what the kind works on; it outlives the mount unless the kind has
 * `drop`, then the child owns it. obj == NULL in a listing: known by name only, ask lookup for the rest.
 */
struct child {
	const struct node_kind *kind;
	struct remote *remote;
	void *obj;
	uint32_t sub; /* which of the obj's files */
	mode_t type;  /* S_IF… */
};

/* `sub` of kinds whose identity is (obj, name): links and aliases. */
#define NODE_BY_NAME UINT32_MAX

struct loan;
struct listing; /* a directory's snapshot */

/* Adds an entry; `name` is copied. -ENOMEM. */
int listing_add(struct listing *listing, const char *name, const struct child *child);

enum open_mode {
	OPEN_CACHED, /* true size, page cache */
	OPEN_KEEP,   /* the same, and cached pages stay valid */
	OPEN_DIRECT, /* bypasses the page cache */
	OPEN_STREAM  /* direct, not seekable */
};

/* An open file or directory. Which fields mean something is up to the kind. */
struct handle {
	struct node *node; /* referenced */
	enum open_mode mode;
	int flags;  /* O_… of open */
	int fd;     /* -1 if none */
	char *text; /* a pinned rendering */
	size_t text_len;
	struct listing *listing; /* of a directory */
	void *state;             /* the kind's own; given back in release */
	_Atomic bool is_written; /* somebody wrote through it */
	_Atomic int n_refs;
	struct handle *prev, *next; /* of the mount's open ones: serve.c */
};

struct node_kind {
	const char *name; /* part of the inode number: never change one */
	mode_t type;      /* 0: child.type and getattr tell */

	/* -- every kind -- */
	int (*getattr)(struct call *c, struct node *n, struct attr *ret);
	/* Optional: identity beyond obj, sub and name; same(a, b) says that two obj are one. */
	uint64_t (*hash)(const void *obj);
	bool (*same)(const void *a, const void *b);
	uint64_t (*ino)(const struct node *n);
	void (*drop)(void *obj);
	/* Times, size, mode, owner. NULL: times are accepted and forgotten, the rest is -EPERM. */
	int (*setattr)(struct call *c, struct node *n, struct handle *h, const struct stat *st, int to_set,
		       struct attr *ret);

	/*
	 * -o xattr: adds the extended attributes to the object `ret`, NAME of user.NAME -> text. `name`: the one that is
	 * asked for, so that what costs more may be left out; NULL: all. May be NULL.
	 */
	int (*xattrs)(struct call *c, struct node *n, const char *name, json_t *ret);

	/* -- directories -- */
	int (*lookup)(struct call *c, struct node *dir, const char *name, struct child *ret);
	int (*list)(struct call *c, struct node *dir, struct listing *ret);
	enum ttl (*missing_ttl)(const struct node *dir); /* NULL: TTL_MISSING */
	/*
	 * Asked when it is opened: what may the kernel do with the entries that it reads? OPEN_DIRECT: nothing (also
	 * NULL); OPEN_CACHED: keep them, and drop older ones; OPEN_KEEP: keep them, the older ones are still right.
	 */
	enum open_mode (*entries_mode)(struct node *dir);
	int (*mkdir)(struct call *c, struct node *dir, const char *name, mode_t mode, struct child *ret);
	int (*rmdir)(struct call *c, struct node *dir, const char *name);
	int (*unlink)(struct call *c, struct node *dir, const char *name);
	int (*symlink)(struct call *c, struct node *dir, const char *name, const char *target,
		       struct child *ret);
	int (*mknod)(struct call *c, struct node *dir, const char *name, mode_t mode, dev_t rdev,
		     struct child *ret);
	int (*create)(struct call *c, struct node *dir, const char *name, mode_t mode, int flags,
		      struct child *ret, int *ret_fd);
	int (*link)(struct call *c, struct node *from, struct node *dir, const char *name, struct child *ret);
	/* Called on the kind of the directory that the entry leaves. flags: RENAME_NOREPLACE or RENAME_EXCHANGE. */
	int (*rename)(struct call *c, struct node *dir, const char *name, struct node *newdir,
		      const char *newname, unsigned flags);
	int (*fsyncdir)(struct call *c, struct node *dir);

	/* -- symlinks -- */
	int (*readlink)(struct call *c, struct node *n, char **ret);

	/* -- files -- */
	/* The whole content of a made-up file, in one piece: getattr's size comes from it, and open and read if they are
	   NULL. -EOPNOTSUPP: not this one, getattr has set its size. */
	int (*render)(struct call *c, struct node *n, struct str *ret);
	enum open_mode text_mode; /* of what is rendered, where there is no `open` */
	int (*open)(struct call *c, struct node *n, int flags, struct handle *h);
	ssize_t (*read)(struct call *c, struct handle *h, char *buf, size_t size, off_t offset);
	/*
	 * Optional, asked before read: memory that has the bytes already, for as long as *ret lives. *ret: what an earlier
	 * call, which has parked, was lent since; else NULL. -EOPNOTSUPP: read it is.
	 */
	ssize_t (*lend)(struct call *c, struct handle *h, size_t size, off_t offset, struct loan **ret);
	ssize_t (*write)(struct call *c, struct handle *h, const char *buf, size_t size, off_t offset);
	int (*flush)(struct call *c, struct handle *h);
	int (*fsync)(struct call *c, struct handle *h, bool data_only);
	void (*release)(struct handle *h);
	/* Ready events now; `kernel` (owned, may be NULL) is told when they change: see poll.h. */
	unsigned (*poll)(struct call *c, struct handle *h, void *kernel);
};

/*
 * A node: one place that the kernel knows. Reference-counted; the kernel's lookups are references too.
 */
struct node {
	/* immutable */
	uint64_t id;  /* never used twice in one mount; 1 is the root */
	uint64_t ino; /* st_ino: stable over mounts */
	const struct node_kind *kind;
	struct remote *remote;
	void *obj;
	uint32_t sub;

	/* protected by the table's lock */
	struct node *parent; /* referenced; NULL for the root */
	char *name;
	uint64_t n_lookups;
	uint64_t n_refs;
	struct node *next_id, *next_key;

	/* atomic */
	_Atomic int64_t reported_size; /* of a made-up file, as the kernel was last told; -1: never */
};

/* ---- for the kinds ---- */

/* Fills st for a made-up node: owner, ino, mode (type from the kind), times; size 0, or 4096 of a directory. */
void node_stat(const struct call *c, const struct node *n, mode_t permissions, int64_t mtime_ns,
	       struct stat *st);

/* A file: its size, and the blocks that du counts. */
void node_set_size(struct stat *st, int64_t size);

/* "local/jobs/x/state", below the mount point; caller frees. -ENOMEM. */
int node_path(struct node *n, const char *child, char **ret);

/* Names that are never there, asked for by file managers and the like: answered without a call. */
bool node_is_junk(const char *name);

/* Names that tools use in passing (editors, sed, rsync, ln); and all that begin with a dot. Never sent. */
bool node_is_passing(const char *name);
