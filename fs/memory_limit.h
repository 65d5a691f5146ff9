/* SPDX-License-Identifier: MIT */
/* How much memory the cgroup that we are in may use. */
#pragma once

#include <stdint.h>

/*
 * Bytes; INT64_MAX: as much as there is. The least of the limits of the group and of those above it, in version 2 of
 * cgroups or in version 1. `self`: /proc/self/cgroup, `root`: where cgroups are mounted (/sys/fs/cgroup).
 */
int64_t memory_limit(const char *self, const char *root);
