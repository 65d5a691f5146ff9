/* SPDX-License-Identifier: MIT */
#include "base/check.h"

#include "cleanup.h"
#include "str.h"

void check_tell(check_sink sink, void *arg, int r, const struct fault *fault, const char *subject,
		const char *good, const char *bad)
{
	cleanup_free char *line = NULL;
	if (str_format(&line, "%s: %s%s%s", subject, r < 0 ? bad : good, r < 0 ? ": " : "",
		       r < 0 ? fault->text : "") == 0)
		sink(arg, r == 0, line);
}

int check_count_name(void *arg, const char *name)
{
	*(unsigned *)arg += 1;
	return 0;
}

int check_pass_object(void *arg, const struct object_entry *object)
{
	return 0;
}
