/* SPDX-License-Identifier: MIT */
/* `trainfs mount`: from the mount point to the end of the daemon. */
#pragma once

struct config;
struct options;

/* Mounts and serves. Returns the exit code, as mount(8) has them, in the parent and in the daemon alike. */
int mount_command(const struct options *options, const struct config *config);
