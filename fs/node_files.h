/* SPDX-License-Identifier: MIT */
/* Helpers of the made-up files: pinned renderings, and the one line that is written to a ctl. */
#pragma once

#include "node.h"

/*
 * Renders the node into the handle: what is read from it is one moment's text. A text that can get longer meanwhile
 * must be OPEN_DIRECT: a cached page is filled with zeros up to the newest size that the kernel has heard of.
 */
int handle_render(struct call *c, struct handle *h);
ssize_t handle_read_text(const struct handle *h, char *buf, size_t size, off_t offset);

/* What was written to a ctl, as a line without its end. -EINVAL: more than a line, or too long. */
int ctl_line(struct call *c, const char *buf, size_t size, char *ret, size_t ret_size);

/* README.md and .trainfs, which stand at the top, also when the top is a remote. */
int root_lookup(struct call *c, const char *name, struct child *ret);
int root_list(struct call *c, struct listing *ret);
