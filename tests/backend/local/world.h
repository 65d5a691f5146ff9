/* SPDX-License-Identifier: MIT */
/* A remote of its own for one test: state in a fresh directory, packages made of texts, waits with deadlines. */
#pragma once

#include "backend.h"
#include "cleanup.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <string.h>

enum { WORLD_DEADLINE_MS = 60000 };

struct world {
	char *dir; /* removed at the end */
	char *state_dir;
	struct backend *be;
	char cursor[256]; /* of world_wait_change */
};

/* `options` is JSON, or NULL for {"slots": 1, "gpus": 0}. */
void world_open(struct world *world, const char *options);
/* Again, as another process or the next mount would. */
struct backend *world_open_backend(const struct world *world, const char *options);
void world_reopen(struct world *world, const char *options);
void world_close(struct world *world);

/* Writes a file of a package that is to be submitted: WORLD/packages/PACKAGE/PATH. */
void world_write(const struct world *world, const char *package, const char *path, const char *text);

/* Submits it; `spec` is JSON with single quotes for double ones. Gives the result of submit. */
int world_submit(struct world *world, const char *package, const char *id, const char *spec,
		 struct fault *reterr);
int world_check(struct world *world, const char *package, const char *id, const char *spec,
		struct fault *reterr);
int world_submit_secret(struct world *world, const char *id, const char *spec, const char *name,
			const char *value);

/* A shell command as a job of model m: must be accepted. */
void world_run_shell(struct world *world, const char *id, const char *command, const char *more_fields);

enum job_state world_state(struct world *world, const char *id); /* JOB_UNKNOWN: not there */
int world_exit(struct world *world, const char *id);
/* Until the job is in that state, or in any final one; fails the test at the deadline. */
enum job_state world_wait_state(struct world *world, const char *id, enum job_state state);
enum job_state world_wait_end(struct world *world, const char *id);
/* Until the log has it. */
void world_wait_log(struct world *world, const char *id, const char *text);

/* All new memory. */
char *world_log(struct world *world, const char *id);
char *world_why(struct world *world, const char *id);
char *world_read(const struct world *world, const char *path_below_state);
char *world_path(const struct world *world, const char *path_below_state);

/* `got` is new memory. */
#define assert_text(got, want)                   \
	do {                                     \
		cleanup_free char *got_ = (got); \
		cr_assert_str_eq(got_, (want));  \
	} while (0)
#define assert_has(text, part)   cr_assert(strstr((text), (part)), "no \"%s\" in: %s", (part), (text))
#define assert_lacks(text, part) cr_assert_not(strstr((text), (part)), "\"%s\" in: %s", (part), (text))
