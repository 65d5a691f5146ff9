/* SPDX-License-Identifier: MIT */
/* The FUSE front end: what the kernel asks, put to the tree. */
#pragma once

#include "request.h"

extern const struct fuse_lowlevel_ops fuse_ops;
