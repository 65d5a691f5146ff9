/* SPDX-License-Identifier: MIT */
/* What every parser of a service's answers owes, whatever the bytes. */
#pragma once

#include "backend.h"
#include "str.h"

#include <stdlib.h>
#include <string.h>

static const char prefix[] = "d/";

/* Each row lies below the prefix, and directly there unless all are asked for. */
static inline int take_object(void *arg, const struct object_entry *object)
{
	const bool *is_deep = arg;
	const char *below = object->key + strlen(prefix);
	const char *slash = strchr(below, '/');
	if (!str_has_prefix(object->key, prefix) || strlen(object->key) > OBJECT_KEY_MAX ||
	    strlen(object->version) > OBJECT_VERSION_MAX || object->size_bytes < 0)
		abort();
	if (object->is_prefix ? !slash || slash[1] : (slash && !*is_deep) || !*object->version)
		abort();
	return 0;
}

/* A failure has its sentence, and nothing else has. */
static inline void check(int r, const struct fault *fault)
{
	bool is_told = r == 0 ? fault->err == 0 : fault->err == -r && *fault->text;
	if (r > 0 || !is_told)
		abort();
}
