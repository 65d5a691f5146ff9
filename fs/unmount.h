/* SPDX-License-Identifier: MIT */
/* `trainfs unmount`: takes a mount away, and waits for its daemon. */
#pragma once

struct options;

/* Returns the exit code: 0, 1 (not permitted) or 32 (not mounted, in use). */
int unmount_command(const struct options *options);
