/* SPDX-License-Identifier: MIT */
/* The types that stack.c lists, one a folder. */
#pragma once

#include "backend.h"

extern const struct backend_type aws_type;    /* aws/ */
extern const struct backend_type google_type; /* google/ */
extern const struct backend_type local_type;  /* local/ */
extern const struct backend_type mem_type;    /* mem/ */
