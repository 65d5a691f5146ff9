/* SPDX-License-Identifier: MIT */
/* Dying on demand, for tests only. */
#include "crash.h"

#ifdef TRAINFS_CRASH_POINTS
#include <signal.h>
#include <stdlib.h>
#include <string.h>

void crash_point(const char *name)
{
	const char *wanted = getenv("TRAINFS_CRASH_POINT"); /* test builds only */
	if (wanted && strcmp(wanted, name) == 0)
		raise(SIGKILL);
}
#endif
