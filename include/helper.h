/* SPDX-License-Identifier: MIT */
/*
 * Programs that trainfs starts of itself: small processes that outlive the daemon (a job's supervisor).
 *
 * They are this executable again, with argv[0] HELPER_ARGV0 and the helper's name as argv[1], so that nothing has to
 * be installed beside it. main() looks for that before anything else, and ends with helper_find(argv[1])->main().
 */
#pragma once

#define HELPER_ARGV0 "trainfs-helper"

struct helper {
	const char *name;
	/* Gets argv from the helper's name on: argv[0] is `name`. Returns the exit code. */
	int (*main)(int argc, char **argv);
};

/* The helpers that the backend types name. NULL if there is none of that name. */
const struct helper *helper_find(const char *name);

/*
 * The executable that helpers are started from: what was set, else $TRAINFS_HELPER, else /proc/self/exe. For programs
 * that are not trainfs (tests). Call before threads start; `path` is borrowed for good, NULL sets it back.
 */
void helper_set_program(const char *path);
const char *helper_program(void);
