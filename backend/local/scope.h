/* SPDX-License-Identifier: MIT */
/* Leaving the unit of systemd that this process was started in, when that unit's end would be ours. */
#pragma once

#include <stdbool.h>

/* Would systemd end a process of this cgroup (a line of /proc/self/cgroup, its path) with the daemon's service? */
bool scope_is_needed(const char *cgroup_path);

/* Moves this process into a transient scope of its own if that is needed and possible; tells nothing otherwise. */
void scope_enter(const char *job_id);
