/* SPDX-License-Identifier: MIT */
/* Which helper programs there are, and what they are started from. */
#include "helper.h"

#include "local/supervise.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct helper helper_table[] = {
	{"supervise", local_supervise_main},
};

static const char *helper_path;

const struct helper *helper_find(const char *name)
{
	for (size_t i = 0; i < sizeof(helper_table) / sizeof(*helper_table); i++)
		if (!strcmp(helper_table[i].name, name))
			return &helper_table[i];
	return NULL;
}

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
