/* SPDX-License-Identifier: MIT */
/*
 * What the kernel is told: a queue and a thread of its own, since a notification may wait for locks that the kernel
 * holds until we have answered somebody else. Never waits itself; what cannot be queued expires by its lifetime.
 */
#pragma once

#include "inode.h"

struct fuse_session;
struct notify;

int notify_new(struct inode_table *table, struct notify **ret);
int notify_start(struct notify *notify, struct fuse_session *session);
void notify_stop(struct notify *notify); /* tells nothing more; runs the notify_then that are queued */
void notify_free(struct notify *notify); /* takes NULL */

/* The attributes (and so the size) of this node are old. By identity, as inode_find. */
void notify_attr(struct notify *notify, const struct node_kind *kind, const void *obj, uint32_t sub,
		 const char *name);

/*
 * Names in this directory came, went or stand for something else. Names that can do so have no lifetime, so that the
 * kernel asks for them anyway; what is told here is that the directory's attributes are old.
 *
 * FUSE_NOTIFY_INVAL_ENTRY is never used: it waits for the directory's lock in a sleep that no signal ends, while a rename
 * there, say, waits for us. A daemon killed at that moment would keep that thread, so its device would never be closed,
 * and nothing would ever answer.
 */
void notify_names(struct notify *notify, const struct node_kind *dir_kind, const void *dir_obj,
		  uint32_t dir_sub);

/* Wakes poll(2) on a handle that the kernel gave (a struct fuse_pollhandle), and destroys it. */
void notify_poll(struct notify *notify, void *poll_handle);

/* Runs fn(arg) on the notify thread, after everything queued before has been told. fn must be short. */
int notify_then(struct notify *notify, void (*fn)(void *arg), void *arg);

/* The attributes of a node are old, told at once: allowed from a handler, takes no lock in the kernel. */
void notify_attr_now(struct notify *notify, struct node *n);
