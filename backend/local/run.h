/* SPDX-License-Identifier: MIT */
/* From a specification to what is executed: command line, environment and directory of a job's program. */
#pragma once

#include "backend.h"
#include "fault.h"

#include <jansson.h>
#include <stdint.h>

enum run_kind {
	RUN_COMMAND,    /* `command` */
	RUN_MODULE,     /* pkg.task */
	RUN_SCRIPT,     /* x.py */
	RUN_FUNCTION,   /* x.py:main, called with dataset_dir and model_output_dir */
	RUN_NOTEBOOK,   /* x.ipynb */
	RUN_SHELL,      /* x.sh */
	RUN_EXECUTABLE, /* any other file of the package */
};

/* What the program is given; all borrowed. */
struct run_input {
	const json_t *spec;
	const char *id;
	const char *run_dir;    /* the private copy of the package, absolute */
	const char *output_dir; /* absolute */
	const char *python;     /* of the machine, absolute or a name on PATH */
	const char *venv_dir;   /* NULL: none */
	const char *gpus;       /* "0,2"; "" for none; NULL: this machine has none, say nothing */
	const char *key;        /* TRAINFS_JOB_KEY: by which a killed supervisor's processes are known */
	const struct secret *secret;
	size_t n_secrets;
	char *const *environ; /* what is inherited */
};

struct run_plan {
	enum run_kind kind;
	char **argv; /* NULL-terminated; argv[0] is looked up on the plan's PATH */
	char **envp; /* NULL-terminated; wiped at release */
};
void run_plan_release(struct run_plan *plan); /* takes a zeroed one; leaves it zeroed */

/* -EBADMSG with the sentence for a missing entry or input. Reads nothing but the package and the inputs' existence. */
int run_plan_make(const struct run_input *input, struct run_plan *ret, struct fault *reterr);

/* What kind of program `spec` names; `has_file` tells whether a path is a file of the package. */
enum run_kind run_kind_of(const json_t *spec, bool (*has_file)(void *arg, const char *path), void *arg);

/* A specification's "timeout", "retries", ...: 0 when not given. */
int64_t run_timeout_ms(const json_t *spec);
int64_t run_retries(const json_t *spec);
const char *run_text(const json_t *spec, const char *field); /* borrowed, NULL if not a text */

/* `name` is replaced by `value` where it stands as $name (not followed by a letter, digit or _) or ${name}. */
struct run_variable {
	const char *name;
	const char *value;
};
/* New memory, NULL without. */
char *run_expand(const char *text, const struct run_variable *variable, size_t n);

/* The absolute path of a program, looked for on `path` (NULL: the caller's PATH); -ENOENT. */
int run_find_program(const char *name, const char *path, char **ret);

/* The value of a variable, borrowed from `envp`; NULL if it is not set. */
const char *run_environ(char *const *envp, const char *name);
