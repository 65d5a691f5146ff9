/* SPDX-License-Identifier: MIT */
/* The command line, the -o options of mount(8), and the few facts that come from the environment. */
#pragma once

#include "fault.h"
#include "str.h"

#include <stdbool.h>

enum command {
	COMMAND_MOUNT,
	COMMAND_UNMOUNT,
	COMMAND_CHECK,
	COMMAND_CONFIG,
	COMMAND_VERSION,
	COMMAND_HELP,
	COMMAND_NOTHING, /* mount(8)'s -f: all but the mounting itself */
};

/* Exit codes of mount(8). */
enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_USAGE = 1, /* or not permitted */
	EXIT_CODE_SYSTEM = 2,
	EXIT_CODE_INTERNAL = 4,
	EXIT_CODE_INTERRUPT = 8,
	EXIT_CODE_MTAB = 16,
	EXIT_CODE_FAILED = 32,
};

struct options {
	enum command command;
	char *remote;      /* of mount and check: its name without the colon; NULL: all of them */
	char *dir;         /* of mount and unmount: as given */
	char *topic;       /* of help: a command's name, or NULL */
	char *config_path; /* NULL: the usual place */
	char *user;        /* -o setuid=: who shall own the mount, or NULL */
	bool is_foreground;
	bool is_debug;
	bool is_lazy;
	bool is_read_only;
	bool has_xattr;
	struct str fuse; /* "fsname=…,subtype=trainfs,…": what libfuse is given with -o */
};

void options_release(struct options *options); /* takes a zeroed one; leaves it zeroed */

/*
 * Reads argv: a command with its arguments, or the form that mount(8) calls a helper with (`trainfs REMOTE: DIR -o …`,
 * `mount.trainfs SOURCE DIR -o …`). -EINVAL with one sentence for wrong usage.
 */
int options_read(int argc, char **argv, struct options *ret, struct fault *reterr);

/* The text of `trainfs --help`, or of one command; NULL for an unknown topic. */
const char *options_help(const char *topic);

/*
 * mount(8) may start us with hardly any environment: PATH and HOME (from the passwd entry) are filled in. With
 * `user`, becomes that user first. To be called before threads start.
 */
int options_settle_environment(const char *user, struct fault *reterr);

/* $XDG_STATE_HOME/trainfs, or ~/.local/state/trainfs. Made by whoever needs it. */
int options_state_dir(char **ret);

/* The absolute path of a program on PATH; -ENOENT. */
int options_find_program(const char *name, char **ret);

/* The value of $NOTIFY_SOCKET (systemd), taken out of the environment so that children do not see it; *ret may be NULL. */
int options_take_notify_socket(char **ret);

/* What $container says (systemd-nspawn, podman), or NULL. Borrowed. */
const char *options_container(void);
