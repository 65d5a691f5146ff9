/* SPDX-License-Identifier: MIT */
/* The configuration: ~/.config/trainfs/config.yaml and what stands in for it (DESIGN 6). */
#pragma once

#include "fault.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct remote_conf {
	char *name; /* [A-Za-z0-9][A-Za-z0-9._-]{0,127}; its directory in the mount */
	char *type;
	json_t *options;           /* object: what was given, less the fields below; never NULL */
	char *state_dir;           /* absolute; not created yet */
	int64_t settle_ms;         /* default 1000 */
	int64_t metadata_ms;       /* of buckets: how long what was seen holds; 1000 or more, default 10000 */
	int64_t max_package_bytes; /* 0: no limit (the default of type local); else default 500 MB */
	bool confirm;              /* nothing settles here */
};

struct config {
	char *path; /* the file read, or NULL when there was none */
	struct remote_conf
		*remote; /* in the file's order; `local` is added at the end when it is not named */
	size_t n_remotes;
	json_t *cache; /* object: dir (absolute), size, memory (bytes); defaults filled in */
};

void config_release(struct config *config); /* takes a zeroed one; leaves it zeroed */

/*
 * Reads `path`, or with NULL $TRAINFS_CONFIG, $XDG_CONFIG_HOME/trainfs/config.yaml (~/.config); a default file that is
 * not there is no error. -EINVAL with "FILE:LINE:COLUMN: …" for what is wrong in it (unknown field, wrong type);
 * -EFBIG over 1 MiB.
 */
int config_load(const char *path, struct config *ret, struct fault *reterr);

/* The effective configuration as YAML, defaults written out, values of fields that can hold a secret masked. */
int config_dump(const struct config *config, char **ret);

/* Makes state_dir (0700, parents too); -EINVAL, naming state_dir, when it is on a network file system. */
int config_make_state_dir(const struct remote_conf *remote, struct fault *reterr);

/* What submission.c needs of the environment; getenv stands in config.c alone. */

/* The value of an environment variable of this process, borrowed, or NULL. */
const char *config_environment(const char *name);

/* $XDG_CONFIG_HOME/trainfs or ~/.config/trainfs, absolute; -ENOENT without a home. */
int config_dir(char **ret);
