/* SPDX-License-Identifier: MIT */
/* Every backend type built in, by name. */
#include "backend.h"
#include "types.h"

#include <string.h>

static const struct backend_type *const types[] = {&local_type, &mem_type};

const struct backend_type *backend_type_find(const char *name)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i]->name, name) == 0)
			return types[i];
	}
	return NULL;
}
