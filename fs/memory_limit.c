/* SPDX-License-Identifier: MIT */
/* See memory_limit.h. In a container the group's path may be one of outside: what is not there has no limit. */
#include "memory_limit.h"

#include "cleanup.h"
#include "str.h"

#include <string.h>

/* Of one group; INT64_MAX also when there is no such file, or "max" in it. */
static int64_t limit_of(const char *root, const char *group, const char *name)
{
	cleanup_free char *path = NULL;
	cleanup_fclose FILE *file = NULL;
	char line[32];
	int64_t limit;
	if (str_format(&path, "%s%s/%s", root, group, name) < 0 || !(file = fopen(path, "re")) ||
	    !fgets(line, sizeof(line), file))
		return INT64_MAX;
	line[strcspn(line, "\n")] = '\0';
	return str_to_int(line, 0, INT64_MAX, &limit) < 0 ? INT64_MAX : limit;
}

static int64_t least_up(const char *root, char *group, const char *name)
{
	int64_t least = INT64_MAX;
	for (char *end = group + strlen(group);; end = strrchr(group, '/')) {
		if (end)
			*end = '\0';
		int64_t limit = limit_of(root, group, name);
		least = limit < least ? limit : least;
		if (!*group)
			return least;
	}
}

/* "0::/user.slice" or "4:memory:/docker/1": its path, from the slash on; NULL: another controller's. */
static char *group_of(char *line, bool *ret_is_second)
{
	char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
	line[strcspn(line, "\n")] = '\0';
	if (!path || path[1] != '/')
		return NULL;
	*path++ = '\0';
	*ret_is_second = controllers[1] == '\0';
	if (!*ret_is_second && strcmp(controllers + 1, "memory") != 0)
		return NULL;
	return path[1] ? path : path + 1; /* the root's is "" */
}

int64_t memory_limit(const char *self, const char *root)
{
	cleanup_fclose FILE *file = fopen(self, "re");
	cleanup_free char *line = NULL;
	size_t room = 0;
	int64_t least = INT64_MAX;
	while (file && getline(&line, &room, file) > 0) {
		bool is_second;
		cleanup_free char *first_root = NULL;
		char *group = group_of(line, &is_second);
		if (!group || str_format(&first_root, "%s/memory", root) < 0)
			continue;
		int64_t limit = is_second ? least_up(root, group, "memory.max")
					  : least_up(first_root, group, "memory.limit_in_bytes");
		least = limit < least ? limit : least;
	}
	return least;
}
