/* SPDX-License-Identifier: MIT */
/* What helper programs are started from. */
#include "helper.h"

#include <stdlib.h>

static const char *helper_path;

void helper_set_program(const char *path)
{
	helper_path = path;
}

const char *helper_program(void)
{
	if (helper_path)
		return helper_path;
	const char *path = secure_getenv("TRAINFS_HELPER");
	return path && *path ? path : "/proc/self/exe";
}
