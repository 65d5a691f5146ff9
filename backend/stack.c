/* SPDX-License-Identifier: MIT */
/* Every backend type built in, by name; and the helpers that they name. */
#include "backend.h"
#include "helper.h"
#include "types.h"

#include <string.h>

static const struct backend_type *const types[] = {&aws_type, &google_type, &local_type, &mem_type};

const struct backend_type *backend_type_find(const char *name)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i]->name, name) == 0)
			return types[i];
	}
	return NULL;
}

const struct helper *helper_find(const char *name)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (types[i]->helper && strcmp(types[i]->helper->name, name) == 0)
			return types[i]->helper;
	}
	return NULL;
}
