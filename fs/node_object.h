/* SPDX-License-Identifier: MIT */
/* Objects as files, for the front end. */
#pragma once

#include "node.h"

/*
 * A whole object over a new or emptied one, at the service: the bytes copied, 0 at the end of the source; -EXDEV: not
 * that, the bytes have to be read and written. Both handles are of kind_object_file.
 */
ssize_t object_copy_range(struct call *c, struct handle *from, off_t from_at, struct handle *to, off_t to_at,
			  size_t len);
